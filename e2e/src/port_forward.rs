//! A way into a cluster whose addresses this machine does not reach: `kubectl port-forward`, as the README has it.

use std::net::SocketAddr;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tempfile::NamedTempFile;

use crate::cluster;

/// How long `kubectl` may take to say where it listens.
const PATIENCE: Duration = Duration::from_secs(30);

/// One pod of a Service, at an address of this machine. It ends when dropped, or when the pod does.
pub struct PortForward {
    kubectl: Child,
    said: NamedTempFile,
    /// Where it listens.
    pub address: SocketAddr,
}

impl PortForward {
    /// To `port` of a Service.
    ///
    /// # Errors
    /// When no pod of it is there.
    pub fn to_service(namespace: &str, service: &str, port: u16) -> Result<Self> {
        // Into a file: a pipe that nobody reads would fill up, and one that is closed would end it.
        let said = NamedTempFile::new()?;
        let arguments = ["-n", namespace, "port-forward", &format!("service/{service}"), &format!(":{port}")];
        let kubectl = cluster::spawn("kubectl", &arguments, said.reopen()?)?;
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut forward = Self { kubectl, said, address };
        forward.address = forward.wait()?;
        Ok(forward)
    }

    /// Whether it goes on.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.kubectl.try_wait(), Ok(None))
    }

    fn wait(&mut self) -> Result<SocketAddr> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = std::fs::read_to_string(self.said.path())?;
            let at = said.lines().find_map(|line| line.strip_prefix("Forwarding from ")?.split(' ').next());
            if let Some(address) = at.filter(|address| address.starts_with("127.")) {
                return address.parse().with_context(|| said.clone());
            }
            ensure!(self.is_alive() && Instant::now() < deadline, "kubectl port-forward: {said}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for PortForward {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}
