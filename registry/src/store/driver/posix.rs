//! A directory, local or shared by several replicas, as a place where bytes are kept.
//!
//! Beside the key tree the directory holds `tmp/`, where values grow before they have a key, and `lock/`, a fixed number of
//! empty files that tag writers lock, and `spare/`, which is given up when the disk is full. All may be lost at any time.
//!
//! Lookups run on the thread that asks: they are a few microseconds when the kernel has the directories cached, which is
//! less than it takes to hand them to the blocking pool. Everything that writes or waits for the disk runs on the pool, and on a
//! network file system lookups do: each is a request to a server.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use ulid::Ulid;

use super::content::FileReads;
use super::{Content, Driver, Page, Stage};
use crate::store::error::{Result, StoreError};
use crate::store::layout::{Key, Prefix, encode};

mod durability;
mod listed;
mod names;
mod network;
mod scan;
mod spare;
mod stage;
mod tag_lock;

use durability::Durability;
use listed::Listed;
use names::Names;
use network::{Network, UnshareableError};
use spare::Spare;
use stage::FileStage;
use tag_lock::TagLocks;

/// A directory in use.
#[derive(Clone, Debug)]
pub(crate) struct Posix {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    reads: FileReads,
    durability: Durability,
    /// `None`: all who use the directory are on this machine, or it is as if they were.
    network: Option<Network>,
    locks: TagLocks,
    spare: Spare,
    /// `None`: directories are read each time.
    listed: Option<Listed>,
    names: Mutex<HashMap<Prefix, Arc<Mutex<Names>>>>,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenPosixError {
    /// It cannot be made or written to.
    #[error(
        "{0} cannot be written to by this user (uid {1}): {2}. Give the directory to that user (in a Pod: set fsGroup)"
    )]
    Unwritable(PathBuf, u32, #[source] io::Error),
    /// It cannot be read.
    #[error("{0} cannot be read: {1}")]
    Unreadable(PathBuf, #[source] io::Error),
    /// It holds the data of another registry.
    #[error(
        "{0} holds the data of a distribution registry (docker/registry/v2). Berth keeps its data in another form and will \
         not mix with it: choose an empty directory, and copy the images over with a client (for example `skopeo sync`)"
    )]
    Distribution(PathBuf),
    /// It does not tell upper from lower case, so tags that differ in case would be one.
    #[error("{0} is on a file system that does not tell upper from lower case, as tags do. Choose another file system")]
    CaseInsensitive(PathBuf),
    /// Several registries are to use it, and it is mounted so that they cannot.
    #[error(transparent)]
    Unshareable(#[from] UnshareableError),
}

/// `TMPFS_MAGIC` of statfs(2): its files are memory and cannot block.
const TMPFS: i64 = 0x0102_1994;
/// What staging has not written to for so long belongs to a process that is gone.
const STALE: Duration = Duration::from_hours(24);

impl Posix {
    /// Makes sure that `root` can be used, and makes all that is there durable: only then may anything be relied on.
    pub(crate) fn open(root: &Path) -> std::result::Result<Self, OpenPosixError> {
        let unwritable =
            |error| OpenPosixError::Unwritable(root.to_path_buf(), rustix::process::geteuid().as_raw(), error);
        fs::create_dir_all(root).map_err(unwritable)?;
        if root.join("docker/registry/v2").exists() {
            return Err(OpenPosixError::Distribution(root.to_path_buf()));
        }
        fs::create_dir_all(root.join(stage::DIRECTORY)).map_err(unwritable)?;
        match tells_case(root) {
            Ok(true) => {}
            Ok(false) => return Err(OpenPosixError::CaseInsensitive(root.to_path_buf())),
            // What is there can be pulled, and deleted to make room.
            Err(error) if spare::is_full(&error) => tracing::warn!(root = %root.display(), "the disk is full"),
            Err(error) => return Err(unwritable(error)),
        }
        fs::create_dir_all(root.join(tag_lock::DIRECTORY)).map_err(unwritable)?;
        let directory = File::open(root).map_err(unwritable)?;
        rustix::fs::syncfs(&directory).map_err(|errno| unwritable(errno.into()))?;
        Ok(Self::of(root, &directory))
    }

    /// For looking only: writes nothing, and checks nothing that only writers need.
    pub(crate) fn open_to_read(root: &Path) -> std::result::Result<Self, OpenPosixError> {
        let directory = File::open(root).map_err(|error| OpenPosixError::Unreadable(root.to_path_buf(), error))?;
        Ok(Self::of(root, &directory))
    }

    fn of(root: &Path, directory: &File) -> Self {
        let file_system = rustix::fs::fstatfs(directory).map_or(0, |stat| stat.f_type);
        let shared = Shared {
            root: root.to_path_buf(),
            reads: if file_system == TMPFS { FileReads::Inline } else { FileReads::CachedInline },
            durability: Durability::new(root),
            network: Network::of(root),
            locks: TagLocks::new(root),
            spare: Spare::new(root),
            listed: Listed::on(file_system),
            names: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Makes sure that other processes may use the directory at the same time, on other machines too.
    pub(crate) fn share(&self) -> std::result::Result<(), UnshareableError> {
        match self.shared.network.as_ref().and_then(|network| network.unshareable.clone()) {
            Some(why) => Err(UnshareableError { root: self.shared.root.clone(), why }),
            None => Ok(()),
        }
    }

    /// As if the directory were on a network file system that can be shared.
    #[cfg(test)]
    pub(crate) fn open_as_on_a_network(root: &Path, staleness: Duration) -> Self {
        let shared = Arc::into_inner(Self::open(root).unwrap().shared).unwrap();
        let network = Some(Network { staleness, unshareable: None });
        Self { shared: Arc::new(Shared { network, ..shared }) }
    }

    /// How often fsync(2) was called.
    #[cfg(test)]
    pub(crate) fn syncs(&self) -> u64 {
        self.shared.durability.syncs()
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.shared.root.join(key.to_string())
    }

    fn directory(&self, prefix: &Prefix) -> PathBuf {
        self.shared.root.join(prefix.to_string())
    }

    /// Runs what may wait for the disk.
    async fn on_pool<T: Send + 'static>(
        &self,
        doing: impl std::fmt::Display + Send,
        work: impl FnOnce(&Shared) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        match tokio::task::spawn_blocking(move || work(&shared)).await {
            Ok(result) => result.map_err(|error| StoreError::io(doing, error)),
            Err(stopped) => Err(StoreError::other(doing, stopped)),
        }
    }

    /// Runs what only looks at something.
    async fn look<T: Send + 'static>(
        &self,
        doing: &'static str,
        at: &(impl std::fmt::Display + Sync),
        work: impl FnOnce(&Shared) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.shared.network.is_some() {
            return self.on_pool(format!("{doing} {at}"), work).await;
        }
        work(&self.shared).map_err(|error| StoreError::io(format_args!("{doing} {at}"), error))
    }

    /// The sorted names below a prefix, read again if another process changed them.
    fn names(&self, prefix: &Prefix) -> Arc<Mutex<Names>> {
        let mut all = self.shared.names.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_INDEXES && !all.contains_key(prefix) {
            all.clear();
        }
        let behind = if matches!(prefix, Prefix::Repositories) { "/" } else { "" };
        let names = || Arc::new(Mutex::new(Names::new(self.directory(prefix), behind)));
        Arc::clone(all.entry(prefix.clone()).or_insert_with(names))
    }

    /// Keeps the sorted names up with a write of this process.
    fn note(&self, key: &Key, change: names::Change) {
        let (prefix, name) = match key {
            Key::Tag { repository, tag } => (Prefix::Tags(repository.clone()), tag.to_string()),
            Key::Record { repository, .. } => (Prefix::Repositories, encode(repository.as_ref())),
            _ => return,
        };
        // Let go of all before one is waited for: it may be reading its directory.
        let names = self.shared.names.lock().unwrap_or_else(PoisonError::into_inner).get(&prefix).cloned();
        if let Some(names) = names {
            names.lock().unwrap_or_else(PoisonError::into_inner).note(&name, change);
        }
    }
}

impl Shared {
    /// Up to `limit` of the names in a directory.
    fn list(&self, directory: PathBuf, limit: usize) -> io::Result<Vec<String>> {
        let read = |limit| {
            let Some(entries) = self.entries(&directory)? else { return Ok(Vec::new()) };
            entries.take(limit).map(|entry| entry.map(|entry| names::name_of(&entry))).collect::<io::Result<Vec<_>>>()
        };
        let Some(listed) = &self.listed else { return read(limit) };
        let Some(now) = found(fs::metadata(&directory))? else { return Ok(Vec::new()) };
        match listed.names(&directory, &now, limit) {
            Ok(names) => Ok(names),
            Err(seen) => {
                let names = read(limit)?;
                // Otherwise there may be more.
                if names.len() < limit {
                    listed.keep(directory, seen, &names);
                }
                Ok(names)
            }
        }
    }

    /// What is in a directory now. `None`: there is none.
    fn entries(&self, directory: &Path) -> io::Result<Option<fs::ReadDir>> {
        self.look_anew(directory)?;
        found(fs::read_dir(directory))
    }

    /// Forgets what is remembered of a directory, if it has changed meanwhile.
    fn look_anew(&self, directory: &Path) -> io::Result<()> {
        if self.network.is_some() { Network::ask_server(directory) } else { Ok(()) }
    }
}

/// What is no part of the key tree.
const OWN_DIRECTORIES: [&str; 3] = [stage::DIRECTORY, tag_lock::DIRECTORY, spare::DIRECTORY];

/// Repositories whose sorted tags are kept at the same time. Beyond it all are forgotten and built again when asked for.
const MOST_INDEXES: usize = 1024;

#[async_trait]
impl Driver for Posix {
    async fn create(&self, values: Vec<(Key, Bytes)>, also: &[Key]) -> Result<()> {
        let (keys, values): (Vec<Key>, Vec<Bytes>) = values.into_iter().unzip();
        let doing = format!("write {}", keys.iter().chain(also).next().map(ToString::to_string).unwrap_or_default());
        let values: Vec<_> = keys.iter().map(|key| self.path(key)).zip(values).collect();
        let also: Vec<_> = also.iter().map(|key| self.path(key)).collect();
        let of_a_collector = |key| matches!(key, &Key::Run(_) | &Key::RunResult(_) | &Key::DeadBatch(_));
        let makes_room = !keys.is_empty() && keys.iter().all(of_a_collector);
        let ends_run = keys.iter().any(|key| matches!(key, Key::RunResult(_)));
        self.on_pool(doing, move |shared| {
            let create = || {
                let mut pending = shared.durability.begin();
                pending.create(&values)?;
                for path in &also {
                    pending.rely(path)?;
                }
                pending.finish()
            };
            if !makes_room {
                return create();
            }
            shared.spare.make_room_for(create)?;
            // For the next one, from what this one has freed. Where that was nothing there is no room, and no harm in it.
            let _ = ends_run.then(|| shared.spare.fill());
            Ok(())
        })
        .await?;
        keys.iter().for_each(|key| self.note(key, names::Change::Added));
        Ok(())
    }

    async fn leave(&self, values: Vec<(Key, Bytes)>) -> Result<()> {
        let values: Vec<_> = values.into_iter().map(|(key, value)| (self.path(&key), value)).collect();
        self.on_pool("write", move |shared| shared.durability.leave(&values)).await
    }

    async fn stage(&self, key: Key) -> Result<Box<dyn Stage>> {
        let stage = self.on_pool(format!("begin {key}"), |shared| FileStage::begin(&shared.root)).await?;
        Ok(Box::new(stage.of(self.clone(), key)))
    }

    async fn duplicate(&self, from: &Key, to: &Key, _size: u64) -> Result<bool> {
        let (from, to) = (self.path(from), self.path(to));
        self.on_pool(format!("link {}", to.display()), move |shared| {
            Ok(found(shared.durability.make(&to, || fs::hard_link(&from, &to)))?.is_some())
        })
        .await
    }

    async fn join(&self, parts: &[Key], to: &Key) -> Result<bool> {
        let parts: Vec<_> = parts.iter().map(|part| self.path(part)).collect();
        let to = self.path(to);
        self.on_pool(format!("join {}", to.display()), move |shared| stage::join(shared, &parts, &to)).await
    }

    async fn read(&self, key: &Key) -> Result<Option<Bytes>> {
        let path = self.path(key);
        let read = move |_: &Shared| Ok(found(fs::read(path))?.map(Bytes::from));
        self.look("read", key, read).await
    }

    async fn size(&self, key: &Key) -> Result<Option<u64>> {
        let path = self.path(key);
        let size = move |_: &Shared| Ok(found(fs::metadata(path))?.map(|metadata| metadata.len()));
        self.look("look for", key, size).await
    }

    async fn open(&self, key: &Key, range: Range<u64>) -> Result<Option<Content>> {
        let path = self.path(key);
        let open = move |shared: &Shared| {
            let Some(file) = found(File::open(path))? else { return Ok(None) };
            let size = file.metadata()?.len();
            Ok(Some(Content::of_file(Arc::new(file), size, shared.reads, range)))
        };
        self.look("open", key, open).await
    }

    async fn list(&self, prefix: &Prefix, limit: usize) -> Result<Vec<String>> {
        let directory = self.directory(prefix);
        self.look("list", prefix, move |shared| shared.list(directory, limit)).await
    }

    async fn sizes(&self, prefix: &Prefix) -> Result<Vec<(String, u64)>> {
        let directory = self.directory(prefix);
        self.look("list", prefix, move |shared| {
            let Some(entries) = shared.entries(&directory)? else { return Ok(Vec::new()) };
            let size = |entry: io::Result<fs::DirEntry>| {
                let entry = entry?;
                // One that is gone by now need not be listed.
                Ok(found(entry.metadata())?.map(|metadata| (names::name_of(&entry), metadata.len())))
            };
            entries.filter_map(|entry| size(entry).transpose()).collect()
        })
        .await
    }

    async fn page(&self, prefix: &Prefix, after: Option<&str>, limit: usize) -> Result<Page<String>> {
        let names = self.names(prefix);
        let (directory, after) = (self.directory(prefix), after.map(str::to_owned));
        self.on_pool(format!("list {prefix}"), move |shared| {
            shared.look_anew(&directory)?;
            names.lock().unwrap_or_else(PoisonError::into_inner).page(after.as_deref(), limit)
        })
        .await
    }

    fn scan(&self, prefix: &Prefix) -> BoxStream<'static, Result<String>> {
        scan::names_below(Arc::clone(&self.shared), self.directory(prefix), format!("list {prefix}"))
    }

    async fn changed(&self, key: &Key) -> Result<Option<SystemTime>> {
        let metadata = found(fs::symlink_metadata(self.path(key))).map_err(|error| failed("look at", key, error))?;
        // Not the time of the bytes: a hard link to old bytes is new.
        Ok(metadata.map(|metadata| {
            let nanos = u32::try_from(metadata.ctime_nsec()).unwrap_or_default();
            SystemTime::UNIX_EPOCH + Duration::new(metadata.ctime().unsigned_abs(), nanos)
        }))
    }

    async fn remove(&self, keys: &[Key]) -> Result<()> {
        let paths: Vec<_> = keys.iter().map(|key| self.path(key)).collect();
        let doing = format!("remove {}", keys.first().map(ToString::to_string).unwrap_or_default());
        self.on_pool(doing, move |shared| {
            let mut pending = shared.durability.begin();
            paths.iter().try_for_each(|path| pending.remove(path))?;
            pending.finish()?;
            let directories: BTreeSet<_> = paths.iter().filter_map(|path| path.parent()).collect();
            directories.into_iter().for_each(|directory| shared.durability.remove_if_empty(directory));
            Ok(())
        })
        .await?;
        // A repository stays listed in the index when a record of it goes: it may have others, and who lists looks.
        keys.iter().filter(|key| matches!(key, Key::Tag { .. })).for_each(|tag| self.note(tag, names::Change::Removed));
        Ok(())
    }

    async fn replace(&self, tag: &Key, value: Bytes) -> Result<()> {
        let path = self.path(tag);
        self.on_pool(format!("write {tag}"), move |shared| {
            let mut pending = shared.durability.begin();
            let staged = FileStage::holding(&shared.root, &value)?;
            staged.sync(&shared.durability)?;
            let lock = shared.locks.shared(&path)?;
            staged.name(&shared.durability, &path)?;
            drop(lock);
            pending.gained(&path);
            pending.finish()
        })
        .await?;
        self.note(tag, names::Change::Added);
        Ok(())
    }

    async fn remove_tag_if(&self, tag: &Key, expected: &Bytes) -> Result<bool> {
        let (path, expected) = (self.path(tag), expected.clone());
        let removed = self
            .on_pool(format!("remove {tag}"), move |shared| {
                let lock = shared.spare.make_room_for(|| shared.locks.exclusive(&path))?;
                if found(fs::read(&path))?.is_none_or(|value| value != expected) {
                    return Ok(false);
                }
                let mut pending = shared.durability.begin();
                pending.remove(&path)?;
                drop(lock);
                pending.finish()?;
                Ok(true)
            })
            .await?;
        if removed {
            self.note(tag, names::Change::Removed);
        }
        Ok(removed)
    }

    fn staleness(&self) -> Duration {
        self.shared.network.as_ref().map_or(Duration::ZERO, |network| network.staleness)
    }

    async fn walk(&self) -> Result<Vec<String>> {
        self.on_pool("list everything", |shared| {
            let mut names = Vec::new();
            let mut directories = vec![shared.root.clone()];
            while let Some(directory) = directories.pop() {
                for entry in fs::read_dir(&directory)? {
                    let (path, is_directory) =
                        entry.and_then(|entry| Ok((entry.path(), entry.file_type()?.is_dir())))?;
                    let Ok(name) = path.strip_prefix(&shared.root) else { continue };
                    if !is_directory {
                        names.push(name.to_string_lossy().into_owned());
                    } else if !OWN_DIRECTORIES.map(Path::new).contains(&name) {
                        directories.push(path);
                    }
                }
            }
            Ok(names)
        })
        .await
    }

    async fn sweep(&self, _age: Duration) -> Result<()> {
        self.on_pool("remove what was left half-written", |shared| {
            for entry in fs::read_dir(shared.root.join(stage::DIRECTORY))? {
                let entry = entry?;
                let Some(metadata) = found(entry.metadata())? else { continue };
                if SystemTime::now().duration_since(metadata.modified()?).is_ok_and(|age| age > STALE) {
                    found(fs::remove_file(entry.path()))?;
                }
            }
            if let Err(error) = shared.spare.fill() {
                tracing::warn!(%error, "no room can be put aside for collections on a full disk");
            }
            Ok(())
        })
        .await
    }
}

fn failed(doing: &str, key: &Key, error: io::Error) -> StoreError {
    StoreError::io(format!("{doing} {key}"), error)
}

/// Absence is not an error.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether names that differ in case are two files.
fn tells_case(root: &Path) -> io::Result<bool> {
    let name = Ulid::generate().to_string();
    let (upper, lower) =
        (root.join(stage::DIRECTORY).join(&name), root.join(stage::DIRECTORY).join(name.to_lowercase()));
    let created = File::create_new(&upper)?.metadata()?.ino();
    let other = found(fs::metadata(lower))?;
    fs::remove_file(upper)?;
    Ok(other.is_none_or(|other| other.ino() != created))
}
