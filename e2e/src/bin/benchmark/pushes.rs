//! Pushes: B7 to B10, and B12 on a directory.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use berth_e2e::image::{Blob, Manifest};

use crate::client::{Client, Way};
use crate::configuration::on_core_0;
use crate::crowd::Crowd;
use crate::place::Place;
use crate::reads::known;
use crate::server::{Kind, REGISTRIES, Server};
use crate::workload::{Effort, Measured, Row, Setting, Workload};

/// What takes a file's bytes and hashes nothing is the limit.
const AND_DD: &[Kind] = &[Kind::Berth, Kind::Distribution, Kind::Dd];
const LARGE: usize = 100 << 20;
const CHUNK: usize = 16 << 20;

pub(crate) fn settings(effort: Effort) -> Vec<Setting> {
    // Each for itself: memory would not hold what is pushed for both.
    let whole = large("B7 push 100 MiB in one request c=2, memory", Way::Whole, 2, effort);
    let chunks = large("B8 push 100 MiB in chunks of 16 MiB c=2, memory", Way::Chunks(CHUNK), 2, effort);
    let like_dd = large("B9 push 100 MiB durable c=1", Way::Whole, 1, effort);
    let durable = vec![one_after_the_other(effort), several(effort), continuous_integration(effort)];
    vec![
        Setting::on(Place::Memory, AND_DD, vec![whole]),
        Setting::on(Place::Memory, AND_DD, vec![chunks]),
        Setting::on(Place::Durable, AND_DD, vec![like_dd]),
        Setting::on(Place::Durable, REGISTRIES, durable),
    ]
}

fn large(name: &str, way: Way, clients: usize, effort: Effort) -> Workload {
    Workload::new(vec![Row::more(name, "MB/s").per("s/GB")], move |server| {
        let count = effort.pick(6, 2);
        let gigabytes = (count * LARGE) as f64 / 1e9;
        if server.kind() == Kind::Dd {
            let took = dd(&server.files(), count)?;
            return Ok(Measured::of(gigabytes * 1000.0 / took.as_secs_f64(), f64::NAN));
        }
        let blobs = blobs(LARGE, count);
        let push = async |client: &mut Client, turn: usize| client.push_blob(&blobs[turn], way).await;
        let outcome = Crowd::of(clients).times(server.address(), count, &push)?;
        Ok(Measured::of(outcome.per_second() * LARGE as f64 / 1e6, gigabytes))
    })
}

/// Writes copies of a file of 100 MiB in pieces of 1 MiB, each to the disk before the next.
fn dd(folder: &Path, count: usize) -> Result<Duration> {
    let source = folder.join("source");
    fs::write(&source, known(LARGE).bytes)?;
    // Otherwise the first fsync of the copies would pay for it.
    fs::File::open(&source)?.sync_all()?;
    let begun = Instant::now();
    for number in 0..count {
        let mut command = on_core_0("dd");
        command.arg(format!("if={}", source.display())).args(["bs=1M", "conv=fsync", "status=none"]);
        command.arg(format!("of={}", folder.join(number.to_string()).display()));
        ensure!(command.status()?.success(), "dd failed");
    }
    let took = begun.elapsed();
    (0..count).try_for_each(|number| fs::remove_file(folder.join(number.to_string())))?;
    Ok(took)
}

fn one_after_the_other(effort: Effort) -> Workload {
    Workload::new(vec![Row::less("B10 push 1 MiB durable c=1", "ms (p50)").per("s/push")], move |server| {
        let blobs = blobs(1 << 20, effort.pick(100, 10));
        let push = async |client: &mut Client, turn: usize| client.push_blob(&blobs[turn], Way::Whole).await;
        let outcome = Crowd::of(1).times(server.address(), blobs.len(), &push)?;
        Ok(Measured::of(outcome.percentile(50), outcome.done()))
    })
}

fn several(effort: Effort) -> Workload {
    Workload::new(vec![Row::more("B10 push 1 MiB durable c=16", "pushes/s").per("s/push")], move |server| {
        let blobs = blobs(1 << 20, effort.pick(320, 32));
        let push = async |client: &mut Client, turn: usize| client.push_blob(&blobs[turn], Way::Whole).await;
        let outcome = Crowd::of(16).times(server.address(), blobs.len(), &push)?;
        Ok(Measured::of(outcome.per_second(), outcome.done()))
    })
}

fn continuous_integration(effort: Effort) -> Workload {
    parallel_pushes("B12 100 CI jobs push images of 3x64 KiB to one repository, durable", effort.pick(400, 100))
}

/// A hundred jobs that each push an image under a tag of its own, and another one.
pub(crate) fn parallel_pushes(name: &str, count: usize) -> Workload {
    let rows =
        vec![Row::more(name, "images/s").per("s/image"), Row::less(name, "times told that the server is too busy")];
    Workload::new(rows, move |server: &mut Server| {
        let mut fresh = Fresh::new();
        let images: Vec<(String, Manifest)> =
            (0..count).map(|_| (fresh.name(), layers(&mut fresh, 3, 64 << 10))).collect();
        let push = async |client: &mut Client, turn: usize| client.push_image(&images[turn].0, &images[turn].1).await;
        let outcome = Crowd::of(100).patient().times(server.address(), count, &push)?;
        Ok(Measured { values: vec![outcome.per_second(), outcome.refused as f64], work: outcome.done() })
    })
}

fn blobs(size: usize, count: usize) -> Vec<Blob> {
    let mut fresh = Fresh::new();
    (0..count).map(|_| fresh.blob(size)).collect()
}

/// An image of so many layers of this size that nobody has yet.
pub(crate) fn layers(fresh: &mut Fresh, layers: usize, size: usize) -> Manifest {
    let config = fresh.blob(1 << 10);
    Manifest::of_blobs(config, (0..layers).map(|_| fresh.blob(size)).collect())
}

/// Bytes and names unlike any that this program made before.
pub(crate) struct Fresh(fastrand::Rng);

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Fresh {
    pub(crate) fn new() -> Self {
        Self(fastrand::Rng::with_seed(NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    pub(crate) fn name(&mut self) -> String {
        format!("n{:016x}", self.0.u64(..))
    }

    /// Bytes that no file system can make smaller than a part of a megabyte.
    pub(crate) fn blob(&mut self, size: usize) -> Blob {
        let mut piece = vec![0; size.min(1 << 20)];
        self.0.fill(&mut piece);
        let mut bytes = piece.repeat(size.div_ceil(piece.len()));
        bytes.truncate(size);
        Blob::new("application/vnd.oci.image.layer.v1.tar", bytes)
    }
}
