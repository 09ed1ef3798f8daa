//! Pulls: B1 to B4, and B22. B5, B6 and B17 depend on how much there is and are in `scale`.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use anyhow::Result;
use berth_e2e::image::{Blob, Manifest};

use crate::client::{Client, REPOSITORY, Way, blob_path};
use crate::crowd::{Crowd, block_on};
use crate::place::Place;
use crate::pushes::{Fresh, layers};
use crate::server::{Kind, REGISTRIES, Server};
use crate::workload::{Effort, Measured, Row, Setting, Workload};
use crate::wrk::wrk;

const ALL: &[Kind] = &[Kind::Berth, Kind::Distribution, Kind::Nginx];
const SMALL: usize = 10 << 10;
const LARGE: usize = 100 << 20;
const HUGE: usize = 1 << 30;

pub(crate) fn settings(effort: Effort) -> Vec<Setting> {
    let large = |name| bandwidth(effort, name, "report.lua", LARGE);
    let parts = bandwidth(effort, "B4 GET 1 GiB in ranges of 16 MiB c=8", "ranges.lua", HUGE);
    let plain = vec![large("B1 GET 100 MiB c=8"), small(effort), parts];
    vec![
        Setting::on(Place::Memory, ALL, plain)
            .filled(|shelf| [SMALL, LARGE, HUGE].into_iter().try_for_each(|size| shelf.blob(REPOSITORY, &known(size)))),
        Setting::on(Place::Memory, ALL, vec![large("B2 GET 100 MiB c=8, TLS 1.3")])
            .with_tls()
            .filled(|shelf| shelf.blob(REPOSITORY, &known(LARGE))),
        storm(effort),
        mixed(effort),
    ]
}

fn bandwidth(effort: Effort, name: &str, script: &'static str, size: usize) -> Workload {
    Workload::new(vec![Row::more(name, "MB/s").per("s/GB")], move |server| {
        let run = wrk(server, script, 8, effort.length, &blob_path(&known(size)))?;
        Ok(Measured::of(run.bytes / run.seconds / 1e6, run.bytes / 1e9))
    })
}

fn small(effort: Effort) -> Workload {
    let rows =
        vec![Row::more("B3 GET 10 KiB c=64", "req/s").per("s/request"), Row::less("B3 GET 10 KiB c=64", "ms (p99)")];
    Workload::new(rows, move |server| {
        let run = wrk(server, "report.lua", 64, effort.length, &blob_path(&known(SMALL)))?;
        Ok(Measured { values: vec![run.requests / run.seconds, run.p99], work: run.requests })
    })
}

/// Every node of a cluster pulls the same image.
fn storm(effort: Effort) -> Setting {
    let image = layers(&mut Fresh::new(), 5, 1 << 20);
    let nodes = effort.pick(200, 20);
    let rows = vec![
        Row::more(&format!("B22 {nodes} clients pull an image of 5x1 MiB"), "images/s").per("s/image"),
        Row::less(&format!("B22 {nodes} clients pull an image of 5x1 MiB"), "ms (p99)"),
    ];
    let there = image.clone();
    let pull = Workload::new(rows, move |server| {
        let pulls = async |client: &mut Client, _| client.pull_image("v1", &image).await;
        let outcome = Crowd::of(nodes).times(server.address(), nodes * 2, &pulls)?;
        Ok(Measured { values: vec![outcome.per_second(), outcome.percentile(99)], work: outcome.done() })
    });
    Setting::on(Place::Memory, REGISTRIES, vec![pull]).prepared(move |server| push(server, &there))
}

/// The two mixtures of zot's benchmark `zb`.
fn mixed(effort: Effort) -> Setting {
    // Of ten pulls two are of 1 MiB, seven of 10 MiB, one of 100 MiB.
    let blobs: Vec<Blob> = [1, 10, 100].map(|size| Fresh::new().blob(size << 20)).into();
    let (there, pulled, small) = (blobs.clone(), blobs.clone(), blobs);
    let pulls = Workload::new(vec![Row::more("B22 GET 20% 1, 70% 10, 10% 100 MiB c=16", "MB/s").per("s/GB")], {
        move |server| {
            let one = async |client: &mut Client, turn: usize| {
                let size = [0, 1, 1, 1, 2, 1, 0, 1, 1, 1][turn % 10];
                client.drain(&blob_path(&pulled[size])).await.map(drop)
            };
            let outcome = Crowd::of(16).times(server.address(), effort.pick(100, 10), &one)?;
            // Ten of them are 172 MiB.
            let gigabytes = outcome.done() * 17.2 * f64::from(1 << 20) / 1e9;
            Ok(Measured::of(gigabytes * 1000.0 * outcome.per_second() / outcome.done(), gigabytes))
        }
    });
    let both = Workload::new(vec![Row::more("B22 75% GET, 25% push 1 MiB c=16", "req/s").per("s/request")], {
        move |server| {
            let count = effort.pick(1000, 100);
            let mut fresh = Fresh::new();
            let pushed: Vec<Blob> = (0..count / 4).map(|_| fresh.blob(1 << 20)).collect();
            let one = async |client: &mut Client, turn: usize| match turn % 4 {
                0 => client.push_blob(&pushed[turn / 4], Way::Whole).await,
                _ => client.drain(&blob_path(&small[0])).await.map(drop),
            };
            let outcome = Crowd::of(16).times(server.address(), count, &one)?;
            Ok(Measured::of(outcome.per_second(), outcome.done()))
        }
    });
    Setting::on(Place::Memory, REGISTRIES, vec![pulls, both])
        .filled(move |shelf| there.iter().try_for_each(|blob| shelf.blob(REPOSITORY, blob)))
}

/// Makes an image `v1`.
fn push(server: &Server, image: &Manifest) -> Result<()> {
    block_on(async { Client::open(0, server.address()).await?.push_image("v1", image).await })
}

/// The blob of this size that every server offers; made and hashed once.
pub(crate) fn known(size: usize) -> Blob {
    static BLOBS: LazyLock<Mutex<BTreeMap<usize, Blob>>> = LazyLock::new(Mutex::default);
    let mut blobs = BLOBS.lock().unwrap_or_else(PoisonError::into_inner);
    blobs.entry(size).or_insert_with(|| Fresh::new().blob(size)).clone()
}
