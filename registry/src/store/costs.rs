//! What each request costs storage, counted: these figures are what makes the registry fast on disks and cheap on buckets,
//! so they must not creep.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use berth_oci::{Algorithm, Digest, Manifest, ManifestKind, Reference, RepositoryName};
use bytes::Bytes;
use futures::stream;

use super::driver::{Driver, Object, Posix, Watched};
use super::{BodyError, Store};

type Counts = Arc<Mutex<BTreeMap<&'static str, usize>>>;

/// A store that counts what is asked of its driver.
fn counting(driver: impl Driver + 'static, counts: &Counts) -> Store {
    let counts = Arc::clone(counts);
    let count = move |operation| {
        *counts.lock().unwrap().entry(operation).or_default() += 1;
        Ok(())
    };
    Store::on(Arc::new(Watched::new(Arc::new(driver), count)))
}

fn repository() -> RepositoryName {
    "team/app".parse().unwrap()
}

fn body(bytes: &'static [u8]) -> impl futures::Stream<Item = Result<Bytes, BodyError>> + Send + Unpin {
    stream::iter([Ok(Bytes::from_static(bytes))])
}

fn digest_of(bytes: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, bytes)
}

/// An image of a config and five layers, which must have been pushed.
fn image() -> Bytes {
    let descriptor = |name: &str| {
        let (digest, size) = (digest_of(name.as_bytes()), name.len());
        format!(r#"{{"mediaType":"application/octet-stream","digest":"{digest}","size":{size}}}"#)
    };
    let layers: Vec<_> = LAYERS.iter().map(|name| descriptor(name)).collect();
    format!(r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#, descriptor("config"), layers.join(",")).into()
}

const LAYERS: [&str; 5] = ["one", "two", "three", "four", "five"];

/// Steps of a push and a pull, each with what it cost.
async fn costs<D: Driver + 'static>(driver: D) -> Vec<(&'static str, String)> {
    let counts = Counts::default();
    let store = counting(driver, &counts);
    let take = || {
        let counts = std::mem::take(&mut *counts.lock().unwrap());
        counts.iter().map(|(operation, count)| format!("{count} {operation}")).collect::<Vec<_>>().join(", ")
    };
    let mut costs = Vec::new();
    let config = digest_of(b"config");

    assert!(store.blob(&repository(), &config, |_| None).await.unwrap().is_none());
    costs.push(("HEAD of a blob that is not there", take()));

    store.put_blob(&repository(), &config, body(b"config")).await.unwrap();
    costs.push(("blob in one request", take()));

    let state = store.start_upload(repository(), "me".into(), Algorithm::Sha256);
    costs.push(("POST upload", take()));
    let state = store.append(&state, None, body(b"one")).await.unwrap();
    costs.push(("PATCH", take()));
    store.finish_upload(&state, None, body(b""), &digest_of(b"one")).await.unwrap();
    costs.push(("PUT upload", take()));
    let state = store.start_upload(repository(), "me".into(), Algorithm::Sha256);
    store.finish_upload(&state, None, body(b"whole"), &digest_of(b"whole")).await.unwrap();
    costs.push(("PUT upload with the whole body", take()));

    for layer in &LAYERS[1..] {
        store.put_blob(&repository(), &digest_of(layer.as_bytes()), body(layer.as_bytes())).await.unwrap();
    }
    take();
    assert!(store.blob(&repository(), &config, |_| None).await.unwrap().is_some());
    costs.push(("HEAD of a blob", take()));
    assert!(store.blob(&repository(), &config, |size| Some(0..size)).await.unwrap().is_some());
    costs.push(("GET of a blob", take()));
    assert!(store.blob(&repository(), &config, |size| Some(0..size)).await.unwrap().is_some());
    costs.push(("GET of a small blob again", take()));

    let bytes = image();
    let manifest = Manifest::parse(ManifestKind::OciManifest, &bytes).unwrap();
    let tags = ["v1".parse().unwrap()];
    store.put_manifest(&repository(), &digest_of(&bytes), &manifest, bytes.clone(), &tags).await.unwrap();
    costs.push(("PUT manifest with six children, by tag", take()));

    store.manifest(&repository(), &Reference::Tag(tags[0].clone())).await.unwrap().unwrap();
    costs.push(("HEAD or GET of a manifest by tag", take()));
    store.manifest(&repository(), &Reference::Digest(digest_of(&bytes))).await.unwrap().unwrap();
    costs.push(("HEAD or GET of a manifest by digest", take()));

    store.mount_blob(&"other".parse().unwrap(), &config, &repository()).await.unwrap();
    costs.push(("mount", take()));
    store.tags(&repository(), None, 100).await.unwrap();
    costs.push(("page of tags", take()));
    store.delete_tag(&repository(), &tags[0]).await.unwrap();
    costs.push(("DELETE tag", take()));
    costs
}

#[tokio::test]
async fn no_request_costs_more_operations_than_it_is_known_to() {
    let expected = [
        ("HEAD of a blob that is not there", "1 list"),
        ("blob in one request", "1 create, 1 leave, 2 list, 1 stage"),
        ("POST upload", ""),
        ("PATCH", "1 create, 1 list, 1 stage"),
        ("PUT upload", "1 create, 1 duplicate, 2 leave, 3 list, 1 remove, 1 stage"),
        ("PUT upload with the whole body", "1 create, 2 leave, 3 list, 1 stage"),
        ("HEAD of a blob", "1 list, 1 size"),
        ("GET of a blob", "1 list, 1 open"),
        ("GET of a small blob again", "1 list"),
        ("PUT manifest with six children, by tag", "1 create, 1 leave, 7 list, 1 remove, 1 replace, 6 size"),
        ("HEAD or GET of a manifest by tag", "2 read"),
        ("HEAD or GET of a manifest by digest", "1 list, 1 read"),
        ("mount", "1 create, 1 leave, 3 list, 1 size"),
        ("page of tags", "1 page"),
        ("DELETE tag", "1 read, 1 remove_tag_if"),
    ];
    let expected = expected.map(|(step, cost)| (step, cost.to_owned()));
    let memory = Object::in_memory();
    assert_eq!(costs(memory).await, expected);
    let root = tempfile::tempdir().unwrap();
    assert_eq!(costs(Posix::open(root.path()).unwrap()).await, expected);
}

#[tokio::test]
async fn no_push_costs_more_fsyncs_than_it_is_known_to() {
    let root = tempfile::tempdir().unwrap();
    let posix = Posix::open(root.path()).unwrap();
    let store = Store::on(Arc::new(posix.clone()));
    let mut before = posix.syncs();
    let mut syncs = || {
        let syncs = posix.syncs() - before;
        before += syncs;
        syncs
    };
    // The first push makes the directories on the way too: d, r and the repository's own.
    store.put_blob(&repository(), &digest_of(b"config"), body(b"config")).await.unwrap();
    assert_eq!(syncs(), 8, "first blob");
    // The bytes; then the shard (new, so `d` too), the digest's directory, and the one that holds it.
    store.put_blob(&repository(), &digest_of(b"two"), body(b"two")).await.unwrap();
    assert!(matches!(syncs(), 4 | 5), "blob in one request");

    let state = store.start_upload(repository(), "me".into(), Algorithm::Sha256);
    let state = store.append(&state, None, body(b"one")).await.unwrap();
    assert_eq!(syncs(), 4, "first PATCH ever: the bytes, the upload's directory, u, and the root");
    let state = store.append(&state, None, body(b" more")).await.unwrap();
    assert_eq!(syncs(), 2, "PATCH: the bytes and the upload's directory");
    store.finish_upload(&state, None, body(b""), &digest_of(b"one more")).await.unwrap();
    assert!(matches!(syncs(), 4..=7), "PUT: the joined bytes and the names, and what removing the segments changed");

    for layer in LAYERS {
        store.put_blob(&repository(), &digest_of(layer.as_bytes()), body(layer.as_bytes())).await.unwrap();
    }
    syncs();
    let bytes = image();
    let manifest = Manifest::parse(ManifestKind::OciManifest, &bytes).unwrap();
    let put = |tag: &'static str| {
        let (store, bytes, manifest) = (store.clone(), bytes.clone(), manifest.clone());
        async move {
            let tags = [tag.parse().unwrap()];
            store.put_manifest(&repository(), &digest_of(&bytes), &manifest, bytes, &tags).await.unwrap();
        }
    };
    put("v1").await;
    assert_eq!(syncs(), 10, "first manifest of a repository");
    put("v2").await;
    assert_eq!(syncs(), 6, "manifest by tag: record, its directory, the back-reference's; intent; tag, its directory");
    store.blob(&repository(), &digest_of(b"config"), |size| Some(0..size)).await.unwrap();
    store.manifest(&repository(), &Reference::Tag("v1".parse().unwrap())).await.unwrap();
    assert_eq!(syncs(), 0, "reading");
}

#[tokio::test]
async fn referrers_are_listed_once_however_many_there_are() {
    let counts = Counts::default();
    let store = counting(Object::in_memory(), &counts);
    let subject = digest_of(b"subject");
    for n in 0..40 {
        let bytes: Bytes = serde_json::json!({
            "schemaVersion": 2,
            "manifests": [],
            "annotations": {"n": n.to_string()},
            "subject": {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": subject, "size": 7},
        })
        .to_string()
        .into();
        let manifest = Manifest::parse(ManifestKind::OciIndex, &bytes).unwrap();
        store.put_manifest(&repository(), &digest_of(&bytes), &manifest, bytes.clone(), &[]).await.unwrap();
    }
    counts.lock().unwrap().clear();
    let repository = repository();
    let mut referrers = store.referrers(&repository, &subject, None, None).await.unwrap();
    let mut listed = 0;
    while referrers.next().await.unwrap().is_some() {
        listed += 1;
    }
    let cost = std::mem::take(&mut *counts.lock().unwrap());
    assert_eq!((listed, cost), (40, BTreeMap::from([("list", 1), ("read", 40), ("size", 40)])));
}

#[tokio::test]
async fn a_child_that_is_named_a_thousand_times_is_looked_for_once() {
    let counts = Counts::default();
    let store = counting(Object::in_memory(), &counts);
    store.put_blob(&repository(), &digest_of(b"config"), body(b"config")).await.unwrap();
    let bytes: Bytes = serde_json::json!({
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest_of(b"config"), "size": 6},
        "layers": [],
    })
    .to_string()
    .into();
    let child = Manifest::parse(ManifestKind::OciManifest, &bytes).unwrap();
    store.put_manifest(&repository(), &digest_of(&bytes), &child, bytes.clone(), &[]).await.unwrap();

    let mut costs = Vec::new();
    for times in [1, 1000] {
        let entry = serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest_of(&bytes), "size": bytes.len()});
        let index = serde_json::json!({"schemaVersion": 2, "manifests": vec![entry; times]});
        let index: Bytes = index.to_string().into();
        let parsed = Manifest::parse(ManifestKind::OciIndex, &index).unwrap();
        counts.lock().unwrap().clear();
        store.put_manifest(&repository(), &digest_of(&index), &parsed, index, &[]).await.unwrap();
        costs.push(std::mem::take(&mut *counts.lock().unwrap()));
    }
    assert_eq!(costs[0], costs[1]);
}
