//! wrk, which asks for a path again and again with less work than a client of ours.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use berth_e2e::workspace;

use crate::server::Server;

pub(crate) struct Run {
    pub(crate) requests: f64,
    pub(crate) bytes: f64,
    pub(crate) seconds: f64,
    /// In milliseconds.
    pub(crate) p99: f64,
}

/// Asks for as long as `length`. `script` is one of those beside this file: it says what is asked for, and tells what came of it.
pub(crate) fn wrk(server: &Server, script: &str, connections: usize, length: Duration, path: &str) -> Result<Run> {
    let url = format!("{}://{}{path}", server.scheme(), server.address());
    let begun = Instant::now();
    let output = Command::new("wrk")
        .args(["-t1", "--latency", "--timeout", "30s"])
        .args([format!("-d{}s", length.as_secs()), format!("-c{connections}")])
        .args(["-s", script, &url])
        .current_dir(workspace().join("e2e/src/bin/benchmark"))
        .output()
        .context("wrk is a Debian package")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().find(|line| line.starts_with("MEASURED ")).context("wrk reported nothing")?;
    let numbers: Vec<f64> = line.split_whitespace().skip(1).map(str::parse).collect::<Result<_, _>>()?;
    let [requests, bytes, microseconds, errors, p99] = numbers[..] else { anyhow::bail!("wrk reported {line}") };
    ensure!(requests > 0.0, "no request was answered at {url}");
    ensure!(errors == 0.0, "{errors} of {requests} requests failed at {url}");
    ensure!(begun.elapsed() * 5 > length * 4, "wrk ended early");
    Ok(Run { requests, bytes, seconds: microseconds / 1e6, p99: p99 / 1e3 })
}
