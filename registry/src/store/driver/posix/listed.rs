//! What small directories hold, as they were when they were last read: a list then costs one system call instead of five.
//!
//! It is good as long as the directory has not changed, which its ctime says of a local file system; whatever changes a name in it
//! changes that, and nobody can set it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

/// Directories that are remembered, by their paths.
#[derive(Debug)]
pub(super) struct Listed(Cache<PathBuf, Arc<Directory>, Length>);

#[derive(Debug)]
struct Directory {
    state: State,
    names: Vec<String>,
}

/// A directory at a moment. Another one with the same name is another inode, or younger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

/// A directory as it was before it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    state: State,
    /// Whether a change since then would show.
    is_settled: bool,
}

/// How many bytes of names and paths are kept.
const KEPT: u64 = 4 << 20;
/// A larger one is read each time.
const MOST_NAMES: usize = 64;
/// What file systems may count time in: a change in the same tick as a look at the directory does not change its time.
const TICK: Duration = Duration::from_secs(2);

/// Local file systems, by what statfs(2) calls them: ext4, XFS, Btrfs, tmpfs, F2FS. Elsewhere another machine's clock may give the
/// times, or another machine make the changes.
const LOCAL: [i64; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0xf2f5_2010];

#[derive(Clone, Copy, Debug)]
struct Length;

impl Weighter<PathBuf, Arc<Directory>> for Length {
    fn weight(&self, path: &PathBuf, directory: &Arc<Directory>) -> u64 {
        let names: usize = directory.names.iter().map(|name| name.len() + 24).sum();
        (path.as_os_str().len() + names + 128) as u64
    }
}

impl State {
    fn of(directory: &Metadata) -> Self {
        let changed = (directory.ctime(), directory.ctime_nsec());
        Self { device: directory.dev(), inode: directory.ino(), changed }
    }

    /// Whether a later change would show.
    fn is_settled(&self) -> bool {
        let (seconds, nanos) = self.changed;
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(seconds), u32::try_from(nanos)) else { return false };
        let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
        SystemTime::now().duration_since(changed).is_ok_and(|age| age > TICK)
    }
}

impl Listed {
    /// `None`: a directory's time says too little on this kind of file system.
    pub(super) fn on(file_system: i64) -> Option<Self> {
        LOCAL.contains(&file_system).then(|| Self(Cache::with_weighter(8192, KEPT, Length)))
    }

    /// The names in a directory that is so now, or what to [`keep`](Self::keep) them with when they have been read.
    pub(super) fn names(&self, path: &Path, now: &Metadata, limit: usize) -> Result<Vec<String>, Seen> {
        let state = State::of(now);
        match self.0.get(path) {
            Some(known) if known.state == state => Ok(known.names.iter().take(limit).cloned().collect()),
            // Not later: this thread may stand still between reading and keeping.
            _ => Err(Seen { state, is_settled: state.is_settled() }),
        }
    }

    /// Remembers all names of a directory that were read after it was looked at.
    pub(super) fn keep(&self, path: PathBuf, seen: Seen, names: &[String]) {
        if names.len() <= MOST_NAMES && seen.is_settled {
            self.0.insert(path, Arc::new(Directory { state: seen.state, names: names.to_vec() }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn state(path: &Path) -> State {
        State::of(&fs::metadata(path).unwrap())
    }

    fn seen(path: &Path) -> Seen {
        Seen { state: state(path), is_settled: state(path).is_settled() }
    }

    fn look(listed: &Listed, path: &Path) -> Option<Vec<String>> {
        listed.names(path, &fs::metadata(path).unwrap(), 10).ok()
    }

    #[test]
    fn what_is_remembered_of_a_directory_is_good_until_something_in_it_changes() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("a"), "").unwrap();
        let listed = Listed::on(LOCAL[0]).unwrap();
        let names = ["a".to_owned()];
        listed.keep(path.clone(), seen(&path), &names);
        assert_eq!(look(&listed, &path), None, "a change in the same tick would not show");

        std::thread::sleep(TICK + Duration::from_millis(100));
        listed.keep(path.clone(), seen(&path), &names);
        assert_eq!(look(&listed, &path).as_deref(), Some(&names[..]));
        for change in [
            Box::new(|| fs::write(path.join("b"), "").unwrap()) as Box<dyn Fn()>,
            Box::new(|| fs::rename(path.join("b"), path.join("c")).unwrap()),
            Box::new(|| fs::hard_link(path.join("c"), path.join("d")).unwrap()),
            Box::new(|| fs::remove_file(path.join("c")).unwrap()),
            Box::new(|| {
                fs::remove_dir_all(&path).unwrap();
                fs::create_dir(&path).unwrap();
            }),
        ] {
            // As if it had been remembered a moment ago, however young.
            listed.0.insert(path.clone(), Arc::new(Directory { state: state(&path), names: names.to_vec() }));
            assert!(look(&listed, &path).is_some());
            std::thread::sleep(Duration::from_millis(20));
            change();
            assert_eq!(look(&listed, &path), None);
        }
    }

    #[test]
    fn nothing_is_remembered_of_a_file_system_that_is_not_local() {
        assert!(Listed::on(0x6969).is_none(), "NFS");
        assert!(Listed::on(0x6573_5546).is_none(), "FUSE");
    }
}
