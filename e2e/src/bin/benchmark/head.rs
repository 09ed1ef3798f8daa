//! HEAD of one tag after the other, over kept-alive connections. `wrk` cannot: it waits for the body that `Content-Length`
//! speaks of and that an answer to HEAD does not have.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many answers came, and in how long.
pub(crate) struct Heads {
    pub(crate) answers: u64,
    pub(crate) elapsed: Duration,
}

/// Asks for as long as `length`, over `connections` connections, each for one of `tags` tags after the other, in an order
/// that no cache of a few can follow.
pub(crate) fn tags(address: SocketAddr, tags: usize, connections: usize, length: Duration) -> Result<Heads> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let begun = Instant::now();
        let mut workers = Vec::new();
        for worker in 0..connections {
            let numbers = (0..tags).map(move |turn| (worker + turn * 7919) % tags).cycle();
            workers.push(tokio::spawn(ask(address, numbers, begun + length)));
        }
        let mut answers = 0;
        for worker in workers {
            answers += tokio::time::timeout(length + PATIENCE, worker).await???;
        }
        Ok(Heads { answers, elapsed: begun.elapsed() })
    })
}

async fn ask(address: SocketAddr, mut numbers: impl Iterator<Item = usize>, until: Instant) -> Result<u64> {
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let mut answer = Vec::with_capacity(4096);
    let mut answers = 0;
    while let Some(number) = numbers.next()
        && Instant::now() < until
    {
        let accept = "application/vnd.oci.image.manifest.v1+json";
        let request =
            format!("HEAD /v2/bench/manifests/t{number} HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\n\r\n");
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
