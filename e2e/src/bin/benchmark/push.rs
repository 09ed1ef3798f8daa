//! Pushes as a client with kept-alive connections makes them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use berth_oci::{Algorithm, Digest};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, LOCATION};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What came of some pushes.
pub(crate) struct Pushes {
    pub(crate) pushes: usize,
    pub(crate) elapsed: Duration,
    pub(crate) median: Duration,
}

/// Pushes `count` blobs of `size` bytes, no two alike, over `connections` connections.
pub(crate) fn blobs(address: SocketAddr, size: usize, connections: usize, count: usize) -> Result<Pushes> {
    run(async move {
        let mut blobs = Vec::new();
        for _ in 0..count {
            blobs.push(unlike_any_other(size));
        }
        let queue = std::sync::Arc::new(std::sync::Mutex::new(blobs));
        let begun = Instant::now();
        let mut workers = Vec::new();
        for _ in 0..connections {
            let queue = std::sync::Arc::clone(&queue);
            workers.push(tokio::spawn(async move {
                let mut connection = Connection::open(address).await?;
                let mut times = Vec::new();
                loop {
                    let Some((digest, bytes)) = queue.lock().ok().and_then(|mut queue| queue.pop()) else { break };
                    let begun = Instant::now();
                    connection.push_blob(&digest, bytes).await?;
                    times.push(begun.elapsed());
                }
                anyhow::Ok(times)
            }));
        }
        let mut times = Vec::new();
        for worker in workers {
            times.extend(worker.await??);
        }
        let elapsed = begun.elapsed();
        times.sort_unstable();
        Ok(Pushes { pushes: times.len(), elapsed, median: times[times.len() / 2] })
    })
}

pub(crate) fn blob(address: SocketAddr, bytes: Vec<u8>) -> Result<()> {
    run(async move {
        let digest = Digest::of(Algorithm::Sha256, &bytes);
        Connection::open(address).await?.push_blob(&digest, bytes.into()).await
    })
}

/// Points `count` tags at one small image.
pub(crate) fn tags(address: SocketAddr, count: usize) -> Result<()> {
    run(async move {
        let mut connection = Connection::open(address).await?;
        let config = Bytes::from_static(b"{}");
        let digest = Digest::of(Algorithm::Sha256, &config);
        connection.push_blob(&digest, config).await?;
        let manifest: Bytes = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":2}},"layers":[]}}"#
        )
        .into();
        for number in 0..count {
            let path = format!("/v2/bench/manifests/t{number}");
            let request = connection.request(Method::PUT, &path).header(CONTENT_TYPE, OCI_MANIFEST);
            let answer = connection.send(request.body(Full::new(manifest.clone()))?).await?;
            ensure!(answer.status() == StatusCode::CREATED, "PUT {path}: {}", answer.status());
        }
        Ok(())
    })
}

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn unlike_any_other(size: usize) -> (Digest, Bytes) {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut bytes = vec![7; size];
    let number = NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes();
    let time = std::time::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_nanos()).to_le_bytes();
    bytes[..8].copy_from_slice(&number);
    bytes[8..24].copy_from_slice(&time);
    (Digest::of(Algorithm::Sha256, &bytes), bytes.into())
}

fn run<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

struct Connection {
    address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
        tokio::spawn(connection);
        Ok(Self { address, sender })
    }

    /// POST, then PUT with the bytes: what containerd does.
    async fn push_blob(&mut self, digest: &Digest, bytes: Bytes) -> Result<()> {
        let request = self.request(Method::POST, "/v2/bench/blobs/uploads/").body(Full::default())?;
        let answer = self.send(request).await?;
        let location = answer.headers().get(LOCATION).context("no Location")?.to_str()?.to_owned();
        // distribution answers with an absolute URL, others with a path.
        let path = location.strip_prefix(&format!("http://{}", self.address)).unwrap_or(&location).to_owned();
        let joint = if path.contains('?') { '&' } else { '?' };
        let request = self.request(Method::PUT, &format!("{path}{joint}digest={digest}"));
        let request = request.header(CONTENT_TYPE, "application/octet-stream").body(Full::new(bytes))?;
        let answer = self.send(request).await?;
        ensure!(answer.status() == StatusCode::CREATED, "PUT of a blob: {}", answer.status());
        Ok(())
    }

    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(path).header(HOST, self.address.to_string())
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<http::Response<Bytes>> {
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        Ok(http::Response::from_parts(head, body.collect().await?.to_bytes()))
    }
}
