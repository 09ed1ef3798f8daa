//! What is measured: the numbers of `docs/performance.md`.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use berth_oci::{Algorithm, Digest};

use crate::server::{Disk, Kind, Server};
use crate::{head, push};

pub(crate) struct Workload {
    /// As in the table.
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    /// Whether a larger number is better.
    pub(crate) more_is_better: bool,
    /// What the processor's time is divided by.
    pub(crate) cpu_unit: &'static str,
    pub(crate) disk: Disk,
    kinds: &'static [Kind],
    pub(crate) prepare: fn(&Server) -> Result<()>,
    pub(crate) measure: fn(&Server) -> Result<Measured>,
}

impl Workload {
    pub(crate) fn runs_on(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }
}

/// One measurement.
pub(crate) struct Measured {
    pub(crate) value: f64,
    /// How much work was done, in the unit that the processor's time is told for.
    pub(crate) units: f64,
}

const ALL: &[Kind] = &[Kind::Berth, Kind::Distribution, Kind::Nginx];
const REGISTRIES: &[Kind] = &[Kind::Berth, Kind::Distribution];
const LARGE: usize = 100 << 20;
const SMALL: usize = 10 << 10;
const TAGS: usize = 10_000;

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "B1 GET 100 MiB c=8",
        unit: "MB/s",
        more_is_better: true,
        cpu_unit: "s/GB",
        disk: Disk::Memory,
        kinds: ALL,
        prepare: |server| offer(server, LARGE),
        measure: |server| {
            let run = wrk(server, 8, &path(server, LARGE))?;
            Ok(Measured { value: run.bytes / run.seconds / 1e6, units: run.bytes / 1e9 })
        },
    },
    Workload {
        name: "B3 GET 10 KiB c=64",
        unit: "req/s",
        more_is_better: true,
        cpu_unit: "s/request",
        disk: Disk::Memory,
        kinds: ALL,
        prepare: |server| offer(server, SMALL),
        measure: |server| {
            let run = wrk(server, 64, &path(server, SMALL))?;
            Ok(Measured { value: run.requests / run.seconds, units: run.requests })
        },
    },
    Workload {
        name: "B5 HEAD by tag c=64, 10^4 tags",
        unit: "req/s",
        more_is_better: true,
        cpu_unit: "s/request",
        disk: Disk::Memory,
        kinds: REGISTRIES,
        prepare: |server| push::tags(server.address(), TAGS),
        measure: |server| {
            let run = head::tags(server.address(), TAGS, 64, Duration::from_secs(5))?;
            let answers = run.answers as f64;
            Ok(Measured { value: answers / run.elapsed.as_secs_f64(), units: answers })
        },
    },
    Workload {
        name: "B7 push 100 MiB in one request c=2, memory",
        unit: "MB/s",
        more_is_better: true,
        cpu_unit: "s/GB",
        disk: Disk::Memory,
        kinds: REGISTRIES,
        prepare: |_| Ok(()),
        measure: |server| {
            let run = push::blobs(server.address(), LARGE, 2, 6)?;
            let gigabytes = (run.pushes * LARGE) as f64 / 1e9;
            Ok(Measured { value: gigabytes * 1000.0 / run.elapsed.as_secs_f64(), units: gigabytes })
        },
    },
    Workload {
        name: "B10 push 1 MiB durable c=1",
        unit: "ms (p50)",
        more_is_better: false,
        cpu_unit: "s/push",
        disk: Disk::Durable,
        kinds: REGISTRIES,
        prepare: |_| Ok(()),
        measure: |server| {
            let run = push::blobs(server.address(), 1 << 20, 1, 100)?;
            Ok(Measured { value: run.median.as_secs_f64() * 1000.0, units: 100.0 })
        },
    },
    Workload {
        name: "B10 push 1 MiB durable c=16",
        unit: "pushes/s",
        more_is_better: true,
        cpu_unit: "s/push",
        disk: Disk::Durable,
        kinds: REGISTRIES,
        prepare: |_| Ok(()),
        measure: |server| {
            let run = push::blobs(server.address(), 1 << 20, 16, 320)?;
            Ok(Measured { value: 320.0 / run.elapsed.as_secs_f64(), units: 320.0 })
        },
    },
];

/// Bytes that no file system or registry can make smaller, the same for every server.
fn bytes(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(&mut next).take(size.div_ceil(8)).flatten().collect();
    bytes.truncate(size);
    bytes
}

/// Puts a file of this size where the server serves it.
fn offer(server: &Server, size: usize) -> Result<()> {
    if server.kind() == Kind::Nginx {
        return Ok(fs::write(server.files().join(size.to_string()), bytes(size))?);
    }
    push::blob(server.address(), bytes(size))
}

fn path(server: &Server, size: usize) -> String {
    if server.kind() == Kind::Nginx {
        return format!("/{size}");
    }
    format!("/v2/bench/blobs/{}", Digest::of(Algorithm::Sha256, &bytes(size)))
}

struct Run {
    requests: f64,
    bytes: f64,
    seconds: f64,
}

/// Asks for a path again and again for five seconds.
fn wrk(server: &Server, connections: usize, path: &str) -> Result<Run> {
    let url = format!("http://{}{path}", server.address());
    let begun = Instant::now();
    let output = Command::new("wrk")
        .args(["-t1", "-d5s", "--timeout", "30s", "-s", "e2e/src/bin/benchmark/report.lua", "-c"])
        .arg(connections.to_string())
        .arg(&url)
        .output()
        .context("wrk is a Debian package")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().find(|line| line.starts_with("MEASURED ")).context("wrk reported nothing")?;
    let numbers: Vec<f64> = line.split_whitespace().skip(1).map(str::parse).collect::<Result<_, _>>()?;
    let [requests, bytes, microseconds, errors] = numbers[..] else { anyhow::bail!("wrk reported {line}") };
    ensure!(requests > 0.0, "no request was answered at {url}");
    ensure!(errors == 0.0, "{errors} of {requests} requests failed at {url}");
    ensure!(begun.elapsed() > Duration::from_secs(4), "wrk ended early");
    Ok(Run { requests, bytes, seconds: microseconds / 1e6 })
}
