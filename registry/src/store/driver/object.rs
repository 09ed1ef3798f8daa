//! A bucket, or anything else that the `object_store` crate can talk to, as a place where bytes are kept.
//!
//! An object store is durable when it answers, shows an object wholly or not at all, and lists what was written. Each `put`
//! under a fresh name is idempotent, so whoever retries it writes the same bytes again.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};

use super::{Content, Driver, Page, Stage};
use crate::store::error::{Result, StoreError};
use crate::store::layout::{Key, Prefix};
use stage::ObjectStage;

mod stage;

/// A bucket in use.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    objects: Arc<dyn ObjectStore>,
}

/// Requests that one operation has under way at the same time.
const PARALLEL: usize = 16;

impl Object {
    pub(crate) const fn new(objects: Arc<dyn ObjectStore>) -> Self {
        Self { objects }
    }

    /// `false`: the mode's condition does not hold.
    async fn put(&self, key: &Key, value: impl Into<PutPayload> + Send, mode: PutMode) -> Result<bool> {
        let options = PutOptions { mode, ..PutOptions::default() };
        match self.objects.put_opts(&path(key)?, value.into(), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(failed("write", key, error)),
        }
    }
}

#[async_trait]
impl Driver for Object {
    async fn create(&self, values: Vec<(Key, Bytes)>, _also: &[Key]) -> Result<()> {
        // Overwrite, not create: nobody else has the name, and a retry whose first try was answered late must not fail.
        let puts = values
            .into_iter()
            .map(|(key, value)| async move { self.put(&key, value, PutMode::Overwrite).await.map(drop) });
        futures::stream::iter(puts).buffer_unordered(PARALLEL).try_collect().await
    }

    async fn leave(&self, values: Vec<(Key, Bytes)>) -> Result<()> {
        self.create(values, &[]).await
    }

    async fn stage(&self, key: Key) -> Result<Box<dyn Stage>> {
        Ok(Box::new(ObjectStage::begin(self.clone(), key)))
    }

    async fn duplicate(&self, from: &Key, to: &Key) -> Result<bool> {
        match self.objects.copy(&path(from)?, &path(to)?).await {
            Ok(()) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(failed("copy", from, error)),
        }
    }

    async fn join(&self, parts: &[Key], to: &Key) -> Result<bool> {
        if let [only] = parts {
            return self.duplicate(only, to).await;
        }
        let mut whole = Box::new(ObjectStage::begin(self.clone(), to.clone()));
        for part in parts {
            let got = found(self.objects.get(&path(part)?).await).map_err(|error| failed("read", part, error))?;
            let Some(got) = got else { return Ok(false) };
            let mut bytes = got.into_stream();
            while let Some(piece) = bytes.try_next().await.map_err(|error| failed("read", part, error))? {
                whole.write(vec![piece]).await?;
            }
        }
        whole.publish().await?;
        Ok(true)
    }

    async fn read(&self, key: &Key) -> Result<Option<Bytes>> {
        let path = path(key)?;
        let read = async { self.objects.get(&path).await?.bytes().await };
        found(read.await).map_err(|error| failed("read", key, error))
    }

    async fn size(&self, key: &Key) -> Result<Option<u64>> {
        let head = found(self.objects.head(&path(key)?).await).map_err(|error| failed("look for", key, error))?;
        Ok(head.map(|meta| meta.size))
    }

    async fn open(&self, key: &Key) -> Result<Option<Content>> {
        let Some(size) = self.size(key).await? else { return Ok(None) };
        let (objects, path) = (Arc::clone(&self.objects), path(key)?);
        Ok(Some(Content::of_object(size, move |range| {
            let get = async move {
                let options = object_store::GetOptions { range: Some(range.into()), ..Default::default() };
                objects.get_opts(&path, options).await.map(object_store::GetResult::into_stream)
            };
            futures::stream::once(get).try_flatten().map_err(std::io::Error::other).boxed()
        })))
    }

    async fn list(&self, prefix: &Prefix, limit: usize) -> Result<Vec<String>> {
        let mut names = self.names(prefix).await?;
        names.truncate(limit);
        Ok(names)
    }

    async fn page(&self, prefix: &Prefix, after: Option<&str>, limit: usize) -> Result<Page<String>> {
        let mut names = self.names(prefix).await?;
        names.retain(|name| after.is_none_or(|after| name.as_str() > after));
        let more = names.len() > limit;
        names.truncate(limit);
        Ok(Page { items: names, more })
    }

    async fn remove(&self, keys: &[Key]) -> Result<()> {
        let paths = keys.iter().map(path).collect::<Result<Vec<_>>>()?;
        let doing = || format!("remove {}", keys.first().map(ToString::to_string).unwrap_or_default());
        let deletions = paths.into_iter().map(|path| async move { found(self.objects.delete(&path).await).map(drop) });
        let deleted = futures::stream::iter(deletions).buffer_unordered(PARALLEL).try_collect().await;
        deleted.map_err(|error| StoreError::other(doing(), error))
    }

    async fn replace(&self, tag: &Key, value: Bytes) -> Result<()> {
        self.put(tag, value, PutMode::Overwrite).await.map(drop)
    }

    async fn remove_tag_if(&self, tag: &Key, expected: &Bytes) -> Result<bool> {
        let got = found(self.objects.get(&path(tag)?).await).map_err(|error| failed("read", tag, error))?;
        let Some(got) = got else { return Ok(false) };
        let version = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
        if got.bytes().await.map_err(|error| failed("read", tag, error))? != *expected {
            return Ok(false);
        }
        // Stores have no conditional DELETE in common: an empty tag is written over it on the condition, and is absent.
        self.put(tag, Bytes::new(), PutMode::Update(version)).await
    }

    fn scan(&self, below: &Prefix) -> BoxStream<'static, Result<String>> {
        let prefix = below.to_string();
        let failed = {
            let prefix = prefix.clone();
            move |error: object_store::Error| StoreError::other(format!("list {prefix}"), error)
        };
        let under = match Path::parse(&prefix) {
            Ok(under) => under,
            Err(error) => return futures::stream::once(async { Err(StoreError::other(prefix, error)) }).boxed(),
        };
        let objects = self.objects.list(Some(&under)).map_err(failed);
        let of_tags = is_tags(below);
        let name = move |meta: ObjectMeta| {
            let name = meta.location.as_ref().strip_prefix(&prefix).and_then(|rest| rest.strip_prefix('/'));
            let name = name.filter(|_| is_present(&meta, of_tags));
            futures::future::ready(Ok(name.map(str::to_owned)))
        };
        objects.try_filter_map(name).boxed()
    }

    async fn changed(&self, key: &Key) -> Result<Option<SystemTime>> {
        let head = found(self.objects.head(&path(key)?).await).map_err(|error| failed("look for", key, error))?;
        Ok(head.map(|meta| meta.last_modified.into()))
    }

    async fn walk(&self) -> Result<Vec<String>> {
        let listed = self.objects.list(None).map_ok(|meta| meta.location.to_string()).try_collect().await;
        listed.map_err(|error| StoreError::other("list everything", error))
    }

    async fn sweep(&self) -> Result<()> {
        Ok(())
    }
}

impl Object {
    /// All names below a prefix, sorted.
    async fn names(&self, prefix: &Prefix) -> Result<Vec<String>> {
        let failed = |error: object_store::Error| StoreError::other(format!("list {prefix}"), error);
        let under = Path::parse(prefix.to_string()).map_err(|error| StoreError::other(prefix, error))?;
        let listed = self.objects.list_with_delimiter(Some(&under)).await.map_err(failed)?;
        let directories = listed.common_prefixes.iter().filter_map(Path::filename);
        let of_tags = is_tags(prefix);
        let objects =
            listed.objects.iter().filter(|meta| is_present(meta, of_tags)).filter_map(|meta| meta.location.filename());
        let mut names: Vec<String> = directories.chain(objects).map(str::to_owned).collect();
        names.sort_unstable();
        Ok(names)
    }
}

const fn is_tags(prefix: &Prefix) -> bool {
    matches!(prefix, Prefix::Tags(_))
}

/// An empty tag is one that was removed.
const fn is_present(meta: &ObjectMeta, of_tags: bool) -> bool {
    meta.size > 0 || !of_tags
}

/// The object's name is the key, to the letter: nothing is escaped.
fn path(key: &Key) -> Result<Path> {
    let key = key.to_string();
    Path::parse(&key).map_err(|error| StoreError::other(key, error))
}

fn found<T>(result: object_store::Result<T>) -> object_store::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn failed(doing: &str, key: &Key, error: object_store::Error) -> StoreError {
    StoreError::other(format!("{doing} {key}"), error)
}
