//! A registry behind a socket, and words for talking to it byte by byte.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use berth_oci::Digest;
use berth_registry::serve::{Limits, Listener, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::registry_under_test::RegistryUnderTest;

pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) registry: RegistryUnderTest,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) ended: JoinHandle<usize>,
}

pub(crate) async fn served(limits: Limits) -> Served {
    served_as(RegistryUnderTest::open(), limits).await
}

pub(crate) async fn served_as(registry: RegistryUnderTest, limits: Limits) -> Served {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let listener = Listener { tcp, tls: None, limits };
    let shutdown = async move { drop(stopped.await) };
    let ended = tokio::spawn(serve(listener, registry.router.clone(), shutdown, Duration::from_secs(2)));
    Served { address, registry, stop, ended }
}

impl Served {
    pub(crate) async fn push_large_blob(&self, size: usize) -> Digest {
        let blob: &'static [u8] = Box::leak(vec![b'x'; size].into_boxed_slice());
        self.registry.push_blob("a", blob).await
    }
}

/// What comes until the other side closes, and how long that took.
pub(crate) async fn read_to_end(stream: &mut TcpStream) -> (String, Duration) {
    let begun = Instant::now();
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes)).await.unwrap();
    (String::from_utf8_lossy(&bytes).into_owned(), begun.elapsed())
}

pub(crate) async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    exchange_from([127, 0, 0, 1], address, request).await
}

/// From another address of this machine.
pub(crate) async fn exchange_from(from: [u8; 4], address: SocketAddr, request: &[u8]) -> String {
    let mut stream = connect_from(from, address).await;
    stream.write_all(request).await.unwrap();
    read_to_end(&mut stream).await.0
}

pub(crate) async fn read_some(stream: &mut TcpStream) -> String {
    let mut bytes = vec![0; 4096];
    let length = stream.read(&mut bytes).await.unwrap();
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

pub(crate) async fn connect_from(from: [u8; 4], address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect(address).await.unwrap()
}
