//! Memory: B18, and the part of B19 that `scale` has the tags for.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::future::{join, try_join_all};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{REPOSITORY, blob_path};
use crate::configuration::Untagged;
use crate::crowd::block_on;
use crate::place::Place;
use crate::reads::known;
use crate::server::{REGISTRIES, Server, resident};
use crate::workload::{Effort, Measured, Row, Setting, Workload};

const HUGE: usize = 1 << 30;
/// How often memory is looked at.
const GLANCE: Duration = Duration::from_millis(50);

pub(crate) fn settings(effort: Effort) -> Vec<Setting> {
    let idle = Workload::new(vec![Row::less("B18 memory when idle", "MiB")], |server| {
        server.restart("/v2/")?;
        std::thread::sleep(Duration::from_secs(2));
        Ok(Measured::values(&[server.resident()]))
    });
    vec![
        Setting::on(Place::Memory, REGISTRIES, vec![idle, slow_pulls(effort)])
            .filled(|shelf| shelf.blob(REPOSITORY, &known(HUGE))),
    ]
}

/// Pullers that are all slower than the server would like.
fn slow_pulls(effort: Effort) -> Workload {
    let pullers = effort.pick(1000, 100);
    let name = format!("B18 memory for each of {pullers} slow pulls of 1 GiB");
    Workload::new(vec![Row::less(&name, "KiB")], move |server| {
        server.restart("/v2/")?;
        let before = server.resident();
        let until = Instant::now() + 2 * effort.length;
        let pull = |_| pull_slowly(server, until);
        let most = block_on(async {
            let done = Cell::new(false);
            let pulls = async {
                let pulled = try_join_all((0..pullers).map(pull)).await;
                done.set(true);
                pulled
            };
            let (pulled, most) = join(pulls, most_resident(server, &done)).await;
            pulled.map(|_| most)
        })?;
        Ok(Measured::values(&[(most - before) * 1024.0 / pullers as f64]))
    })
}

async fn pull_slowly(server: &Server, until: Instant) -> Result<()> {
    let mut socket = TcpStream::connect(server.address()).await?;
    let request = format!("GET {} HTTP/1.1\r\nHost: bench\r\n\r\n", blob_path(&known(HUGE)));
    socket.write_all(request.as_bytes()).await?;
    let mut piece = vec![0; 16 << 10];
    while Instant::now() < until {
        ensure!(socket.read(&mut piece).await? > 0, "the server gave up on a slow puller");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn most_resident(server: &Server, done: &Cell<bool>) -> f64 {
    let mut most = 0.0_f64;
    while !done.get() {
        most = most.max(server.resident());
        tokio::time::sleep(GLANCE).await;
    }
    most
}

/// The server's memory and its collector's, at most, and the server's when that begins; of distribution the collector's alone, since
/// nobody serves meanwhile.
pub(crate) fn collection(rows: Vec<Row>) -> Workload {
    Workload::new(rows, |server| {
        let serving = server.resident();
        let mut collector = server.collect(Untagged::Keep)?;
        let mut most = 0.0_f64;
        let ended = loop {
            if let Some(status) = collector.try_wait()? {
                break status;
            }
            most = most.max(server.resident() + resident(collector.id()));
            std::thread::sleep(Duration::from_millis(1));
        };
        ensure!(ended.success(), "the collection ended with {ended}");
        server.restart("/v2/").context("after a collection")?;
        Ok(Measured::values(&[most, serving]))
    })
    .rounds(1)
}
