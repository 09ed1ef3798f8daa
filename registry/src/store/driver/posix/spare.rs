//! Room for what must be written when the disk is full: the few small files of a collection, without which nothing would ever be
//! freed, and the lock of a deletion.
//!
//! It is some files in `spare/` that are given up one by one. Several, because a file system may be out of inodes and not of bytes,
//! and because whoever pushes at that moment takes what is given up, too.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

pub(super) const DIRECTORY: &str = "spare";

const FILES: usize = 16;
/// In bytes. A batch of the dead may be as long as all of them, though most are much shorter. A collection that runs out of room has
/// written some batches by then, and begins again with what these name.
const EACH: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct Spare {
    directory: PathBuf,
}

impl Spare {
    pub(super) fn new(root: &Path) -> Self {
        Self { directory: root.join(DIRECTORY) }
    }

    /// Puts aside what is not there. Where there is no room for that there is nothing to be done.
    pub(super) fn fill(&self) -> io::Result<()> {
        match self.put_aside() {
            Err(error) if is_full(&error) => Ok(()),
            done => done,
        }
    }

    fn put_aside(&self) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        for number in 0..FILES {
            let path = self.directory.join(number.to_string());
            let Ok(file) = File::create_new(&path) else { continue };
            if let Err(error) = allocate(&file) {
                fs::remove_file(path)?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Does something that must be possible on a full disk.
    pub(super) fn make_room_for<T>(&self, mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        for number in (0..FILES).rev() {
            match work() {
                Err(error) if is_full(&error) => {}
                done => return done,
            }
            // One that is gone was given up before.
            let _ = fs::remove_file(self.directory.join(number.to_string()));
        }
        work()
    }
}

fn allocate(file: &File) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, EACH as u64) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => io::Write::write_all(&mut &*file, &vec![0; EACH]),
        done => Ok(done?),
    }
}

/// Whether there is no room, of whatever kind.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_aside_is_given_up_file_by_file_and_put_aside_again() {
        let root = tempfile::tempdir().unwrap();
        let spare = Spare::new(root.path());
        let count = || fs::read_dir(root.path().join(DIRECTORY)).unwrap().count();
        spare.fill().unwrap();
        spare.fill().unwrap();
        assert_eq!(count(), FILES);
        assert_eq!(fs::metadata(root.path().join(DIRECTORY).join("0")).unwrap().len(), EACH as u64);

        let mut tries = 0;
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let third = spare.make_room_for(|| {
            tries += 1;
            if tries == 3 { Ok(tries) } else { Err(full()) }
        });
        assert_eq!((third.unwrap(), count()), (3, FILES - 2));
        assert_eq!(spare.make_room_for(|| Err::<(), _>(full())).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(count(), 0);
        spare.fill().unwrap();
        assert_eq!(count(), FILES);
        let other = spare.make_room_for(|| Err::<(), _>(io::ErrorKind::PermissionDenied.into()));
        assert_eq!((other.unwrap_err().kind(), count()), (io::ErrorKind::PermissionDenied, FILES));
    }
}
