//! Sockets: TCP and TLS in, requests out to a service, and an end in good order. It knows neither axum nor any route.
//!
//! | room | what lives there |
//! |---|---|
//! | `listen` | addresses, and accepting with patience and by turns |
//! | `tls` | the serving certificate, read again when it changes |
//! | `connection` | one connection from handshake to close |
//! | `activity`, `timed_io` | how a connection that stands still or trickles is noticed |
//! | `signals` | when to stop |

mod activity;
mod connection;
mod listen;
mod signals;
mod timed_io;
mod tls;

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::listen::Acceptor;
pub use self::listen::{BindError, bind};
pub use self::signals::{Stop, stop_signal};
pub use self::tls::{Certificate, TlsError, server_config};
use crate::fairness::Source;

/// Who is at the other end of the connection that a request came over. In the request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

impl Peer {
    /// With whom it shares what there is for each.
    pub fn source(self) -> Source {
        self.0.ip().into()
    }
}

/// How long and how many.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; whoever comes later waits in the kernel's queue. Of one [`Source`] no more are kept than it
    /// leaves free for others; what it opens beyond that is closed at once.
    pub connections: usize,
    /// From connecting to the end of the TLS handshake.
    pub handshake: Duration,
    /// From the first byte of a request's header to its last.
    pub header: Duration,
    /// Between two requests of a connection.
    pub idle: Duration,
    /// For a peer that takes nothing of what we have for it.
    pub stall: Duration,
    /// Over which a peer must have taken 1 KiB a second of each answer.
    pub trickle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: listen::connections_that_fit(),
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(10),
            idle: Duration::from_secs(90),
            stall: Duration::from_secs(60),
            trickle: Duration::from_secs(60),
        }
    }
}

impl Limits {
    /// For health and metrics: small answers to few, none of whom has a reason to keep a connection.
    pub const fn of_probes() -> Self {
        let (short, patient) = (Duration::from_secs(5), Duration::from_secs(10));
        Self { connections: 64, handshake: short, header: short, idle: short, stall: patient, trickle: patient }
    }
}

/// Where connections come from.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub tcp: TcpListener,
    /// TLS, or plain HTTP without it.
    pub tls: Option<Arc<ServerConfig>>,
    /// The limits of each connection and of all of them.
    pub limits: Limits,
}

/// A service that [`serve`] can give requests to.
pub trait Service<B>:
    tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

impl<S, B> Service<B> for S where
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// Answers requests with `service` until `shutdown` comes; then accepts no more connections and lets requests in progress
/// finish for as long as `drain`. Whatever still runs after that is cut off. Returns how many connections that were.
pub async fn serve<S, B>(listener: Listener, service: S, shutdown: impl Future<Output = ()>, drain: Duration) -> usize
where
    S: Service<B>,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let Listener { tcp, tls, limits } = listener;
    let mut acceptor = Acceptor::new(tcp, limits.connections);
    let (stopping, stop) = watch::channel(false);
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            (place, stream, peer) = acceptor.accept() => {
                let connection = connection::Connection { peer, limits, tls: tls.clone(), stop: stop.clone() };
                let service = service.clone();
                connections.spawn(async move {
                    connection.run(stream, service).await;
                    drop(place);
                });
            }
        }
    }
    drop(acceptor);
    let _ = stopping.send(true);
    let drained = tokio::time::timeout(drain, async { while connections.join_next().await.is_some() {} });
    if drained.await.is_err() {
        tracing::warn!(connections = connections.len(), "cut off, because they did not finish in time");
    }
    connections.len()
}
