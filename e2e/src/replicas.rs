//! Several registries that keep their bytes in one place, behind one address.

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
    /// Starts so many over plain HTTP and waits until they are ready. The storage must be one that they can share.
    ///
    /// # Errors
    /// When one of them does not become ready.
    pub async fn start(count: usize, storage: Storage<'_>) -> Result<Self> {
        ensure!(matches!(storage, Storage::At(_) | Storage::Bucket(_)), "every replica would have its own storage");
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
