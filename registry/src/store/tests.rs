//! The store's promises, on every driver, with the keys that are left afterwards.

use std::path::Path;
use std::time::Duration;

use berth_oci::{Algorithm, Digest, Manifest, ManifestKind, Reference, RepositoryName, Tag};
use bytes::Bytes;
use futures::{TryStreamExt, stream};
use ulid::Ulid;

use super::layout::{Key, LinkName, Prefix, RecordName};
use super::*;

macro_rules! on_every_driver {
    ($($name:ident)*) => {
        mod posix {
            $(#[tokio::test]
            async fn $name() {
                let root = tempfile::tempdir().unwrap();
                super::$name(super::Store::posix(root.path()).unwrap()).await;
            })*
        }

        mod in_memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Store::in_memory()).await;
            })*
        }

        mod bucket {
            $(#[tokio::test]
            #[ignore = "on a server, which `e2e/test` starts"]
            async fn $name() {
                let bucket = std::sync::Arc::new(super::Object::in_a_test_bucket());
                super::$name(super::Store::on(std::sync::Arc::new(super::Coalesced::new(bucket)))).await;
            })*
        }
    };
}

mod blobs;
mod check;
mod collect;
mod dying;
mod manifests;
mod network;
mod soak;
mod the_dead;
mod uploads;
mod whole;

fn repository(name: &str) -> RepositoryName {
    name.parse().unwrap()
}

fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

fn digest_of(bytes: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, bytes)
}

fn body(bytes: &[u8]) -> impl futures::Stream<Item = std::result::Result<Bytes, BodyError>> + Send + Unpin + use<> {
    let pieces: Vec<_> = bytes.chunks(5).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    stream::iter(pieces)
}

fn broken_body(
    bytes: &'static [u8],
) -> impl futures::Stream<Item = std::result::Result<Bytes, BodyError>> + Send + Unpin {
    stream::iter([Ok(Bytes::from_static(bytes)), Err(BodyError("connection reset".into()))])
}

async fn push_blob(store: &Store, name: &str, bytes: &[u8]) -> Digest {
    let digest = digest_of(bytes);
    store.put_blob(&repository(name), &digest, body(bytes)).await.unwrap();
    digest
}

async fn read_blob(store: &Store, name: &str, digest: &Digest) -> Option<Vec<u8>> {
    let blob = store.blob(&repository(name), digest, |size| Some(0..size)).await.unwrap()?;
    let pieces: Vec<Bytes> = blob.bytes().unwrap().try_collect().await.unwrap();
    Some(pieces.concat())
}

fn image(blobs: &[&[u8]]) -> Bytes {
    let descriptor = |bytes: &&[u8]| {
        let digest = digest_of(bytes);
        format!(r#"{{"mediaType":"application/octet-stream","digest":"{digest}","size":{}}}"#, bytes.len())
    };
    let descriptors: Vec<_> = blobs.iter().map(descriptor).collect();
    let (config, layers) = descriptors.split_first().unwrap();
    format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#, layers.join(",")).into()
}

fn index(children: &[&Bytes]) -> Bytes {
    let entry = |bytes: &&Bytes| {
        let (digest, size) = (digest_of(bytes), bytes.len());
        format!(r#"{{"mediaType":"{}","digest":"{digest}","size":{size}}}"#, ManifestKind::OciManifest)
    };
    let entries: Vec<_> = children.iter().map(entry).collect();
    format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(",")).into()
}

async fn put(
    store: &Store,
    name: &str,
    kind: ManifestKind,
    bytes: &Bytes,
    tags: &[&str],
) -> std::result::Result<Digest, PutManifestError> {
    let digest = digest_of(bytes);
    let manifest = Manifest::parse(kind, bytes).unwrap();
    let tags: Vec<_> = tags.iter().map(|name| tag(name)).collect();
    store.put_manifest(&repository(name), &digest, &manifest, bytes.clone(), &tags).await?;
    Ok(digest)
}

async fn push_image(store: &Store, name: &str, blobs: &[&[u8]], tags: &[&str]) -> (Bytes, Digest) {
    for blob in blobs {
        push_blob(store, name, blob).await;
    }
    let bytes = image(blobs);
    let digest = put(store, name, ManifestKind::OciManifest, &bytes, tags).await.unwrap();
    (bytes, digest)
}

async fn by_tag(store: &Store, name: &str, tag_name: &str) -> Option<Digest> {
    let reference = Reference::Tag(tag(tag_name));
    store.manifest(&repository(name), &reference).await.unwrap().map(|manifest| manifest.digest)
}

async fn by_digest(store: &Store, name: &str, digest: &Digest) -> Option<Bytes> {
    let reference = Reference::Digest(digest.clone());
    store.manifest(&repository(name), &reference).await.unwrap().map(|manifest| manifest.bytes)
}

/// What the collector writes before it deletes.
async fn plant_dead_batch(store: &Store, keys: &[Key]) {
    let batch = Key::DeadBatch(Ulid::generate());
    store.driver.create(vec![(batch, dead::write(keys).into())], &[]).await.unwrap();
}

async fn only_link(store: &Store, name: &str, digest: &Digest) -> LinkName {
    let links = store.links(&repository(name), digest).await.unwrap();
    assert_eq!(links.len(), 1);
    links[0]
}
