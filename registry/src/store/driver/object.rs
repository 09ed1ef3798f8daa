//! A bucket, or anything else that the `object_store` crate can talk to, as a place where bytes are kept.
//!
//! An object store is durable when it answers, shows an object wholly or not at all, and lists what was written. A `put`
//! under a fresh name is idempotent, so most are tried again; `tries` has what is not.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::list::PaginatedListStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::signer::{Method, Signer};
use object_store::{
    Attributes, Error as ObjectError, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload, UpdateVersion,
};

use super::{Content, Driver, Honoured, Page, Stage, UnfitError, in_order};
use crate::store::error::{Result, StoreError};
use crate::store::layout::{Key, Prefix};
use advice::{Bucket, Provider};
use error::{failed, is_conflict};
use open::Credentials;
use signed::Signed;
use stage::ObjectStage;

mod advice;
mod azure;
mod budget;
mod error;
mod gcs;
mod lists;
mod multiparts;
mod open;
mod probe;
mod s3;
mod signed;
mod stage;
mod tries;

pub(crate) use open::OpenBucketError;

/// A bucket in use.
#[derive(Clone)]
pub(crate) struct Object {
    objects: Arc<dyn ObjectStore>,
    /// The same bucket, for what must not be tried twice.
    once: Arc<dyn ObjectStore>,
    /// Who obtains what requests are signed with. `None`: nothing is signed.
    credentials: Option<Arc<dyn Credentials>>,
    /// The same bucket's lists, a page at a time. `None`: it has no pages, and little in it.
    pages: Option<Arc<dyn PaginatedListStore>>,
    /// The same bucket, for requests that `object_store` has no name for. `None`: there is no server.
    signed: Option<Signed>,
    /// The same bucket as pullers reach it. `None`: they are not sent there.
    pullers: Option<Arc<dyn Signer>>,
    /// What all names begin with, with its slash.
    root: String,
    bucket: Bucket,
    /// Whether the store was seen to ignore conditions.
    ignores_conditions: Arc<AtomicBool>,
    /// How the store says that it encrypts, where it was told to.
    encryption: Option<&'static str>,
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
/// How long whoever is sent to the bucket has to begin, as with distribution.
const LOCATION_LASTS: Duration = Duration::from_mins(20);
/// What the server is asked to copy, at most. S3 copies up to 5 GiB in one request, which answers when it is done.
const COPIED_AT_ONCE: u64 = 1 << 30;

impl Object {
    /// Objects in the memory of this process.
    pub(crate) fn in_memory() -> Self {
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        Self {
            once: Arc::clone(&objects),
            objects,
            credentials: None,
            pages: None,
            signed: None,
            pullers: None,
            root: String::new(),
            bucket: Bucket { provider: Provider::Memory, name: "in memory".into() },
            ignores_conditions: Arc::default(),
            encryption: None,
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
        let path = self.path(key)?;
        let put = if tries::is_only_written_once(key) {
            self.put_once(&path, value.into(), options).await
        } else {
            self.objects.put_opts(&path, value.into(), options).await
        };
        put.map(drop).map_err(|error| failed(format_args!("write {key}"), error))
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
        // Microsoft's may answer before the copy is made, and what it is made from may be removed next.
        if size > COPIED_AT_ONCE || !self.class.is_empty() || self.bucket.provider == Provider::Azure {
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
        let read = || async { self.objects.get(&path).await?.bytes().await };
        found(tries::whole(read).await).map_err(|error| failed(format_args!("read {key}"), error))
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
        let path = self.path(key)?;
        let start = range.start;
        let options = GetOptions { range: Some(range.into()), ..GetOptions::default() };
        let got = match found(self.objects.get_opts(&path, options).await) {
            Err(error) => {
                // One that ends before the range begins is damaged; its size says so.
                let head = self.head(key).await?.filter(|meta| meta.size <= start);
                let damaged = head.map(|meta| Content::of_object(meta.size, futures::stream::empty().boxed()));
                return damaged.map(Some).ok_or_else(|| failed(format_args!("read {key}"), error));
            }
            Ok(got) => got,
        };
        Ok(got.map(|got| Content::of_object(got.meta.size, got.into_stream().map_err(broke_off).boxed())))
    }

    async fn list(&self, prefix: &Prefix, limit: usize) -> Result<Vec<String>> {
        self.names(prefix, limit).await
    }

    async fn sizes(&self, prefix: &Prefix) -> Result<Vec<(String, u64)>> {
        self.names_and_sizes(prefix).await
    }

    async fn page(&self, prefix: &Prefix, after: Option<&str>, limit: usize) -> Result<Page<String>> {
        self.names_after(prefix, after, limit).await
    }

    async fn remove(&self, keys: &[Key]) -> Result<()> {
        let paths: Vec<Path> = keys.iter().map(|key| self.path(key)).collect::<Result<_>>()?;
        // Where the store can, a thousand in one request.
        let remove = || async {
            let paths = futures::stream::iter(paths.clone()).map(Ok);
            let mut removed = self.objects.delete_stream(paths.boxed());
            while let Some(removed) = removed.next().await {
                found(removed)?;
            }
            Ok(())
        };
        let doing = || format!("remove {}", keys.first().map(ToString::to_string).unwrap_or_default());
        tries::whole(remove).await.map_err(|error| failed(doing(), error))
    }

    async fn replace(&self, tag: &Key, value: Bytes) -> Result<()> {
        self.put(tag, value, Attributes::default()).await
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
        let mode = if ignored { PutMode::Overwrite } else { PutMode::Update(version) };
        let options = PutOptions { mode, ..PutOptions::default() };
        match self.put_once(&self.path(tag)?, PutPayload::new(), options).await {
            Ok(_) => Ok(true),
            // Somebody has written since, or does so this moment.
            Err(ObjectError::Precondition { .. }) => Ok(false),
            Err(error) if is_conflict(&error) => Ok(false),
            Err(error) => Err(failed(format_args!("write {tag}"), error)),
        }
    }

    fn scan(&self, below: &Prefix) -> BoxStream<'static, Result<String>> {
        self.names_below(below)
    }

    async fn changed(&self, key: &Key) -> Result<Option<SystemTime>> {
        Ok(self.head(key).await?.map(|meta| meta.last_modified.into()))
    }

    async fn walk(&self) -> Result<Vec<String>> {
        self.all_names().await
    }

    async fn sweep(&self, age: Duration) -> Result<()> {
        match &self.signed {
            Some(signed) => self.abort_multiparts(signed, age).await,
            None => Ok(()),
        }
    }

    async fn location(&self, key: &Key) -> Result<Option<String>> {
        let Some(pullers) = &self.pullers else { return Ok(None) };
        match pullers.signed_url(Method::GET, &self.path(key)?, LOCATION_LASTS).await {
            Ok(url) => Ok(Some(url.into())),
            Err(error) => {
                // Whoever may read need not have the right to sign for others.
                tracing::warn!(%error, "who pulls cannot be sent to the bucket; set storage.redirect.disable");
                Ok(None)
            }
        }
    }

    async fn probe(&self) -> std::result::Result<Honoured, UnfitError> {
        let honoured = probe::probe(self).await?;
        self.ignores_conditions.store(!honoured.conditional_overwrite, Ordering::Relaxed);
        Ok(honoured)
    }
}

/// An answer that began to come and did not end.
fn broke_off(error: ObjectError) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, error)
}

fn found<T>(result: object_store::Result<T>) -> object_store::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(ObjectError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
