//! What a store is seen to do, before anything is entrusted to it. A probe can disprove, never prove.

use bytes::Bytes;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{Error as ObjectError, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};
use ulid::Ulid;

use super::error::is_not_implemented;
use super::{Object, found, tries};
use crate::store::driver::{Driver, Honoured, UnfitError};
use crate::store::layout::{Key, Prefix};

/// Writers that race for one condition. Stores that look first and write afterwards let several through.
const RACERS: usize = 32;
/// How often the store is asked whether it has encrypted an object.
const ASKED: u32 = 4;
/// How often a race is run of which nothing was learned, because answers were lost or the store was busy.
const RACES: usize = 4;

/// Tries everything that the driver relies on, with objects that are swept like any upload's if this is interrupted.
pub(super) async fn probe(object: &Object) -> Result<Honoured, UnfitError> {
    if let Some(credentials) = &object.credentials {
        credentials.obtain().await.map_err(|error| UnfitError(object.bucket.without_credentials(&error)))?;
    }
    let mut probe = Probe { object, used: Vec::new() };
    let looked = probe.look().await;
    let removed = object.remove(&probe.used).await;
    let honoured = looked?;
    removed.map_err(|error| UnfitError(error.to_string()))?;
    for key in &probe.used {
        if object.size(key).await.map_err(|error| UnfitError(error.to_string()))?.is_some() {
            return Err(probe.lies("still shows an object that was deleted"));
        }
    }
    Ok(honoured)
}

struct Probe<'a> {
    object: &'a Object,
    /// What is to be removed.
    used: Vec<Key>,
}

/// What became of a write on a condition.
enum Raced {
    Won,
    Lost,
    /// The store knows no such condition.
    NotImplemented,
    /// Nobody can say: it may have been written.
    Unknown(ObjectError),
}

impl Probe<'_> {
    async fn look(&mut self) -> Result<Honoured, UnfitError> {
        let (upload, path) = self.unused()?;
        self.write(&path, "1").await?;
        if self.read(&path).await?.as_deref() != Some(b"1") {
            return Err(self.lies("does not give back what was written"));
        }
        self.is_encrypted(&path).await?;
        let under = self.object.path(&Prefix::Upload(upload)).map_err(|error| UnfitError(error.to_string()))?;
        let listed = tries::whole(|| self.object.objects.list_with_delimiter(Some(&under))).await;
        let listed = listed.map_err(|error| self.unfit("list", &error))?;
        if !listed.objects.iter().any(|meta| meta.location == path) {
            return Err(self.lies("does not list what was written"));
        }
        self.upload_in_parts(&path).await?;
        Ok(Honoured {
            conditional_create: self.race("create an object on a condition", false).await?,
            conditional_overwrite: self.race("overwrite an object on a condition", true).await?,
        })
    }

    /// Some stores take whatever is wished for, and do nothing.
    async fn is_encrypted(&self, path: &Path) -> Result<(), UnfitError> {
        let (Some(wish), Some(signed)) = (self.object.encryption, &self.object.signed) else { return Ok(()) };
        let said = tries::while_it_fails(ASKED, |_| true, || signed.encryption(path)).await;
        let said = said.map_err(|error| {
            UnfitError(format!(
                "the store of the bucket {} cannot be asked whether it encrypts: {error}",
                self.object.bucket.name
            ))
        })?;
        if said.as_deref() == Some(wish) {
            return Ok(());
        }
        let (bucket, said) = (&self.object.bucket.name, said.unwrap_or_else(|| "nothing".into()));
        Err(UnfitError(format!(
            "the store of the bucket {bucket} was told to encrypt what it keeps ({wish}) and says of an object: {said}. \
             Take storage.s3.encrypt away, if it need not be encrypted there"
        )))
    }

    async fn upload_in_parts(&self, path: &Path) -> Result<(), UnfitError> {
        let begun = self.object.objects.put_multipart(path).await;
        let mut parts = begun.map_err(|error| self.unfit("begin a multipart upload", &error))?;
        let written = parts.put_part(Bytes::from_static(b"2").into()).await;
        // Whatever became of the part: what is not aborted is paid for.
        let aborted = parts.abort().await;
        written.map_err(|error| self.unfit("write a part", &error))?;
        aborted.map_err(|error| self.unfit("abort a multipart upload", &error))
    }

    /// Whether of many who write on one condition at the same time only one gets through.
    async fn race(&mut self, doing: &str, over: bool) -> Result<bool, UnfitError> {
        let mut last = None;
        for _ in 0..RACES {
            let (_, path) = self.unused()?;
            let mode = if over { PutMode::Update(self.write(&path, "nobody").await?) } else { PutMode::Create };
            let racers = (0..RACERS).map(|racer| self.run(&path, racer, mode.clone()));
            let raced: Vec<Raced> = futures::stream::iter(racers).buffer_unordered(RACERS).collect().await;
            if raced.iter().all(|raced| matches!(raced, Raced::NotImplemented)) {
                return Ok(false);
            }
            let count = |is: fn(&Raced) -> bool| raced.iter().filter(|raced| is(raced)).count();
            match (count(|raced| matches!(raced, Raced::Won)), count(|raced| matches!(raced, Raced::Lost))) {
                (0, _) | (1, 0) => {} // Nothing was learned: the others never came to race.
                (winners, _) => return Ok(winners == 1),
            }
            last = raced.into_iter().find_map(|raced| match raced {
                Raced::Unknown(error) => Some(error),
                _ => None,
            });
        }
        Err(match last {
            Some(error) => self.unfit(doing, &error),
            None => self.lies("refuses every write on a condition"),
        })
    }

    async fn run(&self, path: &Path, racer: usize, mode: PutMode) -> Raced {
        let options = PutOptions { mode, ..PutOptions::default() };
        match self.object.once.put_opts(path, Bytes::from(racer.to_string()).into(), options).await {
            Ok(_) => Raced::Won,
            Err(ObjectError::Precondition { .. } | ObjectError::AlreadyExists { .. }) => Raced::Lost,
            Err(error) if is_not_implemented(&error) => Raced::NotImplemented,
            Err(error) => Raced::Unknown(error),
        }
    }

    /// A name that nobody has.
    fn unused(&mut self) -> Result<(Ulid, Path), UnfitError> {
        let upload = Ulid::generate();
        let key = Key::Cancelled { upload };
        let path = self.object.path(&key).map_err(|error| UnfitError(error.to_string()))?;
        self.used.push(key);
        Ok((upload, path))
    }

    async fn write(&self, path: &Path, value: &'static str) -> Result<UpdateVersion, UnfitError> {
        let written = self.object.objects.put(path, Bytes::from_static(value.as_bytes()).into()).await;
        let written = written.map_err(|error| self.unfit("write", &error))?;
        Ok(UpdateVersion { e_tag: written.e_tag, version: written.version })
    }

    async fn read(&self, path: &Path) -> Result<Option<Bytes>, UnfitError> {
        let read = || async { self.object.objects.get(path).await?.bytes().await };
        found(tries::whole(read).await).map_err(|error| self.unfit("read", &error))
    }

    fn unfit(&self, doing: &str, error: &ObjectError) -> UnfitError {
        UnfitError(self.object.bucket.advice(error, doing))
    }

    fn lies(&self, what: &str) -> UnfitError {
        let bucket = &self.object.bucket.name;
        UnfitError(format!("the store of the bucket {bucket} {what}: no registry can be kept there"))
    }
}
