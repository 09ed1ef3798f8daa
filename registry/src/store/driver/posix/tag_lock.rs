//! Locks between those who write a tag and those who remove it only if it still says what they read.
//!
//! flock(2) on one of 256 files: it holds between threads, between processes, and between machines on NFS 4.1. Writers share
//! it, so they do not wait for each other; the rename decides between them.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

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
        // DefaultHasher::new() has fixed keys: every replica of one version picks the same file.
        let mut hasher = DefaultHasher::new();
        tag.file_name().hash(&mut hasher);
        let stripe = self.directory.join(format!("{:02x}", hasher.finish() & 0xff));
        let file = File::options().read(true).write(true).create(true).truncate(false).open(stripe)?;
        rustix::fs::flock(&file, operation)?;
        Ok(TagLock(file))
    }
}
