//! Heads of requests: those that could be read in two ways, and those without end.

use berth_registry::serve::Limits;
use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::registry_under_test::digest_of;
use crate::served::{Served, exchange, read_some, read_to_end, served};

/// A request that leaves a blob behind when it is carried out.
fn smuggled() -> String {
    let digest = digest_of(b"bytes");
    format!("POST /v2/b/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nbytes")
}

/// What is answered to a request with this head and body and the smuggled one behind it, until the connection ends.
async fn smuggle(served: &Served, head: &str, body: &str) -> String {
    let request = format!("POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\n{head}\r\n{body}{}", smuggled());
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    // Where a body is taken for longer than it is, nothing more comes.
    stream.shutdown().await.unwrap();
    read_to_end(&mut stream).await.0
}

#[tokio::test]
async fn a_second_request_that_nobody_hides_is_carried_out() {
    let served = served(Limits::default()).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let request = format!("GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n{}", smuggled());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answers = String::new();
    while !answers.contains("201 Created") {
        answers.push_str(&read_some(&mut stream).await);
    }
    assert_eq!(served.registry.stored_keys().await.len(), 3, "what the tests below look for is found");
}

/// S-34: whoever stands before us must not be able to read a request differently.
#[tokio::test]
async fn requests_that_could_be_read_in_two_ways_are_refused_and_the_connection_ends() {
    let served = served(Limits::default()).await;
    for head in [
        "Content-Length: 0\r\nContent-Length: 6\r\n",
        "Content-Length: 6\r\nContent-Length: 0\r\n",
        "Content-Length: 0\r\nContent-Length: 00\r\nContent-Length: 7\r\n",
        "Content-Length: +0\r\n",
        "Content-Length: -0\r\n",
        "Content-Length: 0x0\r\n",
        "Content-Length: 0, 6\r\n",
        "Content-Length: \r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: 0\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding\x0b: chunked\r\n",
        "Content-Length : 0\r\n",
        "X: a\r\n b\r\n",
        "X: a\x00b\r\n",
        "X: a\rContent-Length: 0\r\n",
        "X\r\n",
    ] {
        let answer = smuggle(&served, head, "").await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{head:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{head:?}: {answer}");
    }
    assert!(served.registry.stored_keys().await.is_empty());
}

/// RFC 9112 section 6.3: the chunks count, "a server MAY reject" it, and closes the connection either way.
#[tokio::test]
async fn what_comes_after_a_request_with_a_length_beside_chunks_is_not_carried_out() {
    let served = served(Limits::default()).await;
    let whole = 5 + smuggled().len();
    for head in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n".to_owned(),
        format!("Content-Length: {whole}\r\nTransfer-Encoding: chunked\r\n"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {whole}\r\n"),
        format!("transfer-encoding: CHUNKED\r\ncontent-length: {whole}\r\nConnection: keep-alive\r\n"),
    ] {
        let answer = smuggle(&served, &head, "0\r\n\r\n").await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{head:?}: {answer}");
    }
    assert!(served.registry.stored_keys().await.is_empty());
}

#[tokio::test]
async fn chunks_that_end_their_lines_in_another_way_end_the_connection() {
    let served = served(Limits::default()).await;
    for body in
        ["0\n\n", "0\r\n\n", "0;a\nb\r\n\r\n", "0\r\r\n\r\n", "0x0\r\n\r\n", "-0\r\n\r\n", "10000000000000000\r\n"]
    {
        let answer = smuggle(&served, "Transfer-Encoding: chunked\r\n", body).await;
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{body:?}: {answer}");
    }
    assert!(served.registry.stored_keys().await.is_empty());
}

fn get(filler: usize) -> String {
    format!("GET /v2/ HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(filler))
}

#[tokio::test]
async fn a_head_of_more_than_64_kib_is_answered_431_and_everything_else_goes_on() {
    let served = served(Limits::default()).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    for filler in [0, 60 << 10, 0, 60 << 10] {
        stream.write_all(get(filler).as_bytes()).await.unwrap();
        assert!(read_some(&mut stream).await.starts_with("HTTP/1.1 200"), "{filler}");
    }
    let mut other = TcpStream::connect(served.address).await.unwrap();
    for filler in [66 << 10, 2 << 20] {
        let mut endless = TcpStream::connect(served.address).await.unwrap();
        // It may be told before it has sent everything.
        let _ = endless.write_all(get(filler).as_bytes()).await;
        let (answer, _) = read_to_end(&mut endless).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{filler}: {answer:?}");
    }
    stream.write_all(get(66 << 10).as_bytes()).await.unwrap();
    let (answer, _) = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer:?}");
    other.write_all(get(0).as_bytes()).await.unwrap();
    assert!(read_some(&mut other).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_head_with_more_than_a_hundred_headers_is_answered_431() {
    let served = served(Limits::default()).await;
    let request = format!("GET /v2/ HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: a\r\n".repeat(101));
    assert!(exchange(served.address, request.as_bytes()).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn over_http2_a_head_that_is_too_large_is_answered_431_and_its_connection_goes_on() {
    let served = served(Limits::default()).await;
    let io = TokioIo::new(TcpStream::connect(served.address).await.unwrap());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    for (filler, status) in [(0, 200), (66 << 10, 431), (0, 200), (60 << 10, 200)] {
        let request = Request::get("http://x/v2/").header("x", "a".repeat(filler)).body(Empty::<Bytes>::new()).unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), status, "{filler}");
    }
}
