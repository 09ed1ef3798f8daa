//! The sorted names of one directory, because readdir(3) gives them unsorted and a page must not cost a whole directory.
//!
//! Derived from the directory and nothing more: it is built when a page is first asked for, kept up by this process's own
//! writes, and read again, at most once a second, when the directory's time shows that somebody else wrote.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry};
use std::io;
use std::ops::Bound;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use super::{Page, found};

#[derive(Debug)]
pub(super) struct Names {
    directory: PathBuf,
    names: BTreeSet<Box<str>>,
    read: Option<Read>,
}

#[derive(Debug)]
struct Read {
    at: Instant,
    modified: Option<SystemTime>,
}

/// What this process did to a name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Added,
    Removed,
}

/// How long another process's write may stay unseen.
const FRESH: Duration = Duration::from_secs(1);

impl Names {
    pub(super) const fn new(directory: PathBuf) -> Self {
        Self { directory, names: BTreeSet::new(), read: None }
    }

    pub(super) fn page(&mut self, after: Option<&str>, limit: usize) -> io::Result<Page<String>> {
        self.refresh()?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.names.range::<str, _>((from, Bound::Unbounded));
        let items: Vec<String> = rest.by_ref().take(limit).map(ToString::to_string).collect();
        Ok(Page { items, more: rest.next().is_some() })
    }

    /// Keeps the names up with a write of this process, so that it is listed by the very next request.
    pub(super) fn note(&mut self, name: &str, change: Change) {
        match change {
            Change::Added => self.names.insert(name.into()),
            Change::Removed => self.names.remove(name),
        };
    }

    fn refresh(&mut self) -> io::Result<()> {
        if self.read.as_ref().is_some_and(|read| read.at.elapsed() < FRESH) {
            return Ok(());
        }
        let modified = found(fs::metadata(&self.directory))?.map(|directory| directory.modified()).transpose()?;
        let at = Instant::now();
        if self.read.as_ref().is_none_or(|read| read.modified != modified) {
            self.names = match found(fs::read_dir(&self.directory))? {
                Some(entries) => entries.map(|entry| Ok(name_of(&entry?).into())).collect::<io::Result<_>>()?,
                None => BTreeSet::new(),
            };
        }
        self.read = Some(Read { at, modified });
        Ok(())
    }
}

/// A name as text. What is not text cannot be ours, and no parser of ours takes it.
pub(super) fn name_of(entry: &DirEntry) -> String {
    entry.file_name().to_string_lossy().into_owned()
}
