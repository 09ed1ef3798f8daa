//! Ports for servers that a test starts.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// How long a server may take until it listens.
const PATIENCE: Duration = Duration::from_secs(60);

/// A port of `ip` that nobody listens on.
///
/// Not one that the kernel gives to outgoing connections (`ip_local_port_range` begins at 32768): while a server is down,
/// a client that tries to reach it from the very port it listens on would be connected to itself.
///
/// # Errors
/// When hundreds in a row are taken.
pub fn free_port(ip: IpAddr) -> Result<u16> {
    let candidates = std::iter::repeat_with(|| fastrand::u16(10_000..32_000)).take(500);
    candidates.into_iter().find(|port| TcpListener::bind((ip, *port)).is_ok()).context("no free port was found")
}

/// Waits until `server` listens on `address`.
///
/// # Errors
/// When it ends, or takes too long.
pub fn wait_until_it_listens(server: &mut Child, address: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_err() {
        let status = server.try_wait()?;
        ensure!(status.is_none(), "the server ended before it listened on {address}: {status:?}");
        ensure!(Instant::now() < deadline, "nobody listens on {address} after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
