//! Sockets: connections that stand still or trickle, and the end.

use std::time::{Duration, Instant};

use berth_registry::serve::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::registry_under_test::digest_of;
use crate::served::{exchange, read_some, read_to_end, served};

const SHORT: Limits = Limits {
    connections: 8,
    handshake: Duration::from_millis(300),
    header: Duration::from_millis(300),
    idle: Duration::from_millis(900),
    stall: Duration::from_millis(600),
    trickle: Duration::from_secs(60),
};

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
    let digest = served.push_large_blob(32 << 20).await;
    let mut greedy = TcpStream::connect(served.address).await.unwrap();
    greedy.write_all(format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let begun = Instant::now();
    let answer = exchange(served.address, b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(begun.elapsed() > Duration::from_millis(300), "the limit of one connection holds");
}

const TRICKLE: Limits = Limits { stall: Duration::from_secs(60), trickle: Duration::from_secs(1), ..SHORT };

#[tokio::test]
async fn a_peer_that_takes_a_few_bytes_now_and_then_is_cut_off_and_its_place_is_free() {
    let served = served(Limits { connections: 1, ..TRICKLE }).await;
    let digest = served.push_large_blob(32 << 20).await;
    let mut greedy = TcpStream::connect(served.address).await.unwrap();
    greedy.write_all(format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    tokio::spawn(async move {
        while greedy.read(&mut [0; 8]).await.is_ok_and(|read| read > 0) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    // Gives up after ten seconds, which is long before the peer could be said to stand still.
    let answer = exchange(served.address, b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_peer_that_is_only_slow_gets_everything() {
    let served = served(TRICKLE).await;
    let digest = served.push_large_blob(3 << 20).await;
    let mut slow = TcpStream::connect(served.address).await.unwrap();
    let request = format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    slow.write_all(request.as_bytes()).await.unwrap();
    let (mut all, mut bytes) = (0, vec![0; 64 << 10]);
    loop {
        let read = slow.read(&mut bytes).await.unwrap();
        if read == 0 {
            break;
        }
        all += read;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(all > 3 << 20, "{all}");
}

#[tokio::test]
async fn a_peer_that_takes_little_all_the_time_does_not_stand_still() {
    let served = served(Limits { stall: Duration::from_secs(3), ..Limits::default() }).await;
    let digest = served.push_large_blob(2 << 20).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    // What the client's kernel takes ahead of it would hide how little it takes.
    socket.set_recv_buffer_size(16 << 10).unwrap();
    let mut slow = socket.connect(served.address).await.unwrap();
    let request = format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    slow.write_all(request.as_bytes()).await.unwrap();
    let (mut all, mut bytes) = (0, vec![0; 24 << 10]);
    while let Ok(read @ 1..) = slow.read(&mut bytes).await {
        all += read;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    assert!(all > 2 << 20, "{all}");
}

/// RFC 9112 section 9.6.
#[tokio::test]
async fn whoever_is_refused_in_the_middle_of_a_body_hears_why() {
    let served = served(Limits::default()).await;
    for _ in 0..10 {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let head =
            "PUT /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 9000000\r\n\r\n";
        let request = [head.as_bytes(), &vec![b'x'; 2 << 20]].concat();
        stream.write_all(&request).await.unwrap();
        let (answer, _) = read_to_end(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("MANIFEST_INVALID"), "{answer}");
    }
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
