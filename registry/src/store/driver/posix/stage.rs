//! Values that grow in `tmp/` before they have a key.

use std::fs::{self, File};
use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use ulid::Ulid;

use super::durability::Durability;
use super::{Posix, Shared, found};
use crate::store::driver::Stage;
use crate::store::error::{Result, StoreError};
use crate::store::layout::Key;

pub(super) const DIRECTORY: &str = "tmp";

/// A name in `tmp/` that nobody had before.
fn path_of(root: &Path) -> PathBuf {
    root.join(DIRECTORY).join(Ulid::generate().to_string())
}

/// A file in `tmp/` that is removed when it is dropped before it has a name of its own.
#[derive(Debug)]
pub(super) struct FileStage {
    /// `None`: it has moved.
    path: Option<PathBuf>,
    /// `None`: a write failed.
    file: Option<File>,
}

impl FileStage {
    pub(super) fn begin(root: &Path) -> io::Result<Self> {
        let path = path_of(root);
        let file = File::create_new(&path)?;
        Ok(Self { path: Some(path), file: Some(file) })
    }

    /// One that holds a whole value.
    pub(super) fn holding(root: &Path, value: &[u8]) -> io::Result<Self> {
        let stage = Self::begin(root)?;
        stage.file()?.write_all(value)?;
        Ok(stage)
    }

    pub(super) const fn of(self, posix: Posix, key: Key) -> PosixStage {
        PosixStage { posix, key, stage: self }
    }

    fn file(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(earlier_write_failed)
    }

    pub(super) fn sync(&self, durability: &Durability) -> io::Result<()> {
        durability.sync(self.file()?)
    }

    /// Moves the file to its name, which is not durable yet.
    pub(super) fn name(mut self, durability: &Durability, to: &Path) -> io::Result<()> {
        if let Some(from) = &self.path {
            durability.make(to, || fs::rename(from, to))?;
        }
        self.path = None;
        Ok(())
    }

    /// Moves the file to its name. Its bytes are durable before anybody sees it.
    fn publish(self, durability: &Durability, to: &Path) -> io::Result<()> {
        self.sync(durability)?;
        self.name(durability, to)?;
        durability.wrote(to);
        Ok(())
    }
}

fn earlier_write_failed() -> io::Error {
    io::Error::other("an earlier write of this blob failed")
}

impl Drop for FileStage {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // What cannot be removed now is swept later.
            let _ = fs::remove_file(path);
        }
    }
}

/// A [`FileStage`] of a directory in use.
#[derive(Debug)]
pub(super) struct PosixStage {
    posix: Posix,
    key: Key,
    stage: FileStage,
}

#[async_trait]
impl Stage for PosixStage {
    async fn write(&mut self, pieces: Vec<Bytes>) -> Result<()> {
        // Back only when the write on the pool has succeeded.
        let file = self.stage.file.take().ok_or_else(earlier_write_failed);
        let mut file = file.map_err(|error| StoreError::io("write a blob", error))?;
        let written = self.posix.on_pool("write a blob", move |_| {
            write_all(&mut file, &pieces)?;
            Ok(file)
        });
        self.stage.file = Some(written.await?);
        Ok(())
    }

    async fn publish(self: Box<Self>) -> Result<()> {
        let Self { posix, key, stage } = *self;
        let to = posix.path(&key);
        posix.on_pool(format!("write {key}"), move |shared| stage.publish(&shared.durability, &to)).await
    }
}

/// Pieces are as small as what a socket gave at a time; together they take one system call.
fn write_all(file: &mut File, pieces: &[Bytes]) -> io::Result<()> {
    let pieces = pieces.iter().filter(|piece| !piece.is_empty());
    let mut slices: Vec<_> = pieces.map(|piece| IoSlice::new(piece)).collect();
    let mut left = slices.as_mut_slice();
    while !left.is_empty() {
        match file.write_vectored(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut left, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes the bytes of `parts` one after another. `false`: a part is gone.
pub(super) fn join(shared: &Shared, parts: &[PathBuf], to: &Path) -> io::Result<bool> {
    let stage = FileStage::begin(&shared.root)?;
    let mut whole = stage.file()?;
    for part in parts {
        let Some(mut part) = found(File::open(part))? else { return Ok(false) };
        // copy_file_range(2): blocks are shared where the file system can, and copied in the kernel where it cannot.
        io::copy(&mut part, &mut whole)?;
    }
    stage.publish(&shared.durability, to)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_written_one_after_another_however_many_and_however_small() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let pieces: Vec<Bytes> = (0..5000_usize).map(|n| vec![(n % 251) as u8; n % 7].into()).collect();
        write_all(&mut file.reopen().unwrap(), &pieces).unwrap();
        assert!(fs::read(file.path()).unwrap() == pieces.concat());
        write_all(&mut file.reopen().unwrap(), &[]).unwrap();
    }
}
