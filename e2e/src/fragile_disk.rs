//! A file system that can lose its power: what was not synced is gone afterwards, or torn, or there, as it happens.
//!
//! It lives in the memory of the test and is mounted by FUSE. It promises what POSIX does and nothing more: the bytes of a file
//! are durable from its fsync on, a name from that of its directory on, a rename is whole or not at all. What real file systems
//! do beyond that (an order among renames, names that come with the file's fsync) it does not do, so who survives it relies on
//! none of that.

mod disk;
mod fault;
mod mounted;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use fastrand::Rng;
use fuser::{BackgroundSession, Config, MountOption};
use tempfile::TempDir;

use disk::Disk;
pub use disk::Loss;
pub use fault::Fault;
use mounted::Mounted;

/// A mounted disk. It is unmounted when this is dropped.
#[derive(Debug)]
pub struct FragileDisk {
    // Before the folder that it is mounted on.
    session: Option<BackgroundSession>,
    disk: Arc<Mutex<Disk>>,
    folder: TempDir,
}

/// As it stands in /proc/mounts.
const NAME: &str = "berth-fragile-disk";

impl FragileDisk {
    /// Mounts an empty one.
    ///
    /// # Errors
    /// Where one may not mount, or there is no FUSE.
    pub fn mount() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix(NAME).tempdir()?;
        let disk = Arc::new(Mutex::new(Disk::default()));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName(NAME.into()), MountOption::NoDev, MountOption::NoSuid];
        let mounted = Mounted::new(Arc::clone(&disk));
        let session =
            fuser::spawn_mount(mounted, folder.path(), &config).context("a FUSE file system cannot be mounted")?;
        Ok(Self { session: Some(session), disk, folder })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Loses the power. Nobody may have anything open on it.
    pub fn cut_power(&self, random: &mut Rng) -> Loss {
        self.disk().cut_power(random)
    }

    /// From now on it cannot do something, or, with `None`, everything again.
    pub fn fail(&self, fault: Option<Fault>) {
        self.disk().fault = fault;
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FragileDisk {
    fn drop(&mut self) {
        if let Some(session) = self.session.take()
            && let Err(error) = session.umount_and_join()
        {
            eprintln!("{} stays mounted: {error}", self.folder.path().display());
        }
    }
}
