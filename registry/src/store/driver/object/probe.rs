//! What a store is seen to do, before anything is entrusted to it. A probe can disprove, never prove.

use bytes::Bytes;
use futures::StreamExt;
use object_store::{ObjectStoreExt, PutMode, PutOptions, UpdateVersion};
use ulid::Ulid;

use super::error::advice;
use super::{Object, found};
use crate::store::driver::{Driver, Honoured, UnfitError};
use crate::store::layout::{Key, Prefix};

/// Writers that race for one condition. Stores that look first and write afterwards let several through.
const RACERS: usize = 32;

/// Tries everything that the driver relies on, with an object that is swept like any upload's if this is interrupted.
pub(super) async fn probe(object: &Object) -> Result<Honoured, UnfitError> {
    let upload = Ulid::generate();
    let key = Key::Cancelled { upload };
    let probed = look(object, upload, &key).await;
    let removed = object.remove(std::slice::from_ref(&key)).await;
    let honoured = probed?;
    removed.map_err(|error| UnfitError(error.to_string()))?;
    if object.size(&key).await.map_err(|error| UnfitError(error.to_string()))?.is_some() {
        return Err(lies(object, "still shows an object that was deleted"));
    }
    Ok(honoured)
}

async fn look(object: &Object, upload: Ulid, key: &Key) -> Result<Honoured, UnfitError> {
    let unfit = |doing: &'static str| move |error| UnfitError(advice(&error, doing, &object.bucket));
    let path = object.path(key).map_err(|error| UnfitError(error.to_string()))?;
    let written = object.objects.put(&path, Bytes::from_static(b"1").into()).await.map_err(unfit("write"))?;
    let read = async { object.objects.get(&path).await?.bytes().await };
    if found(read.await).map_err(unfit("read"))?.as_deref() != Some(b"1") {
        return Err(lies(object, "does not give back what was written"));
    }
    let under = object.path(&Prefix::Upload(upload)).map_err(|error| UnfitError(error.to_string()))?;
    let listed = object.objects.list_with_delimiter(Some(&under)).await.map_err(unfit("list"))?;
    if !listed.objects.iter().any(|meta| meta.location == path) {
        return Err(lies(object, "does not list what was written"));
    }
    let mut parts = object.objects.put_multipart(&path).await.map_err(unfit("begin a multipart upload"))?;
    parts.put_part(Bytes::from_static(b"2").into()).await.map_err(unfit("write a part"))?;
    parts.abort().await.map_err(unfit("abort a multipart upload"))?;

    let version = UpdateVersion { e_tag: written.e_tag, version: written.version };
    let race = (0..RACERS).map(|racer| {
        let mode = PutMode::Update(version.clone());
        let options = PutOptions { mode, ..PutOptions::default() };
        let (once, path) = (&object.once, &path);
        async move { once.put_opts(path, Bytes::from(racer.to_string()).into(), options).await.is_ok() }
    });
    let winners = futures::stream::iter(race).buffer_unordered(RACERS).filter(|won| std::future::ready(*won)).count();
    Ok(Honoured { conditional_overwrite: winners.await == 1 })
}

fn lies(object: &Object, what: &str) -> UnfitError {
    UnfitError(format!("the store of the bucket {} {what}: no registry can be kept there", object.bucket))
}
