//! The sorted names of one directory, because readdir(3) gives them unsorted and a page must not cost a whole directory.
//!
//! Derived from the directory and nothing more: it is built when a page is first asked for, kept up by this process's own
//! writes, and read again when the directory's time shows that somebody else wrote: a small one each time, so that what one
//! replica has written the next one lists, and a large one at most once a second.

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
    /// With what stands behind them in keys, which counts for the order.
    names: BTreeSet<Box<str>>,
    behind: &'static str,
    read: Option<Read>,
}

#[derive(Debug)]
struct Read {
    at: Instant,
    modified: Option<SystemTime>,
    /// Whether a later write would have shown in `modified`.
    settled: bool,
}

/// What this process did to a name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Added,
    Removed,
}

/// How long another process's write may stay unseen where there are more than `SMALL` names.
const FRESH: Duration = Duration::from_secs(1);

/// So many names are read as fast as a page of them is written out.
const SMALL: usize = 1000;

/// What file systems may count time in. A write in the same tick as a look at the directory does not change its time.
const TICK: Duration = Duration::from_secs(2);

impl Names {
    /// Of directories if `behind` is a slash, of files if it is nothing.
    pub(super) const fn new(directory: PathBuf, behind: &'static str) -> Self {
        Self { directory, names: BTreeSet::new(), behind, read: None }
    }

    pub(super) fn page(&mut self, after: Option<&str>, limit: usize) -> io::Result<Page<String>> {
        self.refresh()?;
        let after = after.map(|after| format!("{after}{}", self.behind));
        let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.names.range::<str, _>((from, Bound::Unbounded));
        let items = rest.by_ref().take(limit).map(|name| name.trim_end_matches(self.behind).to_owned()).collect();
        Ok(Page { items, more: rest.next().is_some() })
    }

    /// Keeps the names up with a write of this process, so that it is listed by the very next request.
    pub(super) fn note(&mut self, name: &str, change: Change) {
        let name = format!("{name}{}", self.behind);
        match change {
            Change::Added => self.names.insert(name.into()),
            Change::Removed => self.names.remove(name.as_str()),
        };
    }

    fn refresh(&mut self) -> io::Result<()> {
        if self.names.len() > SMALL && self.read.as_ref().is_some_and(|read| read.at.elapsed() < FRESH) {
            return Ok(());
        }
        let modified = found(fs::metadata(&self.directory))?.map(|directory| directory.modified()).transpose()?;
        let (at, now) = (Instant::now(), SystemTime::now());
        let settled = modified.is_none_or(|modified| now.duration_since(modified).is_ok_and(|age| age > TICK));
        if self.read.as_ref().is_none_or(|read| !read.settled || read.modified != modified) {
            self.names = match found(fs::read_dir(&self.directory))? {
                Some(entries) => {
                    let name = |entry| Ok(format!("{}{}", name_of(&entry), self.behind).into());
                    entries.map(|entry| entry.and_then(name)).collect::<io::Result<_>>()?
                }
                None => BTreeSet::new(),
            };
        }
        self.read = Some(Read { at, modified, settled });
        Ok(())
    }
}

/// A name as text. What is not text cannot be ours, and no parser of ours takes it.
pub(super) fn name_of(entry: &DirEntry) -> String {
    entry.file_name().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_process_has_written_or_removed_is_listed_at_once_where_there_are_few_names() {
        let directory = tempfile::tempdir().unwrap();
        let mut names = Names::new(directory.path().to_owned(), "");
        assert!(names.page(None, 10).unwrap().items.is_empty());
        for number in 0..50 {
            fs::write(directory.path().join(format!("{number:02}")), "").unwrap();
            assert_eq!(names.page(None, 100).unwrap().items.len(), number + 1);
        }
        fs::remove_file(directory.path().join("00")).unwrap();
        assert_eq!(names.page(None, 100).unwrap().items.first().unwrap(), "01");
    }

    #[test]
    fn a_large_directory_is_read_again_once_a_second_at_most() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..=SMALL {
            fs::write(directory.path().join(format!("{number:04}")), "").unwrap();
        }
        let mut names = Names::new(directory.path().to_owned(), "");
        names.page(None, 10).unwrap();
        let read_at = |names: &Names| names.read.as_ref().unwrap().at;
        let first = read_at(&names);
        while first.elapsed() < FRESH / 2 {
            fs::write(directory.path().join(format!("z{:?}", first.elapsed())), "").unwrap();
            names.page(None, 10).unwrap();
            assert!(read_at(&names) == first || first.elapsed() >= FRESH);
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(FRESH);
        names.page(None, 10).unwrap();
        assert_ne!(read_at(&names), first);
    }

    #[test]
    fn a_write_that_does_not_change_the_directorys_time_is_listed_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let mut names = Names::new(directory.path().to_owned(), "");
        fs::write(directory.path().join("a"), "").unwrap();
        assert_eq!(names.page(None, 10).unwrap().items, ["a"]);
        let modified = fs::metadata(directory.path()).unwrap().modified().unwrap();
        fs::write(directory.path().join("b"), "").unwrap();
        fs::File::open(directory.path()).unwrap().set_modified(modified).unwrap();
        std::thread::sleep(FRESH + Duration::from_millis(50));
        assert_eq!(names.page(None, 10).unwrap().items, ["a", "b"]);
    }
}
