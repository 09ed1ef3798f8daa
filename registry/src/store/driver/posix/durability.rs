//! What has reached the disk, and how it gets there.
//!
//! A file is durable when its bytes are synced and so is every directory on the way that gained a name. One process
//! remembers what it has made durable, so that relying on it again costs nothing; what another process wrote is synced by
//! whoever relies on it. All names are made first and synced afterwards: one journal commit then serves many.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::found;
use super::stage::FileStage;

#[derive(Debug)]
pub(super) struct Durability {
    root: PathBuf,
    known: Mutex<Known>,
    hasher: RandomState,
    syncs: AtomicU64,
}

/// Hashes of the paths of files, and of what directories are, that are durable. When one generation is full the one before it
/// is forgotten, which costs a sync that was not needed and nothing else.
#[derive(Debug, Default)]
struct Known {
    young: HashSet<u64>,
    old: HashSet<u64>,
    /// How often something was unlearned. Who began before it may have seen a directory that is gone by now, and must not
    /// teach that its name is durable.
    forgotten: u64,
}

const GENERATION: usize = 50_000;

impl Durability {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf(), known: Mutex::default(), hasher: RandomState::new(), syncs: AtomicU64::new(0) }
    }

    pub(super) fn begin(&self) -> Pending<'_> {
        let forgotten = self.known.lock().unwrap_or_else(PoisonError::into_inner).forgotten;
        Pending {
            of: self,
            forgotten,
            files: Vec::new(),
            directories: BTreeSet::new(),
            lost_names: Vec::new(),
            durable: Vec::new(),
        }
    }

    /// How often fsync(2) was called, for tests that count.
    #[cfg(test)]
    pub(super) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Removes a directory if nothing is in it. Whoever makes it again syncs its name again.
    pub(super) fn remove_if_empty(&self, directory: &Path) {
        let hash = self.directory(directory);
        {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.forgotten += 1;
            if let Some(hash) = hash {
                known.young.remove(&hash);
                known.old.remove(&hash);
            }
        }
        // Most are not empty, and that is no error.
        let _ = fs::remove_dir(directory);
    }

    /// Writes new files that may be lost, and torn, by a power cut.
    pub(super) fn leave(&self, values: &[(PathBuf, Bytes)]) -> io::Result<()> {
        values.iter().try_for_each(|(path, value)| self.name(path, self.stage(value)?))
    }

    /// Writes a value under no name of its own yet; an empty one needs none.
    fn stage(&self, value: &[u8]) -> io::Result<Option<FileStage>> {
        (!value.is_empty()).then(|| FileStage::holding(&self.root, value)).transpose()
    }

    fn name(&self, path: &Path, staged: Option<FileStage>) -> io::Result<()> {
        match staged {
            Some(staged) => staged.name(self, path),
            // One that is there is the same: two requests may end one upload at the same time.
            None => self.make(path, || File::options().append(true).create(true).open(path)).map(drop),
        }
    }

    /// Makes a name, and the directory that it goes into where that is missing: an empty one may be removed at any moment.
    pub(super) fn make<T>(&self, path: &Path, mut make: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let mut tries = 0;
        loop {
            match make() {
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < 10 => tries += 1,
                done => return done,
            }
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
        }
    }

    pub(super) fn sync(&self, file: &File) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        file.sync_all()
    }

    /// For bytes that have been synced under a name that has not.
    pub(super) fn wrote(&self, path: &Path) {
        let bytes = self.bytes_of(path);
        self.known.lock().unwrap_or_else(PoisonError::into_inner).add(&[bytes]);
    }

    fn knows(&self, hash: u64) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.young.contains(&hash) || known.old.contains(&hash)
    }

    fn file(&self, path: &Path) -> u64 {
        self.hasher.hash_one(path)
    }

    /// A directory by what it is, and not only by its name: another process may have removed it when it was empty, and somebody
    /// made it again without having synced that yet. An inode's number may be the same then, its birth is not. (Where the file
    /// system tells no birth, the number has to do.)
    fn directory(&self, path: &Path) -> Option<u64> {
        let status = statx(CWD, path, AtFlags::empty(), StatxFlags::INO | StatxFlags::BTIME).ok()?;
        Some(self.hasher.hash_one((path, status.stx_ino, status.stx_btime.tv_sec, status.stx_btime.tv_nsec)))
    }

    fn bytes_of(&self, path: &Path) -> u64 {
        self.hasher.hash_one((path, "bytes"))
    }
}

impl Known {
    fn add(&mut self, hashes: &[u64]) {
        if self.young.len() + hashes.len() > GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.extend(hashes);
    }
}

/// Names that were made, or are relied on, and are not yet known to be durable.
pub(super) struct Pending<'a> {
    of: &'a Durability,
    forgotten: u64,
    files: Vec<File>,
    directories: BTreeSet<PathBuf>,
    /// What the directories were that lost a name, by [`Durability::directory`]: another one may have their place by now.
    lost_names: Vec<(PathBuf, Option<u64>)>,
    durable: Vec<u64>,
}

impl Pending<'_> {
    /// Syncs the nearest directory above that is there.
    fn sync_above(&self, directory: &Path) -> io::Result<()> {
        for above in directory.ancestors().skip(1).take_while(|above| above.starts_with(&self.of.root)) {
            if let Some(above) = found(File::open(above))? {
                return self.of.sync(&above);
            }
        }
        Ok(())
    }

    /// Writes new files. All bytes are synced before any has its name: a name that came through a power cut without its bytes
    /// would be a value that nobody can tell from a damaged one.
    pub(super) fn create(&mut self, values: &[(PathBuf, Bytes)]) -> io::Result<()> {
        let staged = values.iter().map(|(_, value)| self.of.stage(value)).collect::<io::Result<Vec<_>>>()?;
        staged.iter().flatten().try_for_each(|staged| staged.sync(self.of))?;
        for ((path, _), staged) in values.iter().zip(staged) {
            self.of.name(path, staged)?;
            self.gained(path);
        }
        Ok(())
    }

    /// Removes a file, if it is there. One that is not may have been removed by somebody who has not synced that yet.
    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let Some(parent) = path.parent() else { return Ok(()) };
        if self.directories.insert(parent.to_path_buf()) {
            self.lost_names.push((parent.to_path_buf(), self.of.directory(parent)));
        }
        found(fs::remove_file(path))?;
        Ok(())
    }

    /// Makes sure that what another request, or another process, wrote is durable.
    pub(super) fn rely(&mut self, path: &Path) -> io::Result<()> {
        if self.of.knows(self.of.file(path)) {
            return Ok(());
        }
        // A file that is gone by now is found missing by the check that follows every reliance.
        if !self.of.knows(self.of.bytes_of(path))
            && let Some(file) = found(File::open(path))?
        {
            self.files.push(file);
        }
        self.gained(path);
        Ok(())
    }

    /// A name was made in the directory of `path`.
    pub(super) fn gained(&mut self, path: &Path) {
        self.durable.push(self.of.file(path));
        let Some(parent) = path.parent() else { return };
        self.directories.insert(parent.to_path_buf());
        // Directories on the way may be new too, or made by someone who has not synced them yet. None can go any more: the
        // name that was made is in them.
        let mut directory = parent;
        while directory != self.of.root {
            let hash = self.of.directory(directory);
            if hash.is_some_and(|hash| self.of.knows(hash)) {
                return;
            }
            self.durable.extend(hash);
            let Some(above) = directory.parent() else { return };
            self.directories.insert(above.to_path_buf());
            directory = above;
        }
    }

    /// Waits for the disk. An error is final: after a failed fsync nobody knows what the disk holds.
    pub(super) fn finish(self) -> io::Result<()> {
        for file in &self.files {
            self.of.sync(file)?;
        }
        for directory in &self.directories {
            if let Some(directory) = found(File::open(directory))? {
                self.of.sync(&directory)?;
            }
        }
        // A directory that is gone took its names with it, durably once that it is gone is.
        for (directory, was) in &self.lost_names {
            if self.of.directory(directory) != *was || was.is_none() {
                self.sync_above(directory)?;
            }
        }
        let mut known = self.of.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.forgotten == self.forgotten {
            known.add(&self.durable);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_removal_is_durable_whoever_made_it_and_whatever_became_of_its_directory() {
        let root = tempfile::tempdir().unwrap();
        let durability = Durability::new(root.path());
        let path = root.path().join("a/b/file");
        let syncs = |pending: Pending<'_>| {
            let before = durability.syncs();
            pending.finish().unwrap();
            durability.syncs() - before
        };
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut pending = durability.begin();
        pending.remove(&path).unwrap();
        assert_eq!(syncs(pending), 1, "another process has removed it: the directory");
        let mut pending = durability.begin();
        pending.remove(&path).unwrap();
        fs::remove_dir_all(root.path().join("a")).unwrap();
        assert_eq!(syncs(pending), 1, "the next directory that is there");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut pending = durability.begin();
        pending.remove(&path).unwrap();
        fs::remove_dir(path.parent().unwrap()).unwrap();
        // Longer than the clock that births are told by stands still.
        std::thread::sleep(Duration::from_millis(20));
        fs::create_dir(path.parent().unwrap()).unwrap();
        assert_eq!(syncs(pending), 2, "the directory that took its place, and the one above it");
    }

    #[test]
    fn a_directory_that_another_process_removed_is_made_and_synced_again() {
        let root = tempfile::tempdir().unwrap();
        let durability = Durability::new(root.path());
        let directory = root.path().join("a/b");
        let write = |name: &str| {
            let mut pending = durability.begin();
            pending.create(&[(directory.join(name), Bytes::new())]).unwrap();
            let before = durability.syncs();
            pending.finish().unwrap();
            durability.syncs() - before
        };
        assert_eq!(write("1"), 3, "a/b, a and the root");
        assert_eq!(write("2"), 1, "a/b");
        for made_again in [false, true] {
            // Longer than the clock that births are told by stands still.
            std::thread::sleep(Duration::from_millis(20));
            fs::remove_dir_all(root.path().join("a")).unwrap();
            if made_again {
                fs::create_dir_all(&directory).unwrap();
            }
            assert_eq!(write("3"), 3, "made again by the other process: {made_again}");
            assert_eq!(write("4"), 1);
            assert!(directory.join("3").exists());
        }
    }
}
