//! A driver for tests: somebody hears of each operation before the driver behind it does, and may forbid it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::{Content, Driver, Page, Stage};
use crate::store::error::Result;
use crate::store::layout::{Key, Prefix};

/// Hears of an operation by its name. An error is what becomes of it.
type Watcher = dyn Fn(&'static str) -> Result<()> + Send + Sync;

/// The driver behind, watched.
pub(crate) struct Watched {
    behind: Arc<dyn Driver>,
    watcher: Box<Watcher>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("behind", &self.behind).finish_non_exhaustive()
    }
}

impl Watched {
    pub(crate) fn new(
        behind: Arc<dyn Driver>,
        watcher: impl Fn(&'static str) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self { behind, watcher: Box::new(watcher) }
    }

    fn hear(&self, operation: &'static str) -> Result<()> {
        (self.watcher)(operation)
    }
}

#[async_trait]
impl Driver for Watched {
    async fn create(&self, values: Vec<(Key, Bytes)>, also: &[Key]) -> Result<()> {
        self.hear("create")?;
        self.behind.create(values, also).await
    }

    async fn leave(&self, values: Vec<(Key, Bytes)>) -> Result<()> {
        self.hear("leave")?;
        self.behind.leave(values).await
    }

    async fn stage(&self, key: Key) -> Result<Box<dyn Stage>> {
        self.hear("stage")?;
        self.behind.stage(key).await
    }

    async fn duplicate(&self, from: &Key, to: &Key, size: u64) -> Result<bool> {
        self.hear("duplicate")?;
        self.behind.duplicate(from, to, size).await
    }

    async fn join(&self, parts: &[Key], to: &Key) -> Result<bool> {
        self.hear("join")?;
        self.behind.join(parts, to).await
    }

    async fn read(&self, key: &Key) -> Result<Option<Bytes>> {
        self.hear("read")?;
        self.behind.read(key).await
    }

    async fn size(&self, key: &Key) -> Result<Option<u64>> {
        self.hear("size")?;
        self.behind.size(key).await
    }

    async fn open(&self, key: &Key, range: Range<u64>) -> Result<Option<Content>> {
        self.hear("open")?;
        self.behind.open(key, range).await
    }

    async fn list(&self, prefix: &Prefix, limit: usize) -> Result<Vec<String>> {
        self.hear("list")?;
        self.behind.list(prefix, limit).await
    }

    async fn sizes(&self, prefix: &Prefix) -> Result<Vec<(String, u64)>> {
        self.hear("list")?;
        self.behind.sizes(prefix).await
    }

    async fn page(&self, prefix: &Prefix, after: Option<&str>, limit: usize) -> Result<Page<String>> {
        self.hear("page")?;
        self.behind.page(prefix, after, limit).await
    }

    fn scan(&self, prefix: &Prefix) -> BoxStream<'static, Result<String>> {
        match self.hear("scan") {
            Ok(()) => self.behind.scan(prefix),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn changed(&self, key: &Key) -> Result<Option<SystemTime>> {
        self.hear("changed")?;
        self.behind.changed(key).await
    }

    async fn remove(&self, keys: &[Key]) -> Result<()> {
        self.hear("remove")?;
        self.behind.remove(keys).await
    }

    async fn replace(&self, tag: &Key, value: Bytes) -> Result<()> {
        self.hear("replace")?;
        self.behind.replace(tag, value).await
    }

    async fn remove_tag_if(&self, tag: &Key, expected: &Bytes) -> Result<bool> {
        self.hear("remove_tag_if")?;
        self.behind.remove_tag_if(tag, expected).await
    }

    fn staleness(&self) -> Duration {
        self.behind.staleness()
    }

    async fn walk(&self) -> Result<Vec<String>> {
        self.behind.walk().await
    }

    async fn sweep(&self, age: Duration) -> Result<()> {
        self.behind.sweep(age).await
    }
}
