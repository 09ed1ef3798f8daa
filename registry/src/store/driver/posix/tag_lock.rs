//! Locks between those who write a tag and those who remove it only if it still says what they read.
//!
//! flock(2) on one of 256 files: it holds between threads, between processes, and between machines on NFS 4.1. Writers share
//! it, so they do not wait for each other; the rename decides between them.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};

pub(super) const DIRECTORY: &str = "lock";

#[derive(Debug)]
pub(super) struct TagLocks {
    directory: PathBuf,
}

/// Held until it is dropped.
#[derive(Debug)]
pub(super) struct TagLock(#[expect(dead_code, reason = "closing the file releases the lock")] File);

impl TagLocks {
    /// The directory must be there before anything is locked.
    pub(super) fn new(root: &Path) -> Self {
        Self { directory: root.join(DIRECTORY) }
    }

    pub(super) fn shared(&self, tag: &Path) -> io::Result<TagLock> {
        self.lock(tag, FlockOperation::LockShared)
    }

    pub(super) fn exclusive(&self, tag: &Path) -> io::Result<TagLock> {
        self.lock(tag, FlockOperation::LockExclusive)
    }

    fn lock(&self, tag: &Path, operation: FlockOperation) -> io::Result<TagLock> {
        // A hash that no version will ever change: replicas of two versions must pick the same file.
        let name = tag.file_name().unwrap_or_default().as_encoded_bytes();
        let [stripe, ..] = <[u8; 32]>::from(Sha256::digest(name));
        let stripe = self.directory.join(format!("{stripe:02x}"));
        let file = File::options().read(true).write(true).create(true).truncate(false).open(stripe)?;
        rustix::fs::flock(&file, operation)?;
        Ok(TagLock(file))
    }
}
