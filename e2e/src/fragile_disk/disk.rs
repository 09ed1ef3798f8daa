//! What is there, and what would be there after a power cut. Pure: no kernel, no mount.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::time::SystemTime;

use fastrand::Rng;
use fuser::Errno;

use super::fault::{Fault, Operation};

/// What names lead to.
pub(super) type Ino = u64;
/// The directory that is always there.
pub(super) const ROOT: Ino = 1;
/// What a disk writes at a time.
const BLOCK: usize = 4096;

type Result<T> = std::result::Result<T, Errno>;
type Names = BTreeMap<OsString, Ino>;

/// Files and directories.
#[derive(Debug)]
pub(super) struct Disk {
    inodes: HashMap<Ino, Inode>,
    last: Ino,
    /// Changes of names that no fsync has made durable, in their order.
    pending: Vec<Change>,
    /// What it cannot do at the moment.
    pub(super) fault: Option<Fault>,
}

/// A file or a directory.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) content: Content,
    /// When it was last given a name, or bytes.
    pub(super) changed: SystemTime,
}

/// What is in it.
#[derive(Debug)]
pub(super) enum Content {
    File { bytes: Vec<u8>, synced: Arc<Vec<u8>>, dirty: bool },
    Directory { names: Names, synced: Names },
}

/// Names that change together.
#[derive(Debug)]
struct Change(Vec<(Ino, OsString, Option<Ino>)>);

/// What a power cut took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Changes of names that had not been synced.
    pub changes: usize,
    /// Of which so many were lost.
    pub lost: usize,
    /// Files that kept other bytes than they had.
    pub torn: usize,
}

impl std::ops::AddAssign for Loss {
    fn add_assign(&mut self, more: Self) {
        self.changes += more.changes;
        self.lost += more.lost;
        self.torn += more.torn;
    }
}

impl Default for Disk {
    fn default() -> Self {
        let root = Inode::new(Content::Directory { names: Names::new(), synced: Names::new() });
        Self { inodes: HashMap::from([(ROOT, root)]), last: ROOT, pending: Vec::new(), fault: None }
    }
}

impl Inode {
    fn new(content: Content) -> Self {
        Self { content, changed: SystemTime::now() }
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self.content, Content::Directory { .. })
    }

    pub(super) fn size(&self) -> u64 {
        match &self.content {
            Content::File { bytes, .. } => bytes.len() as u64,
            Content::Directory { .. } => 0,
        }
    }
}

impl Disk {
    /// Whether it can do that at the moment.
    pub(super) fn can(&self, operation: Operation) -> Result<()> {
        self.fault.map_or(Ok(()), |fault| fault.of(operation))
    }

    pub(super) fn get(&self, ino: Ino) -> Result<&Inode> {
        self.inodes.get(&ino).ok_or(Errno::ENOENT)
    }

    fn get_mut(&mut self, ino: Ino) -> Result<&mut Inode> {
        self.inodes.get_mut(&ino).ok_or(Errno::ENOENT)
    }

    fn names(&self, directory: Ino) -> Result<&Names> {
        match &self.get(directory)?.content {
            Content::Directory { names, .. } => Ok(names),
            Content::File { .. } => Err(Errno::ENOTDIR),
        }
    }

    pub(super) fn lookup(&self, directory: Ino, name: &OsStr) -> Result<Ino> {
        self.names(directory)?.get(name).copied().ok_or(Errno::ENOENT)
    }

    /// Every name in a directory, with whether it leads to another one.
    pub(super) fn list(&self, directory: Ino) -> Result<Vec<(Ino, bool, OsString)>> {
        let names = self.names(directory)?.iter();
        names.map(|(name, ino)| Ok((*ino, self.get(*ino)?.is_directory(), name.clone()))).collect()
    }

    pub(super) fn create(&mut self, directory: Ino, name: &OsStr, is_directory: bool) -> Result<Ino> {
        if self.names(directory)?.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let content = if is_directory {
            Content::Directory { names: Names::new(), synced: Names::new() }
        } else {
            Content::File { bytes: Vec::new(), synced: Arc::default(), dirty: false }
        };
        self.last += 1;
        self.inodes.insert(self.last, Inode::new(content));
        self.change(vec![(directory, name.to_owned(), Some(self.last))])?;
        Ok(self.last)
    }

    pub(super) fn link(&mut self, ino: Ino, directory: Ino, name: &OsStr) -> Result<()> {
        if self.names(directory)?.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let inode = self.get_mut(ino)?;
        inode.changed = SystemTime::now();
        self.change(vec![(directory, name.to_owned(), Some(ino))])
    }

    pub(super) fn remove(&mut self, directory: Ino, name: &OsStr, is_directory: bool) -> Result<()> {
        let ino = self.lookup(directory, name)?;
        match (is_directory, self.names(ino)) {
            (true, Ok(names)) if !names.is_empty() => return Err(Errno::ENOTEMPTY),
            (true, Err(_)) => return Err(Errno::ENOTDIR),
            (false, Ok(_)) => return Err(Errno::EISDIR),
            _ => {}
        }
        // Who has it open reads on; its memory is free after the next power cut.
        self.change(vec![(directory, name.to_owned(), None)])
    }

    pub(super) fn rename(&mut self, from: (Ino, &OsStr), to: (Ino, &OsStr)) -> Result<()> {
        let ino = self.lookup(from.0, from.1)?;
        let replaced = self.lookup(to.0, to.1).ok();
        if replaced.is_some_and(|replaced| self.names(replaced).is_ok()) {
            return Err(Errno::EISDIR);
        }
        self.get_mut(ino)?.changed = SystemTime::now();
        if replaced == Some(ino) {
            return Ok(());
        }
        self.change(vec![(from.0, from.1.to_owned(), None), (to.0, to.1.to_owned(), Some(ino))])
    }

    fn change(&mut self, places: Vec<(Ino, OsString, Option<Ino>)>) -> Result<()> {
        for (directory, name, ino) in &places {
            let Content::Directory { names, .. } = &mut self.get_mut(*directory)?.content else {
                return Err(Errno::ENOTDIR);
            };
            set(names, name, *ino);
        }
        self.pending.push(Change(places));
        Ok(())
    }

    pub(super) fn read(&self, ino: Ino, offset: u64, size: u32) -> Result<&[u8]> {
        let Content::File { bytes, .. } = &self.get(ino)?.content else { return Err(Errno::EISDIR) };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        Ok(&bytes[start..bytes.len().min(start + size as usize)])
    }

    pub(super) fn write(&mut self, ino: Ino, offset: u64, data: &[u8]) -> Result<()> {
        let (bytes, start) = (self.bytes(ino)?, usize::try_from(offset).map_err(|_| Errno::EFBIG)?);
        if bytes.len() < start + data.len() {
            bytes.resize(start + data.len(), 0);
        }
        bytes[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }

    pub(super) fn truncate(&mut self, ino: Ino, size: u64) -> Result<()> {
        let size = usize::try_from(size).map_err(|_| Errno::EFBIG)?;
        self.bytes(ino)?.resize(size, 0);
        Ok(())
    }

    /// The bytes of a file, to be changed.
    fn bytes(&mut self, ino: Ino) -> Result<&mut Vec<u8>> {
        let inode = self.get_mut(ino)?;
        inode.changed = SystemTime::now();
        let Content::File { bytes, dirty, .. } = &mut inode.content else { return Err(Errno::EISDIR) };
        *dirty = true;
        Ok(bytes)
    }

    /// fsync(2) of a file: its bytes are durable, its names are not.
    pub(super) fn sync_file(&mut self, ino: Ino) -> Result<()> {
        let Content::File { bytes, synced, dirty } = &mut self.get_mut(ino)?.content else { return Err(Errno::EISDIR) };
        if std::mem::take(dirty) {
            *synced = Arc::new(bytes.clone());
        }
        Ok(())
    }

    /// fsync(2) of a directory: its names are durable.
    pub(super) fn sync_directory(&mut self, directory: Ino) -> Result<()> {
        self.names(directory)?;
        // From the last to the first: what a durable change builds on in another directory is durable with it.
        let (mut durable, mut pending, mut built_on) = (Vec::new(), Vec::new(), HashSet::new());
        for change in std::mem::take(&mut self.pending).into_iter().rev() {
            let places = || change.0.iter().map(|(touched, name, _)| (*touched, name.clone()));
            if places().any(|place| place.0 == directory || built_on.contains(&place)) {
                built_on.extend(places());
                durable.push(change);
            } else {
                pending.push(change);
            }
        }
        self.pending = pending.into_iter().rev().collect();
        durable.into_iter().rev().for_each(|change| self.make_durable(change));
        Ok(())
    }

    fn make_durable(&mut self, Change(places): Change) {
        for (directory, name, ino) in places {
            // A directory that is gone by now takes its names with it.
            if let Some(Inode { content: Content::Directory { synced, .. }, .. }) = self.inodes.get_mut(&directory) {
                set(synced, &name, ino);
            }
        }
    }

    /// What was synced stays. Of the rest, each change of names stays or not, and each file has what it had when it was synced,
    /// what it has now, or something in between.
    pub(super) fn cut_power(&mut self, random: &mut Rng) -> Loss {
        let pending = std::mem::take(&mut self.pending);
        let mut loss = Loss { changes: pending.len(), ..Loss::default() };
        // Sometimes nearly all is lost, and sometimes nearly nothing.
        let kept = random.f64();
        for change in pending {
            if random.f64() < kept {
                self.make_durable(change);
            } else {
                loss.lost += 1;
            }
        }
        let old = std::mem::take(&mut self.inodes);
        // New numbers, so that nothing that the kernel remembers of the old ones is taken for the new.
        let mut moved = HashMap::new();
        self.keep(ROOT, ROOT, &old, &mut moved, random, &mut loss);
        loss
    }

    /// Keeps what `was` held as `is`, and all that it leads to.
    fn keep(
        &mut self,
        was: Ino,
        is: Ino,
        old: &HashMap<Ino, Inode>,
        moved: &mut HashMap<Ino, Ino>,
        random: &mut Rng,
        loss: &mut Loss,
    ) {
        let Some(inode) = old.get(&was) else { return };
        let content = match &inode.content {
            Content::File { bytes, synced, dirty } => {
                let kept = if *dirty { torn(bytes, synced, random) } else { bytes.clone() };
                loss.torn += usize::from(kept != *bytes);
                Content::File { synced: Arc::new(kept.clone()), bytes: kept, dirty: false }
            }
            Content::Directory { synced, .. } => {
                let mut names = Names::new();
                for (name, ino) in synced.iter().filter(|(_, ino)| old.contains_key(ino)) {
                    let is = moved.get(ino).copied().unwrap_or_else(|| {
                        self.last += 1;
                        let is = self.last;
                        moved.insert(*ino, is);
                        self.keep(*ino, is, old, moved, random, loss);
                        is
                    });
                    names.insert(name.clone(), is);
                }
                Content::Directory { synced: names.clone(), names }
            }
        };
        self.inodes.insert(is, Inode { content, changed: inode.changed });
    }
}

fn set(names: &mut Names, name: &OsStr, ino: Option<Ino>) {
    match ino {
        Some(ino) => names.insert(name.to_owned(), ino),
        None => names.remove(name),
    };
}

/// What may be found of bytes that were being written over `synced`.
fn torn(bytes: &[u8], synced: &[u8], random: &mut Rng) -> Vec<u8> {
    match random.u8(..4) {
        0 => bytes.to_vec(),
        1 => synced.to_vec(),
        2 => bytes[..random.usize(..=bytes.len())].to_vec(),
        // It has its size, and blocks that never came are what was on the disk before.
        _ => {
            let mut torn = bytes.to_vec();
            for block in torn.chunks_mut(BLOCK) {
                match random.u8(..3) {
                    0 => block.fill(0),
                    1 => random.fill(block),
                    _ => {}
                }
            }
            torn
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(disk: &mut Disk, directory: Ino, name: &str, bytes: &[u8]) -> Ino {
        let ino = disk.create(directory, name.as_ref(), false).unwrap();
        disk.write(ino, 0, bytes).unwrap();
        ino
    }

    fn read(disk: &Disk, directory: Ino, name: &str) -> Option<Vec<u8>> {
        let ino = disk.lookup(directory, name.as_ref()).ok()?;
        Some(disk.read(ino, 0, u32::MAX).unwrap().to_vec())
    }

    /// What is found after power cuts of a thousand kinds.
    fn outcomes<T: Ord>(story: impl Fn(&mut Disk), look: impl Fn(&Disk) -> T) -> std::collections::BTreeSet<T> {
        let outcome = |seed| {
            let mut disk = Disk::default();
            story(&mut disk);
            disk.cut_power(&mut Rng::with_seed(seed));
            look(&disk)
        };
        (0..1000).map(outcome).collect()
    }

    #[test]
    fn what_was_synced_with_its_directory_is_always_there() {
        let story = |disk: &mut Disk| {
            let ino = file(disk, ROOT, "a", b"bytes");
            disk.sync_file(ino).unwrap();
            disk.sync_directory(ROOT).unwrap();
        };
        assert_eq!(outcomes(story, |disk| read(disk, ROOT, "a")), [Some(b"bytes".to_vec())].into());
    }

    #[test]
    fn a_name_without_its_directorys_fsync_may_go_and_bytes_without_theirs_may_be_torn() {
        let unnamed = |disk: &mut Disk| {
            let ino = file(disk, ROOT, "a", b"bytes");
            disk.sync_file(ino).unwrap();
        };
        assert_eq!(outcomes(unnamed, |disk| read(disk, ROOT, "a")), [None, Some(b"bytes".to_vec())].into());
        let unsynced = |disk: &mut Disk| {
            file(disk, ROOT, "a", b"bytes");
            disk.sync_directory(ROOT).unwrap();
        };
        let found = outcomes(unsynced, |disk| read(disk, ROOT, "a").unwrap());
        for torn in [&b"bytes"[..], b"", b"byt", b"\0\0\0\0\0"] {
            assert!(found.contains(torn), "{torn:?}");
        }
    }

    #[test]
    fn a_rename_is_whole_or_not_at_all() {
        let story = |disk: &mut Disk| {
            let (old, new) = (file(disk, ROOT, "tag", b"old"), file(disk, ROOT, "staged", b"new"));
            disk.sync_file(old).unwrap();
            disk.sync_file(new).unwrap();
            disk.sync_directory(ROOT).unwrap();
            disk.rename((ROOT, "staged".as_ref()), (ROOT, "tag".as_ref())).unwrap();
        };
        let look = |disk: &Disk| (read(disk, ROOT, "tag"), read(disk, ROOT, "staged"));
        let (old, new) = (Some(b"old".to_vec()), Some(b"new".to_vec()));
        assert_eq!(outcomes(story, look), [(old, new.clone()), (new, None)].into());
    }

    #[test]
    fn what_is_in_a_directory_goes_with_the_directorys_own_name() {
        let story = |disk: &mut Disk| {
            let directory = disk.create(ROOT, "d".as_ref(), true).unwrap();
            let ino = file(disk, directory, "a", b"bytes");
            disk.sync_file(ino).unwrap();
            disk.sync_directory(directory).unwrap();
        };
        let look = |disk: &Disk| disk.lookup(ROOT, "d".as_ref()).ok().map(|directory| read(disk, directory, "a"));
        assert_eq!(outcomes(story, look), [None, Some(Some(b"bytes".to_vec()))].into());
    }

    #[test]
    fn of_two_changes_either_may_survive_the_other() {
        let story = |disk: &mut Disk| {
            file(disk, ROOT, "a", b"");
            file(disk, ROOT, "b", b"");
        };
        let look = |disk: &Disk| ["a", "b"].map(|name| disk.lookup(ROOT, name.as_ref()).is_ok());
        assert_eq!(outcomes(story, look).len(), 4);
    }
}
