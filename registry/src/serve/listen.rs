//! Addresses, and accepting with patience.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use berth_contract::config::Addr;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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

/// The next connection, once there is room for it.
pub(super) async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> (Option<OwnedSemaphorePermit>, TcpStream, SocketAddr) {
    // The semaphore is never closed; were it, there would be no limit, which is better than no registry.
    let permit = Arc::clone(permits).acquire_owned().await.ok();
    let mut pause = Duration::from_millis(5);
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Small answers would wait for the acknowledgement of earlier ones.
                let _ = stream.set_nodelay(true);
                return (permit, stream, peer);
            }
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

fn is_the_peers_doing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
