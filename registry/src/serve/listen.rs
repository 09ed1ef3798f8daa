//! Addresses, and accepting with patience and by turns.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use berth_contract::config::Addr;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::Peer;
use crate::fairness::{Admitted, ConcurrencyLimit, Source};

/// Nobody can listen at an address.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {addr}: {source}")]
pub struct BindError {
    addr: String,
    source: io::Error,
}

/// Listens at `addr`. Without a host that is every address of the machine, over IPv6 and IPv4 where it has both.
///
/// # Errors
/// When the address is none of ours, taken, or not an address.
pub async fn bind(addr: &Addr) -> Result<TcpListener, BindError> {
    let listener = match addr.0.strip_prefix(':') {
        // `[::]` takes IPv4 connections too; a machine without IPv6 refuses it.
        Some(port) => match TcpListener::bind(format!("[::]:{port}")).await {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                TcpListener::bind(format!("0.0.0.0:{port}")).await
            }
            bound => bound,
        },
        None => TcpListener::bind(&addr.0).await,
    };
    listener.map_err(|source| BindError { addr: addr.0.clone(), source })
}

/// As many connections as there are file descriptors for, each with one for its socket and one for a file.
pub(super) fn connections_that_fit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // The soft limit is low for the sake of programs that use select(2), and there for others to raise.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    let limit = if raised { maximum } else { current }.unwrap_or(u64::MAX);
    usize::try_from(limit.saturating_sub(128) / 2).unwrap_or(usize::MAX).clamp(16, 16_384)
}

/// Unsent bytes that the kernel keeps for a connection. Its own limit is some megabytes for each client that takes nothing, and
/// what it keeps looks to us as if the client had taken it. It asks for more when half of this is sent: a client that takes
/// that in the time in which it must take something has taken 1 KiB a second.
const UNSENT: u32 = 128 << 10;

/// How long nothing more is said of peers that have their share.
const SAID: Duration = Duration::from_secs(60);

/// Accepts connections for as long as there is room.
pub(super) struct Acceptor {
    tcp: TcpListener,
    permits: Arc<Semaphore>,
    by_source: ConcurrencyLimit<Source>,
    said: Option<Instant>,
}

/// The place of a connection, until it is dropped.
pub(super) type Place = (Option<OwnedSemaphorePermit>, Admitted<Source>);

impl Acceptor {
    pub(super) fn new(tcp: TcpListener, connections: usize) -> Self {
        let (permits, by_source) = (Arc::new(Semaphore::new(connections)), ConcurrencyLimit::new(connections));
        Self { tcp, permits, by_source, said: None }
    }

    /// The next connection, once there is room for it. Whose source has its share already is closed: it cannot wait in the
    /// kernel's queue without keeping out those behind it.
    pub(super) async fn accept(&mut self) -> (Place, TcpStream, SocketAddr) {
        // The semaphore is never closed; were it, there would be no limit, which is better than no registry.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        let mut pause = Duration::from_millis(5);
        loop {
            match self.tcp.accept().await {
                Ok((stream, peer)) => match self.by_source.admit(Peer(peer).source()) {
                    Some(admitted) => {
                        prepare(&stream);
                        return ((permit, admitted), stream, peer);
                    }
                    None => self.refused(peer),
                },
                Err(error) if is_the_peers_doing(&error) => {}
                Err(error) => {
                    // Out of file descriptors or memory: accepting at once again would only spin.
                    tracing::error!(%error, "cannot accept connections");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
            }
        }
    }

    fn refused(&mut self, peer: SocketAddr) {
        if self.said.is_none_or(|said| said.elapsed() > SAID) {
            self.said = Some(Instant::now());
            tracing::warn!(%peer, "a connection was closed, because its address has as many as it leaves to others");
        }
    }
}

/// Neither can fail in a way that matters: the connection would be slower, or cost more.
fn prepare(stream: &TcpStream) {
    // Small answers would wait for the acknowledgement of earlier ones.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT);
}

fn is_the_peers_doing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
