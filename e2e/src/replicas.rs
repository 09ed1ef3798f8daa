//! Several registries behind one address. They are replicas of each other if they keep their bytes in one place.

use anyhow::{Context as _, Result, ensure};

use crate::http::Client;
use crate::registry_process::{RegistryProcess, Security, Storage};
use crate::round_robin::RoundRobin;

/// Running replicas. They are killed when this is dropped.
#[derive(Debug)]
pub struct Replicas {
    /// Each of them, to do to it what a test needs.
    pub each: Vec<RegistryProcess>,
    proxy: RoundRobin,
}

impl Replicas {
    /// Starts so many over plain HTTP and waits until they are ready. They share what they store where the storage is a place that
    /// is there already.
    ///
    /// # Errors
    /// When one of them does not become ready.
    pub async fn start(count: usize, storage: Storage<'_>) -> Result<Self> {
        let mut each = Vec::new();
        for _ in 0..count {
            each.push(RegistryProcess::start(storage, Security::None).await?);
        }
        let proxy = RoundRobin::start(each.iter().map(RegistryProcess::address).collect()).await?;
        Ok(Self { each, proxy })
    }

    /// `HOST:PORT` that they are all behind.
    pub fn host(&self) -> String {
        self.proxy.address().to_string()
    }

    /// A client of them all.
    pub const fn client(&self) -> Client {
        Client::plain(self.proxy.address())
    }

    /// Asks them to end, and looks at what they leave with `berth-registry check`.
    ///
    /// # Errors
    /// When one does not end well, or anything is wrong with what they leave.
    pub async fn end_well(&mut self) -> Result<()> {
        for registry in &mut self.each {
            let status = registry.terminate().await?;
            ensure!(status.success(), "SIGTERM: {status}\n{}", registry.log_end());
        }
        let check = self.each.first().context("no replicas")?.check()?;
        let (out, err) = (String::from_utf8_lossy(&check.stdout), String::from_utf8_lossy(&check.stderr));
        ensure!(check.status.success(), "berth-registry check: {}\n{out}{err}", check.status);
        Ok(())
    }
}
