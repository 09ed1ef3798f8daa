//! Values that grow in `tmp/` before they have a key.

use std::fs::{self, File};
use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use ulid::Ulid;

use super::{Posix, Shared, found};
use crate::store::driver::Stage;
use crate::store::error::{Result, StoreError};
use crate::store::layout::Key;

pub(super) const DIRECTORY: &str = "tmp";

/// A name in `tmp/` that nobody had before.
pub(super) fn path_of(root: &Path) -> PathBuf {
    root.join(DIRECTORY).join(Ulid::generate().to_string())
}

/// A file in `tmp/` that is removed when it is dropped before it has moved.
#[derive(Debug)]
pub(super) struct FileStage {
    path: PathBuf,
    file: Option<File>,
}

impl FileStage {
    pub(super) fn begin(root: &Path) -> io::Result<Self> {
        let path = path_of(root);
        let file = File::create_new(&path)?;
        Ok(Self { path, file: Some(file) })
    }

    pub(super) const fn of(self, posix: Posix, key: Key) -> PosixStage {
        PosixStage { posix, key, stage: self }
    }

    /// Takes the file, so that it can go to the pool. It is put back when the write there has succeeded.
    fn take(&mut self) -> io::Result<File> {
        self.file.take().ok_or_else(|| io::Error::other("an earlier write of this blob failed"))
    }

    /// Moves the file to its name. Its bytes are durable before anybody sees it, its name not yet.
    fn publish(&mut self, shared: &Shared, to: &Path) -> io::Result<()> {
        let file = self.take()?;
        shared.durability.sync(&file)?;
        shared.durability.make(to, || fs::rename(&self.path, to))?;
        shared.durability.wrote(to);
        Ok(())
    }
}

impl Drop for FileStage {
    fn drop(&mut self) {
        // After a move there is nothing here. What cannot be removed now is swept later.
        let _ = fs::remove_file(&self.path);
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
        let mut file = self.stage.take().map_err(|error| StoreError::io("write a blob", error))?;
        let written = self.posix.on_pool("write a blob", move |_| {
            write_all(&mut file, &pieces)?;
            Ok(file)
        });
        self.stage.file = Some(written.await?);
        Ok(())
    }

    async fn publish(self: Box<Self>) -> Result<()> {
        let Self { posix, key, mut stage } = *self;
        let to = posix.path(&key);
        posix.clone().on_pool(format!("write {key}"), move |shared| stage.publish(shared, &to)).await
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

/// Writes a whole value into `tmp/` and syncs it, for a rename to follow.
pub(super) fn write_whole(shared: &Shared, value: &[u8]) -> io::Result<PathBuf> {
    let mut stage = FileStage::begin(&shared.root)?;
    let mut file = stage.take()?;
    file.write_all(value)?;
    shared.durability.sync(&file)?;
    // The caller moves the file away at once; until then the sweep would take care of it.
    Ok(std::mem::take(&mut stage.path))
}

/// Writes the bytes of `parts` one after another. `false`: a part is gone.
pub(super) fn join(shared: &Shared, parts: &[PathBuf], to: &Path) -> io::Result<bool> {
    let mut stage = FileStage::begin(&shared.root)?;
    let mut whole = stage.take()?;
    for part in parts {
        let Some(mut part) = found(File::open(part))? else { return Ok(false) };
        // copy_file_range(2): blocks are shared where the file system can, and copied in the kernel where it cannot.
        io::copy(&mut part, &mut whole)?;
    }
    stage.file = Some(whole);
    stage.publish(shared, to)?;
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
