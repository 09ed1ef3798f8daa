//! HEAD of one path after the other, over kept-alive connections, with as little work for each as can be. `wrk` cannot: it
//! waits for the body that `Content-Length` speaks of and that an answer to HEAD does not have.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use berth_e2e::image::IMAGE;
use futures::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::crowd::block_on;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many answers came, and in how long.
pub(crate) struct Heads {
    pub(crate) answers: f64,
    pub(crate) seconds: f64,
}

/// Asks for as long as `length`, over `connections` connections, each for one of `count` paths after the other, in an order
/// that no cache of a few can follow.
pub(crate) fn load(
    address: SocketAddr,
    connections: usize,
    length: Duration,
    count: usize,
    path: impl Fn(usize) -> String,
) -> Result<Heads> {
    let begun = Instant::now();
    let worker = async |worker: usize| {
        let numbers = (0..count).map(|turn| (worker + turn * 7919) % count).cycle();
        ask(address, numbers.map(&path), begun + length).await
    };
    let answers =
        block_on(async { tokio::time::timeout(length + PATIENCE, try_join_all((0..connections).map(worker))).await? })?;
    Ok(Heads { answers: answers.iter().sum::<u32>().into(), seconds: begun.elapsed().as_secs_f64() })
}

async fn ask(address: SocketAddr, mut paths: impl Iterator<Item = String>, until: Instant) -> Result<u32> {
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let mut answer = Vec::with_capacity(4096);
    let mut answers = 0;
    while let Some(path) = paths.next()
        && Instant::now() < until
    {
        let request = format!("HEAD {path} HTTP/1.1\r\nHost: {address}\r\nAccept: {IMAGE}\r\n\r\n");
        socket.write_all(request.as_bytes()).await?;
        answer.clear();
        while !answer.ends_with(b"\r\n\r\n") {
            ensure!(socket.read_buf(&mut answer).await? > 0, "the server hung up");
        }
        ensure!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
        answers += 1;
    }
    Ok(answers)
}
