//! A directory held open, and what the agent does in one.
//!
//! Every operation is relative to the open directory and takes a single name, and no symbolic link is ever followed: what
//! others put on a node's disk cannot lead the agent, which is root, out of its tree. Knows nothing of registries.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

/// The name of what is half-made or half-removed, in any directory; whoever finds it may remove it. One name is enough: a
/// node has one writer at a time.
pub(super) const STAGED: &str = ".berth-tmp";

const OPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// An open directory.
#[derive(Debug)]
pub(super) struct Directory(OwnedFd);

/// A file's bytes and permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    pub(super) mode: u32,
}

impl Directory {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(rustix::fs::openat(CWD, path, OPEN, Mode::empty())?))
    }

    /// The directory of this name; `None` when there is none. Anything else of this name is an error.
    pub(super) fn child(&self, name: &str) -> io::Result<Option<Self>> {
        match rustix::fs::openat(&self.0, single(name)?, OPEN, Mode::empty()) {
            Ok(fd) => Ok(Some(Self(fd))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What lies under this name, without following it.
    pub(super) fn kind(&self, name: &str) -> io::Result<Option<FileType>> {
        match rustix::fs::statat(&self.0, single(name)?, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn create_child(&self, name: &str) -> io::Result<Self> {
        rustix::fs::mkdirat(&self.0, single(name)?, Mode::from_raw_mode(0o755))?;
        let child = self.child(name)?.ok_or(io::ErrorKind::NotFound)?;
        // The process's umask had its say above.
        rustix::fs::fchmod(&child.0, Mode::from_raw_mode(0o755))?;
        Ok(child)
    }

    pub(super) fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.0)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The regular file of this name; `None` when there is none.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<Content>> {
        // Without NONBLOCK, a FIFO of this name would hang the agent.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = match rustix::fs::openat(&self.0, single(name)?, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stat = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is not a regular file")));
        }
        let mut bytes = Vec::new();
        File::from(fd).read_to_end(&mut bytes)?;
        Ok(Some(Content { bytes, mode: stat.st_mode & 0o7777 }))
    }

    /// Puts a file in place at once and durably: a reader sees the old one or the new one.
    pub(super) fn write(&self, name: &str, content: &Content) -> io::Result<()> {
        self.remove_file(STAGED)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.0, STAGED, flags, Mode::from_raw_mode(0o600))?;
        let mut file = File::from(fd);
        file.write_all(&content.bytes)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(content.mode))?;
        file.sync_all()?;
        rustix::fs::renameat(&self.0, STAGED, &self.0, single(name)?)?;
        self.sync()
    }

    /// Gives a child another name, unless that is taken.
    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        rustix::fs::renameat_with(&self.0, single(from)?, &self.0, single(to)?, RenameFlags::NOREPLACE)?;
        self.sync()
    }

    /// Removes a file; there may be none.
    pub(super) fn remove_file(&self, name: &str) -> io::Result<()> {
        self.unlink(name, AtFlags::empty())
    }

    /// Removes an empty directory; there may be none.
    pub(super) fn remove_directory(&self, name: &str) -> io::Result<()> {
        self.unlink(name, AtFlags::REMOVEDIR)
    }

    fn unlink(&self, name: &str, flags: AtFlags) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.0, single(name)?, flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes what was created and removed in it durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.0)?)
    }

    /// Whether both are one directory of the disk.
    pub(super) fn is_same_as(&self, other: &Self) -> io::Result<bool> {
        let (one, two) = (rustix::fs::fstat(&self.0)?, rustix::fs::fstat(&other.0)?);
        Ok((one.st_dev, one.st_ino) == (two.st_dev, two.st_ino))
    }

    /// Takes the lock that only one process can hold; `false` when another has it. It lasts as long as `self`.
    pub(super) fn try_lock(&self) -> io::Result<bool> {
        match rustix::fs::flock(&self.0, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// `name`, if it is a name and no path.
fn single(name: &str) -> io::Result<&str> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is not the name of a file")));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbolic_links_and_paths_are_refused() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "s").unwrap();
        let inside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), inside.path().join("link")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), inside.path().join("file")).unwrap();
        let directory = Directory::open(inside.path()).unwrap();
        assert!(directory.child("link").is_err());
        assert!(directory.read("file").is_err());
        assert!(Directory::open(&inside.path().join("link")).is_err());
        for name in ["", ".", "..", "a/b", "/etc", "../x"] {
            assert!(directory.child(name).is_err(), "{name:?}");
            assert!(directory.write(name, &Content { bytes: vec![], mode: 0o644 }).is_err(), "{name:?}");
            assert!(directory.create_child(name).is_err(), "{name:?}");
        }
        // A write replaces a link, never what it points to.
        directory.write("file", &Content { bytes: b"new".to_vec(), mode: 0o644 }).unwrap();
        assert_eq!(std::fs::read(outside.path().join("secret")).unwrap(), b"s");
        assert_eq!(std::fs::read(inside.path().join("file")).unwrap(), b"new");
    }

    #[test]
    fn only_one_holds_the_lock() {
        let place = tempfile::tempdir().unwrap();
        let (one, two) = (Directory::open(place.path()).unwrap(), Directory::open(place.path()).unwrap());
        assert!(one.try_lock().unwrap());
        assert!(!two.try_lock().unwrap());
        drop(one);
        assert!(two.try_lock().unwrap());
    }
}
