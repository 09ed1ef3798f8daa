//! Buckets: B11, B12, and what of `scale` takes lists.

use std::time::Duration;

use anyhow::{Context as _, Result};
use berth_e2e::s3_server::S3Program;
use futures::future::try_join_all;

use crate::client::{Client, LIKE_DOCKER};
use crate::crowd::block_on;
use crate::place::Place;
use crate::pushes::{Fresh, layers, parallel_pushes};
use crate::scale;
use crate::server::{REGISTRIES, Server};
use crate::workload::{Effort, Measured, Row, Setting, Workload};

/// What takes long is done less often: it is the requests that count, and they are always the same.
const ROUNDS: usize = 2;
/// To the next region and back.
const FAR: Duration = Duration::from_millis(20);

pub(crate) fn settings(effort: Effort) -> Vec<Setting> {
    let many = parallel_pushes(
        "B12 100 CI jobs push images of 3x64 KiB to one repository, S3 20 ms away",
        effort.pick(200, 100),
    );
    let pushes = Setting::on(Place::Bucket(S3Program::Minio, FAR), REGISTRIES, vec![image_push(), many.rounds(ROUNDS)]);
    // Its objects are files, so a million can be made.
    let near = Place::Bucket(S3Program::Versitygw, Duration::ZERO);
    let tags = effort.sizes(1_000_000).map(move |tags| {
        let workloads = vec![
            counted(scale::page("B13 S3 (versitygw): page of 1000 tags", tags, effort)),
            scale::start("B23 S3 (versitygw): start until the first answer", tags),
        ];
        Setting::on(near, scale::kinds(tags), workloads).filled(move |shelf| shelf.tags(tags)).prepared(settle)
    });
    // No more than memory's file system has room for.
    let catalogs = effort.sizes(10_000).map(move |repositories| {
        let workloads =
            vec![counted(scale::catalog("B14 S3 (versitygw): page of 1000 repositories", repositories, effort))];
        Setting::on(near, REGISTRIES, workloads).filled(move |shelf| shelf.repositories(repositories)).prepared(settle)
    });
    std::iter::once(pushes).chain(tags).chain(catalogs).collect()
}

/// The layers at the same time, as docker and containerd push them.
fn image_push() -> Workload {
    let name = "B11 push an image of 5x1 MiB, S3 20 ms away";
    Workload::new(vec![Row::less(name, "ms"), Row::less(name, "requests to the store")], |server| {
        let mut fresh = Fresh::new();
        let (tag, image) = (fresh.name(), layers(&mut fresh, 5, 1 << 20));
        requests(server)?;
        let took = block_on(async {
            let mut clients =
                try_join_all((0..image.blobs.len()).map(|number| Client::open(number, server.address()))).await?;
            let begun = std::time::Instant::now();
            let pushes = clients.iter_mut().zip(&image.blobs).map(|(client, blob)| client.push_blob(blob, LIKE_DOCKER));
            try_join_all(pushes).await?;
            clients[0].put_manifest(&tag, &image).await?;
            Ok(begun.elapsed())
        })?;
        Ok(Measured::values(&[took.as_secs_f64() * 1000.0, requests(server)?]))
    })
}

/// The same, and how many requests the store got for each.
fn counted(workload: Workload) -> Workload {
    let Workload { mut rows, measure, .. } = workload;
    rows.extend(rows.first().cloned().map(|row| Row { unit: "requests to the store", cpu_unit: "", ..row }));
    Workload::new(rows, move |server| {
        requests(server)?;
        let Measured { mut values, work } = measure(server)?;
        values.push(requests(server)? / work);
        Ok(Measured { values, work })
    })
    .rounds(ROUNDS)
}

/// Waits until a server has done what it does by itself after a start: Berth looks for what requests that died left.
fn settle(server: &Server) -> Result<()> {
    while requests(server)? > 0.0 {
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

fn requests(server: &Server) -> Result<f64> {
    Ok(server.bucket.as_ref().context("no bucket")?.take_requests() as f64)
}
