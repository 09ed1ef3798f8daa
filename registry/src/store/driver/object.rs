//! A bucket, or anything else that the `object_store` crate can talk to, as a place where bytes are kept.
//!
//! An object store is durable when it answers, shows an object wholly or not at all, and lists what was written. Each `put`
//! under a fresh name is idempotent, so whoever retries it writes the same bytes again.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    Attributes, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion,
};

use super::{Content, Driver, Honoured, Page, Stage, UnfitError, in_order};
use crate::store::error::{Result, StoreError};
use crate::store::layout::{Key, Prefix};
use error::failed;
use stage::ObjectStage;

mod error;
mod probe;
mod s3;
mod stage;

pub(crate) use s3::OpenBucketError;

/// A bucket in use.
#[derive(Clone)]
pub(crate) struct Object {
    objects: Arc<dyn ObjectStore>,
    /// The same bucket, for what must not be tried twice.
    once: Arc<dyn ObjectStore>,
    /// The same bucket's lists, a page at a time. `None`: it has no pages, and little in it.
    pages: Option<Arc<dyn PaginatedListStore>>,
    /// What all names begin with, with its slash.
    root: String,
    /// Its name, for messages.
    bucket: String,
    /// Whether the store was seen to ignore conditions.
    ignores_conditions: Arc<AtomicBool>,
    /// What large values are written with. A copy on the server would lose it.
    class: Attributes,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("objects", &self.objects).field("root", &self.root).finish_non_exhaustive()
    }
}

/// Requests that one operation has under way at the same time.
const PARALLEL: usize = 16;
/// What the server is asked to copy, at most. S3 copies up to 5 GiB in one request, which answers when it is done.
const COPIED_AT_ONCE: u64 = 1 << 30;

impl Object {
    /// Objects in the memory of this process.
    pub(crate) fn in_memory() -> Self {
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        Self {
            once: Arc::clone(&objects),
            objects,
            pages: None,
            root: String::new(),
            bucket: "in memory".into(),
            ignores_conditions: Arc::default(),
            class: Attributes::default(),
        }
    }

    /// The object's name is the key, to the letter: nothing is escaped.
    fn path(&self, key: &impl fmt::Display) -> Result<Path> {
        let name = format!("{}{key}", self.root);
        Path::parse(&name).map_err(|error| StoreError::other(name, error))
    }

    async fn put(&self, key: &Key, value: impl Into<PutPayload> + Send, attributes: Attributes) -> Result<()> {
        // Overwrite, not create: nobody else has the name, and a retry whose first try was answered late must not fail.
        let options = PutOptions { mode: PutMode::Overwrite, attributes, ..PutOptions::default() };
        let put = self.objects.put_opts(&self.path(key)?, value.into(), options).await;
        put.map(drop).map_err(|error| failed(format_args!("write {key}"), error))
    }

    /// Writes a tag, once: a first try that arrives after a second one, which was answered, would undo what came after that.
    /// `false`: the mode's condition does not hold.
    async fn put_tag(&self, tag: &Key, value: Bytes, mode: PutMode) -> Result<bool> {
        let options = PutOptions { mode, ..PutOptions::default() };
        match self.once.put_opts(&self.path(tag)?, value.into(), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(failed(format_args!("write {tag}"), error)),
        }
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectMeta>> {
        found(self.objects.head(&self.path(key)?).await).map_err(|error| failed(format_args!("look for {key}"), error))
    }
}

#[async_trait]
impl Driver for Object {
    async fn create(&self, values: Vec<(Key, Bytes)>, _also: &[Key]) -> Result<()> {
        let puts =
            values.into_iter().map(|(key, value)| async move { self.put(&key, value, Attributes::default()).await });
        futures::stream::iter(puts).buffer_unordered(PARALLEL).try_collect().await
    }

    async fn leave(&self, values: Vec<(Key, Bytes)>) -> Result<()> {
        self.create(values, &[]).await
    }

    async fn stage(&self, key: Key) -> Result<Box<dyn Stage>> {
        Ok(Box::new(ObjectStage::begin(self.clone(), key)))
    }

    async fn duplicate(&self, from: &Key, to: &Key, size: u64) -> Result<bool> {
        if size > COPIED_AT_ONCE || !self.class.is_empty() {
            return self.join(std::slice::from_ref(from), to).await;
        }
        let copied = found(self.objects.copy(&self.path(from)?, &self.path(to)?).await);
        Ok(copied.map_err(|error| failed(format_args!("copy {from}"), error))?.is_some())
    }

    async fn join(&self, parts: &[Key], to: &Key) -> Result<bool> {
        let mut whole = Box::new(ObjectStage::begin(self.clone(), to.clone()));
        for part in parts {
            let got = found(self.objects.get(&self.path(part)?).await)
                .map_err(|error| failed(format_args!("read {part}"), error))?;
            let Some(got) = got else { return Ok(false) };
            let mut bytes = got.into_stream();
            while let Some(piece) =
                bytes.try_next().await.map_err(|error| failed(format_args!("read {part}"), error))?
            {
                whole.write(vec![piece]).await?;
            }
        }
        whole.publish().await?;
        Ok(true)
    }

    async fn read(&self, key: &Key) -> Result<Option<Bytes>> {
        let path = self.path(key)?;
        let read = async { self.objects.get(&path).await?.bytes().await };
        found(read.await).map_err(|error| failed(format_args!("read {key}"), error))
    }

    async fn size(&self, key: &Key) -> Result<Option<u64>> {
        Ok(self.head(key).await?.map(|meta| meta.size))
    }

    async fn open(&self, key: &Key, range: Range<u64>) -> Result<Option<Content>> {
        if range.is_empty() {
            // A range of nothing cannot be asked for in HTTP.
            let head = self.head(key).await?;
            return Ok(head.map(|meta| Content::of_object(meta.size, futures::stream::empty().boxed())));
        }
        let options = GetOptions { range: Some(range.into()), ..GetOptions::default() };
        let got = found(self.objects.get_opts(&self.path(key)?, options).await);
        let got = got.map_err(|error| failed(format_args!("read {key}"), error))?;
        Ok(got.map(|got| Content::of_object(got.meta.size, got.into_stream().map_err(io::Error::other).boxed())))
    }

    async fn list(&self, prefix: &Prefix, limit: usize) -> Result<Vec<String>> {
        let mut names = self.names(prefix).await?;
        names.truncate(limit);
        Ok(names)
    }

    async fn page(&self, prefix: &Prefix, after: Option<&str>, limit: usize) -> Result<Page<String>> {
        let mut names = match prefix {
            Prefix::Repositories => self.directories_after(prefix, after, limit + 1).await?,
            _ => self.objects_after(prefix, after, limit + 1).await?,
        };
        let more = names.len() > limit;
        names.truncate(limit);
        Ok(Page { items: names, more })
    }

    async fn remove(&self, keys: &[Key]) -> Result<()> {
        let paths: Vec<_> = keys.iter().map(|key| self.path(key).map(Ok)).collect::<Result<_>>()?;
        let doing = || format!("remove {}", keys.first().map(ToString::to_string).unwrap_or_default());
        // Where the store can, a thousand in one request.
        let mut removed = self.objects.delete_stream(futures::stream::iter(paths).boxed());
        while let Some(removed) = removed.next().await {
            found(removed).map_err(|error| failed(doing(), error))?;
        }
        Ok(())
    }

    async fn replace(&self, tag: &Key, value: Bytes) -> Result<()> {
        self.put_tag(tag, value, PutMode::Overwrite).await.map(drop)
    }

    async fn remove_tag_if(&self, tag: &Key, expected: &Bytes) -> Result<bool> {
        let got = found(self.objects.get(&self.path(tag)?).await)
            .map_err(|error| failed(format_args!("read {tag}"), error))?;
        let Some(got) = got else { return Ok(false) };
        let version = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
        if got.bytes().await.map_err(|error| failed(format_args!("read {tag}"), error))? != *expected {
            return Ok(false);
        }
        // Stores have no conditional DELETE in common: an empty tag is written over it on the condition, and is absent.
        let ignored = self.ignores_conditions.load(Ordering::Relaxed);
        self.put_tag(tag, Bytes::new(), if ignored { PutMode::Overwrite } else { PutMode::Update(version) }).await
    }

    fn scan(&self, below: &Prefix) -> BoxStream<'static, Result<String>> {
        let under = match self.path(below) {
            Ok(under) => under,
            Err(error) => return futures::stream::once(async { Err(error) }).boxed(),
        };
        let objects = self.objects.list(Some(&under)).map_err(list_failed(below));
        let of_tags = is_tags(below);
        let name = move |meta: ObjectMeta| futures::future::ready(Ok(name_of_present(&meta, &under, of_tags)));
        objects.try_filter_map(name).boxed()
    }

    async fn changed(&self, key: &Key) -> Result<Option<SystemTime>> {
        Ok(self.head(key).await?.map(|meta| meta.last_modified.into()))
    }

    async fn walk(&self) -> Result<Vec<String>> {
        let root = (!self.root.is_empty()).then(|| self.path(&"")).transpose()?;
        let name = |meta: ObjectMeta| match &root {
            Some(root) => name_below(root, &meta.location),
            None => Some(meta.location.to_string()),
        };
        let listed = self.objects.list(root.as_ref()).map_ok(name);
        let names = listed.try_filter_map(|name| futures::future::ready(Ok(name))).try_collect().await;
        names.map_err(|error| failed("list everything", error))
    }

    async fn sweep(&self) -> Result<()> {
        Ok(())
    }

    async fn probe(&self) -> std::result::Result<Honoured, UnfitError> {
        let honoured = probe::probe(self).await?;
        self.ignores_conditions.store(!honoured.conditional_overwrite, Ordering::Relaxed);
        Ok(honoured)
    }
}

impl Object {
    /// All names below a prefix.
    async fn names(&self, prefix: &Prefix) -> Result<Vec<String>> {
        let listed = self.objects.list_with_delimiter(Some(&self.path(prefix)?)).await;
        let listed = listed.map_err(list_failed(prefix))?;
        let of_tags = is_tags(prefix);
        let objects = listed.objects.iter().filter(|meta| is_present(meta, of_tags)).map(|meta| &meta.location);
        let names = listed.common_prefixes.iter().chain(objects).filter_map(Path::filename);
        Ok(names.map(str::to_owned).collect())
    }

    /// So many names of objects right below a prefix that come after one, in order. It costs what it gives, where the store can
    /// begin a list anywhere.
    async fn objects_after(&self, prefix: &Prefix, after: Option<&str>, count: usize) -> Result<Vec<String>> {
        let under = self.path(prefix)?;
        let listed = match after {
            Some(after) => self.objects.list_with_offset(Some(&under), &self.path(&format_args!("{prefix}/{after}"))?),
            None => self.objects.list(Some(&under)),
        };
        let of_tags = is_tags(prefix);
        let names = listed.try_filter_map(|meta| futures::future::ready(Ok(name_of_present(&meta, &under, of_tags))));
        names.take(count).try_collect().await.map_err(list_failed(prefix))
    }

    /// The same of directories.
    async fn directories_after(&self, prefix: &Prefix, after: Option<&str>, count: usize) -> Result<Vec<String>> {
        let Some(pages) = &self.pages else {
            let mut names = self.names(prefix).await?;
            names.retain(|name| after.is_none_or(|after| in_order(name) > in_order(after)));
            names.sort_unstable_by_key(|name| in_order(name));
            return Ok(names);
        };
        let under = format!("{}{prefix}/", self.root);
        // The byte after the slash: past everything in the directory `after`.
        let offset = after.map(|after| format!("{under}{after}0"));
        let mut names = Vec::new();
        let mut page_token = None;
        loop {
            let options = PaginatedListOptions {
                offset: offset.clone(),
                delimiter: Some("/".into()),
                max_keys: Some(count.min(MOST_IN_A_PAGE)),
                page_token,
                ..PaginatedListOptions::default()
            };
            let page = pages.list_paginated(Some(&under), options).await.map_err(list_failed(prefix))?;
            names.extend(page.result.common_prefixes.iter().filter_map(Path::filename).map(str::to_owned));
            page_token = page.page_token;
            if page_token.is_none() || names.len() >= count {
                return Ok(names);
            }
        }
    }
}

/// What S3 gives at a time.
const MOST_IN_A_PAGE: usize = 1000;

fn name_below(under: &Path, location: &Path) -> Option<String> {
    location.as_ref().strip_prefix(under.as_ref())?.strip_prefix('/').map(str::to_owned)
}

fn name_of_present(meta: &ObjectMeta, under: &Path, of_tags: bool) -> Option<String> {
    is_present(meta, of_tags).then(|| name_below(under, &meta.location)).flatten()
}

fn list_failed(prefix: &Prefix) -> impl Fn(object_store::Error) -> StoreError + Send + Sync + 'static {
    let doing = format!("list {prefix}");
    move |error| failed(&doing, error)
}

const fn is_tags(prefix: &Prefix) -> bool {
    matches!(prefix, Prefix::Tags(_))
}

/// An empty tag is one that was removed.
const fn is_present(meta: &ObjectMeta, of_tags: bool) -> bool {
    meta.size > 0 || !of_tags
}

fn found<T>(result: object_store::Result<T>) -> object_store::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
