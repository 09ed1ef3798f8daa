//! One client that wants everything, and a second one that is still served.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use berth_registry::access::Access;
use berth_registry::http::UploadKeys;
use berth_registry::http::admin::{self, Admin, Readiness};
use berth_registry::serve::{Limits, Listener, Peer, serve};
use berth_registry::store::Store;
use bytes::Bytes;
use futures::future::join_all;
use http::{Request, header};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::registry_under_test::{ALL_ON, Answer, INDEX, RegistryUnderTest, access, basic, digest_of, request};
use crate::served::{connect_from, exchange_from, served, served_as};

/// Someone, with credentials or without, and the address they come from.
#[derive(Clone, Copy)]
struct Client {
    user: Option<&'static str>,
    address: &'static str,
}

const ALICE: Client = Client { user: Some("alice"), address: "10.0.0.1" };

impl Client {
    const fn anonymous(address: &'static str) -> Self {
        Self { user: None, address }
    }

    const fn at(self, address: &'static str) -> Self {
        Self { address, ..self }
    }

    fn request(self, line: &str, body: Body) -> Request<Body> {
        let peer = Peer((self.address.parse::<std::net::IpAddr>().unwrap(), 1024).into());
        let request = request(line).extension(peer).header(header::CONTENT_TYPE, INDEX);
        let request = match self.user {
            Some(user) => request.header(header::AUTHORIZATION, basic(user, "secret")),
            None => request,
        };
        request.body(body).unwrap()
    }
}

/// How many requests are sent at once: more than there are slots.
const FLOOD: usize = 600;

/// Sends many requests whose bodies never come. Gives back those that are still waiting for theirs, once the others have been
/// answered, which must all be told to come back later.
async fn flood(registry: &RegistryUnderTest, client: Client, line: &str) -> Vec<JoinHandle<Answer>> {
    // What is put into the registry is known to be right before a hundred ask at once.
    registry.send(client.request("GET /v2/", Body::empty())).await;
    let never = || Body::from_stream(futures::stream::pending::<std::io::Result<Bytes>>());
    let requests = (0..FLOOD).map(|_| {
        let (registry, request) = (registry.clone(), client.request(line, never()));
        tokio::spawn(async move { registry.send(request).await })
    });
    let requests: Vec<_> = requests.collect();
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    still_waiting(requests).await
}

/// Those that have no answer. The others must have been told to come back later.
async fn still_waiting(requests: Vec<JoinHandle<Answer>>) -> Vec<JoinHandle<Answer>> {
    let (answered, waiting): (Vec<_>, Vec<_>) = requests.into_iter().partition(JoinHandle::is_finished);
    for answer in join_all(answered).await {
        let answer = answer.unwrap();
        assert_eq!(answer.refusal(), (429, "TOOMANYREQUESTS".into()));
        assert_eq!(answer.header("retry-after"), "1");
    }
    waiting
}

fn blob() -> String {
    format!("POST /v2/a/blobs/uploads/?digest={}", digest_of(b"bytes"))
}

async fn status(registry: &RegistryUnderTest, client: Client, line: &str, body: &'static str) -> u16 {
    registry.send(client.request(line, body.into())).await.status.as_u16()
}

#[tokio::test]
async fn a_user_who_takes_all_the_upload_slots_there_are_to_get_leaves_as_many_to_others() {
    let registry = RegistryUnderTest::guarded(Store::in_memory(), ALL_ON);
    let waiting = flood(&registry, ALICE, &blob()).await;
    assert_eq!(waiting.len(), 256);
    let bob = Client { user: Some("bob"), ..ALICE };
    assert_eq!(status(&registry, bob, &blob(), "bytes").await, 201, "an address is nobody's identity");
    assert_eq!(status(&registry, ALICE.at("10.0.0.2"), &blob(), "bytes").await, 429, "and alice is alice everywhere");
    waiting.iter().for_each(JoinHandle::abort);
    join_all(waiting).await;
    assert_eq!(status(&registry, ALICE, &blob(), "bytes").await, 201);
}

#[tokio::test]
async fn chunks_and_last_chunks_are_uploads_too() {
    let registry = RegistryUnderTest::guarded(Store::in_memory(), ALL_ON);
    for method in ["PATCH", "PUT"] {
        let started = registry.send(ALICE.request("POST /v2/a/blobs/uploads/", Body::empty())).await;
        let line = format!("{method} {}?digest={}", started.header("location"), digest_of(b"bytes"));
        let waiting = flood(&registry, ALICE, &line).await;
        assert_eq!(waiting.len(), 256, "{method}");
        waiting.iter().for_each(JoinHandle::abort);
        join_all(waiting).await;
    }
}

#[tokio::test]
async fn where_everyone_may_come_in_an_address_that_takes_all_it_can_leaves_as_much_to_others() {
    let registry = RegistryUnderTest::open();
    let greedy = Client::anonymous("2001:db8::1");
    assert_eq!(flood(&registry, greedy, &blob()).await.len(), 256);
    assert_eq!(
        status(&registry, greedy.at("2001:db8::2"), &blob(), "bytes").await,
        429,
        "the same host's next address"
    );
    assert_eq!(status(&registry, greedy.at("::ffff:10.0.0.1"), &blob(), "bytes").await, 201);
}

#[tokio::test(start_paused = true)]
async fn a_user_who_takes_all_the_manifest_slots_there_are_to_get_leaves_as_many_to_others() {
    let registry = RegistryUnderTest::guarded(Store::in_memory(), ALL_ON);
    let line = "PUT /v2/a/manifests/v1";
    let requests = flood(&registry, ALICE, line).await;
    assert_eq!(requests.len(), FLOOD, "they may have to wait for a moment only");
    let index = r#"{"schemaVersion":2,"manifests":[]}"#;
    assert_eq!(status(&registry, Client { user: Some("bob"), ..ALICE }, line, index).await, 201);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(still_waiting(requests).await.len(), 32, "those that have a slot");
    assert_eq!(status(&registry, ALICE, line, index).await, 429);
}

const GREEDY: [u8; 4] = [127, 0, 0, 1];
const OTHER: [u8; 4] = [127, 0, 0, 2];

/// Opens many connections from one address, of which none asks for anything. Gives back how many are kept, and the connections.
async fn crowd(address: std::net::SocketAddr, connections: usize) -> (usize, Vec<TcpStream>) {
    let mut crowd = Vec::new();
    for _ in 0..connections {
        crowd.push(connect_from(GREEDY, address).await);
    }
    // Who comes from elsewhere stands behind all of them in the kernel's queue, and is served as soon as it is their turn.
    let answer = exchange_from(OTHER, address, b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = tokio::time::timeout(Duration::from_secs(2), answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
    let is_kept = |stream: &&TcpStream| {
        stream.try_read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    (crowd.iter().filter(is_kept).count(), crowd)
}

#[tokio::test]
async fn an_address_that_opens_all_the_connections_it_can_leaves_as_many_to_others() {
    let served = served(Limits { connections: 40, ..Limits::default() }).await;
    let (kept, mut crowd) = crowd(served.address, 100).await;
    assert_eq!(kept, 20);
    let first = crowd.first_mut().unwrap();
    first.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(crate::served::read_to_end(first).await.0.starts_with("HTTP/1.1 200"), "and those it has are good");
    drop(crowd);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(exchange_from(GREEDY, served.address, b"GET /v2/ HTTP/1.0\r\n\r\n").await.contains("200 OK"));
}

#[tokio::test]
async fn an_address_that_crowds_the_port_for_probes_does_not_keep_the_probes_out() {
    let admin = Admin {
        readiness: Readiness::not_yet("a test"),
        metrics: Arc::default(),
        access: Arc::new(Access::new(None).unwrap()),
        upload_keys: Arc::new(UploadKeys::secret("secret")),
        certificate: None,
        honoured: Arc::default(),
        last_collection: Default::default(),
    };
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let listener = Listener { tcp, tls: None, limits: Limits::of_probes() };
    tokio::spawn(serve(listener, admin::router(admin), std::future::pending(), Duration::ZERO));
    assert_eq!(crowd(address, 200).await.0, 32);
}

#[tokio::test]
async fn a_flood_of_logins_from_one_address_does_not_keep_another_from_logging_in() {
    let registry = RegistryUnderTest::new(Store::in_memory(), Arc::new(access()), ALL_ON);
    let served = served_as(registry, Limits { connections: 1000, ..Limits::default() }).await;
    let login = |password: &str| {
        let authorization = basic("alice", password);
        format!("GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {authorization}\r\n\r\n")
    };
    let flood = (0..300).map(|n| {
        let (address, login) = (served.address, login(&format!("guess{n}")));
        tokio::spawn(async move { exchange_from(GREEDY, address, login.as_bytes()).await })
    });
    let flood: Vec<_> = flood.collect();
    // Until the first of them have been told that there are too many.
    while !flood.iter().any(JoinHandle::is_finished) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let answer = exchange_from(OTHER, served.address, login("secret").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(flood.iter().any(|guess| !guess.is_finished()), "the flood was still there");
    let answers: Vec<_> = join_all(flood).await.into_iter().map(Result::unwrap).collect();
    let put_off = answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 429")).count();
    assert!(put_off >= 200, "{put_off}");
}
