//! What a client costs that asks for a large blob and then takes no more of it: counted in the memory of a process of its own.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};

use crate::registry_under_test::digest_of;
use crate::served::exchange;

const BLOB: usize = 24 << 20;
const PULLS: usize = 200;

/// What 200 of them may cost together: a small piece or two and the connection for each, and the few large pieces that there are
/// for all. When each kept the pieces of all sizes that it had grown through, they held 275 MiB over HTTP/1 and 199 over HTTP/2.
const MOST: usize = PULLS * (320 << 10);

struct Process {
    child: Child,
    address: SocketAddr,
    pull: String,
    _root: tempfile::TempDir,
    _log: BufReader<ChildStderr>,
}

impl Process {
    /// The program itself, with one blob.
    async fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth-registry"));
        command.arg("serve").env_clear().kill_on_drop(true).stderr(Stdio::piped());
        command.env("REGISTRY_HTTP_ADDR", "127.0.0.1:0").env("REGISTRY_HTTP_DEBUG_ADDR", "127.0.0.1:0");
        command.env("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", root.path());
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).await.unwrap() > 0, "it ended");
            let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
            if let Some(address) = address {
                break address.parse().unwrap();
            }
        };
        let blob = vec![b'x'; BLOB];
        let digest = digest_of(&blob);
        let head = format!("POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        let push = [head.as_bytes(), format!("Content-Length: {BLOB}\r\n\r\n").as_bytes(), &blob].concat();
        assert!(exchange(address, &push).await.contains("201 Created"));
        Self { child, address, pull: format!("/v2/a/blobs/{digest}"), _root: root, _log: log }
    }

    /// The memory that it holds, in bytes.
    fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        resident.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    }

    /// What it holds more than `before` once all that can happen has happened.
    async fn grown_since(&self, before: usize) -> usize {
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.resident().saturating_sub(before)
    }

    async fn still_serves(&self) {
        let pull = format!("GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", self.pull);
        assert!(exchange(self.address, pull.as_bytes()).await.len() > BLOB);
    }
}

#[tokio::test]
async fn stalled_pulls_over_http1_hold_little_and_others_are_served() {
    let process = Process::start().await;
    process.still_serves().await;
    let before = process.resident();
    let mut stalled = Vec::new();
    for _ in 0..PULLS {
        let mut stream = TcpStream::connect(process.address).await.unwrap();
        stream.write_all(format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", process.pull).as_bytes()).await.unwrap();
        assert!(stream.read(&mut [0; 16]).await.unwrap() > 0);
        stalled.push(stream);
    }
    let grown = process.grown_since(before).await;
    println!("{PULLS} stalled pulls over HTTP/1: {} KiB each", (grown / PULLS) >> 10);
    assert!(grown < MOST, "{grown}");
    process.still_serves().await;
}

#[tokio::test]
async fn stalled_pulls_over_http2_hold_little_and_others_are_served() {
    let process = Process::start().await;
    process.still_serves().await;
    let before = process.resident();
    let mut stalled = Vec::new();
    for _ in 0..PULLS / 100 {
        let io = TokioIo::new(TcpStream::connect(process.address).await.unwrap());
        let mut builder = http2::Builder::new(TokioExecutor::new());
        // A megabyte for each before it has to wait: pieces have grown by then.
        builder.initial_stream_window_size(1 << 20).initial_connection_window_size(200 << 20);
        let (mut sender, connection) = builder.handshake(io).await.unwrap();
        tokio::spawn(connection);
        for _ in 0..100 {
            let request = Request::get(format!("http://x{}", process.pull)).body(Empty::<Bytes>::new()).unwrap();
            let mut body = sender.send_request(request).await.unwrap().into_body();
            assert!(body.frame().await.is_some());
            stalled.push((sender.clone(), body));
        }
    }
    let grown = process.grown_since(before).await;
    println!("{PULLS} stalled pulls over HTTP/2: {} KiB each", (grown / PULLS) >> 10);
    assert!(grown < MOST, "{grown}");
    process.still_serves().await;
}

#[tokio::test]
async fn an_idle_process_holds_little() {
    let resident = Process::start().await.resident();
    println!("after a push: {} KiB", resident >> 10);
    assert!(resident < 48 << 20, "{resident}");
}
