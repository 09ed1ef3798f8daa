//! Ports for servers that a test starts.

use std::net::{IpAddr, TcpListener};

use anyhow::{Context as _, Result};

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
