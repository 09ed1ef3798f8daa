//! Sockets: connections that stand still, requests that lie about their length, and the end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use berth_registry::serve::{Limits, Listener, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::registry_under_test::{RegistryUnderTest, digest_of};

const SHORT: Limits = Limits {
    connections: 8,
    handshake: Duration::from_millis(300),
    header: Duration::from_millis(300),
    idle: Duration::from_millis(900),
    stall: Duration::from_millis(600),
};

struct Served {
    address: SocketAddr,
    registry: RegistryUnderTest,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<usize>,
}

async fn served(limits: Limits) -> Served {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let registry = RegistryUnderTest::open();
    let (stop, stopped) = oneshot::channel();
    let listener = Listener { tcp, tls: None, limits };
    let shutdown = async move { drop(stopped.await) };
    let ended = tokio::spawn(serve(listener, registry.router.clone(), shutdown, Duration::from_secs(2)));
    Served { address, registry, stop, ended }
}

/// What comes until the other side closes, and how long that took.
async fn read_to_end(stream: &mut TcpStream) -> (String, Duration) {
    let begun = Instant::now();
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes)).await.unwrap();
    (String::from_utf8_lossy(&bytes).into_owned(), begun.elapsed())
}

async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    read_to_end(&mut stream).await.0
}

async fn read_some(stream: &mut TcpStream) -> String {
    let mut bytes = vec![0; 4096];
    let length = stream.read(&mut bytes).await.unwrap();
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

/// S-32.
#[tokio::test]
async fn whoever_does_not_finish_a_header_is_cut_off() {
    let served = served(SHORT).await;
    for beginning in ["", "G", "PRI * HT", "GET /v2/ HTTP/1.1\r\nHost: x\r\n"] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(beginning.as_bytes()).await.unwrap();
        let (_, took) = read_to_end(&mut stream).await;
        assert!(took > Duration::from_millis(200) && took < Duration::from_secs(2), "{beginning:?} {took:?}");
    }
}

#[tokio::test]
async fn a_trickled_header_is_cut_off_though_it_never_stands_still() {
    let served = served(SHORT).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let begun = Instant::now();
    for byte in b"GET /v2/ HTTP/1.1\r\nHost: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n".iter().cycle() {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(begun.elapsed() < Duration::from_secs(3));
    }
}

#[tokio::test]
async fn an_idle_connection_is_kept_for_longer_than_a_header_may_take() {
    let served = served(SHORT).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    for _ in 0..3 {
        stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(read_some(&mut stream).await.starts_with("HTTP/1.1 200"));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let (_, took) = read_to_end(&mut stream).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_cut_off_and_its_place_is_free() {
    let served = served(Limits { connections: 1, ..SHORT }).await;
    let blob: &'static [u8] = Box::leak(vec![b'x'; 32 << 20].into_boxed_slice());
    let digest = served.registry.push_blob("a", blob).await;
    let mut greedy = TcpStream::connect(served.address).await.unwrap();
    greedy.write_all(format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let begun = Instant::now();
    let answer = exchange(served.address, b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(begun.elapsed() > Duration::from_millis(300), "the limit of one connection holds");
}

/// S-34: whoever stands before us must not be able to read a request differently.
#[tokio::test]
async fn requests_that_could_be_read_in_two_ways_are_refused_and_the_connection_ends() {
    let served = served(Limits::default()).await;
    let smuggled = "GET /v2/_catalog HTTP/1.1\r\nHost: x\r\n\r\n";
    for head in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 5, 6\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "X: a\r\n b\r\n",
        "X\r\n",
    ] {
        let request = format!("POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\n{head}\r\n{smuggled}");
        let answer = exchange(served.address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{head:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{head:?}: {answer}");
    }
}

#[tokio::test]
async fn a_length_beside_chunks_does_not_smuggle_a_request() {
    let served = served(Limits::default()).await;
    let request = "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
                   0\r\n\r\nGET /v2/_catalog HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = exchange(served.address, request.as_bytes()).await;
    // Either refused, or the length ignored as RFC 9112 section 6.3 has it, so that the second request is one.
    let answers = answer.matches("HTTP/1.1 ").count();
    assert!(answer.starts_with("HTTP/1.1 400") || answers == 2 || answers == 1, "{answer}");
    assert!(!answer.contains("\r\n\r\n0\r\n"), "{answer}");
}

#[tokio::test]
async fn a_header_without_end_is_refused() {
    let served = served(Limits::default()).await;
    let request = format!("GET /v2/ HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(2 << 20));
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let _ = stream.write_all(request.as_bytes()).await;
    let (answer, _) = read_to_end(&mut stream).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn requests_in_progress_finish_and_no_more_are_accepted() {
    let served = served(Limits::default()).await;
    let digest = digest_of(b"bytes");
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let head = format!("POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nby");
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    served.stop.send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(TcpStream::connect(served.address).await.is_err());
    stream.write_all(b"tes").await.unwrap();
    let (answer, _) = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 201") && answer.to_lowercase().contains("connection: close"), "{answer}");
    assert_eq!(served.ended.await.unwrap(), 0);
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_cut_off() {
    let served = served(Limits::default()).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(b"PATCH /v2/a/blobs/uploads/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    served.stop.send(()).unwrap();
    assert_eq!(tokio::time::timeout(Duration::from_secs(5), served.ended).await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn http2_without_tls_is_understood() {
    let served = served(Limits::default()).await;
    let stream = TcpStream::connect(served.address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("http://x/v2/").body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
}

/// HTTP/2 rapid reset (CVE-2023-44487): each request is taken back at once, so no limit of streams is ever met.
#[tokio::test]
async fn whoever_resets_requests_without_end_is_told_to_calm_down_and_others_are_served() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    // RFC 9113, 4.1: length, type, flags, stream. An empty SETTINGS; GET http://x/ by HPACK's static table; CANCEL.
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    };
    let mut flood = PREFACE.to_vec();
    flood.extend(frame(4, 0, 0, &[]));
    for stream in (1..20_000).step_by(2) {
        flood.extend(frame(1, 0x5, stream, &[0x82, 0x84, 0x86, 0x41, 1, b'x']));
        flood.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
    }

    let served = served(Limits::default()).await;
    let stream = TcpStream::connect(served.address).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let writing = tokio::spawn(async move { drop(to.write_all(&flood).await) });
    let mut said = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(10), from.read_to_end(&mut said)).await.unwrap();
    writing.await.unwrap();
    // GOAWAY with ENHANCE_YOUR_CALM (RFC 9113, 7): the last stream, then the code.
    let calm = said.windows(17).any(|window| window[3] == 7 && window[13..17] == 11_u32.to_be_bytes());
    assert!(calm, "{:?}", &said[said.len().saturating_sub(64)..]);
    assert!(
        exchange(served.address, b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.contains("200 OK")
    );
}
