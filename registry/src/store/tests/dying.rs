//! A request that dies at any step, and a collection after it, take nothing from what was answered before.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::store::driver::Watched;
use berth_contract::config::Untagged;

use crate::store::Terms;

on_every_driver! {
    a_put_again_of_a_referrer_may_die_at_any_step
    a_put_again_of_an_index_may_die_at_any_step
    a_move_of_a_tag_may_die_at_any_step
    a_collection_may_die_at_any_step
}

/// Operations that change something.
const WRITES: [&str; 8] = ["create", "leave", "stage", "duplicate", "join", "remove", "replace", "remove_tag_if"];

/// The same storage, for somebody who dies after so many writes.
fn mortal(store: &Store, writes: usize) -> Store {
    let left = AtomicUsize::new(writes);
    let live = move |operation| {
        let dies =
            |left: usize| if WRITES.contains(&operation) { left.checked_sub(1) } else { (left > 0).then_some(left) };
        let lives = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, dies);
        lives.map(drop).map_err(|_| StoreError::other(operation, "its process has died"))
    };
    Store { driver: Arc::new(Watched::new(Arc::clone(&store.driver), live)), ..store.clone() }
}

/// More than any of these requests writes.
const MOST_WRITES: usize = 12;

async fn collect(store: &Store) {
    tokio::time::sleep(collect::tick()).await;
    let terms = Terms { untagged: Untagged::Keep, dry_run: false };
    store.clone().with_grace(Duration::ZERO).collect(terms, &mut |_| {}).await.unwrap();
}

async fn a_put_again_of_a_referrer_may_die_at_any_step(store: Store) {
    push_blob(&store, "a", b"config").await;
    let subject = digest_of(b"a subject");
    let referrer = format!(
        r#"{{"schemaVersion":2,"manifests":[],"subject":{{"mediaType":"{}","digest":"{subject}","size":9}}}}"#,
        ManifestKind::OciManifest
    );
    let referrer: Bytes = referrer.into();
    let digest = put(&store, "a", ManifestKind::OciIndex, &referrer, &[]).await.unwrap();
    let mut died = 0;
    for writes in 1..MOST_WRITES {
        died += usize::from(put(&mortal(&store, writes), "a", ManifestKind::OciIndex, &referrer, &[]).await.is_err());
        collect(&store).await;
        assert_eq!(by_digest(&store, "a", &digest).await.as_ref(), Some(&referrer), "after {writes} writes");
        let repository = repository("a");
        let mut listed = store.referrers(&repository, &subject, None, None).await.unwrap();
        let listed = listed.next().await.unwrap().map(|descriptor| descriptor.digest);
        assert_eq!(listed, Some(digest.clone()), "after {writes} writes");
    }
    assert!((2..MOST_WRITES - 1).contains(&died), "{died} died");
}

async fn a_put_again_of_an_index_may_die_at_any_step(store: Store) {
    let (child, child_digest) = push_image(&store, "a", &[b"config", b"layer"], &[]).await;
    let index = index(&[&child]);
    let digest = put(&store, "a", ManifestKind::OciIndex, &index, &["v1"]).await.unwrap();
    let mut died = 0;
    // On a server each collection waits for its clock, so that fewer moments are tried.
    let stride = if std::env::var_os("BERTH_TEST_SERVER").is_some() { 4 } else { 1 };
    for writes in (1..2 * MOST_WRITES).step_by(stride) {
        // Everything that it relies on is dead, so that it has to be made anew.
        let records = store.records(&repository("a"), &child_digest).await.unwrap();
        let record = |name| manifest::record_key(&repository("a"), &child_digest, name);
        let mut keys: Vec<Key> = records.into_iter().map(record).collect();
        for blob in [&b"config"[..], b"layer"] {
            let digest = digest_of(blob);
            let links = store.links(&repository("a"), &digest).await.unwrap();
            keys.extend(links.into_iter().map(|name| blob::link_key(&repository("a"), &digest, name)));
        }
        plant_dead_batch(&store, &keys).await;
        let put = put(&mortal(&store, writes), "a", ManifestKind::OciIndex, &index, &["v1", "v2"]).await;
        died += usize::from(put.is_err());
        collect(&store).await;
        assert_eq!(by_tag(&store, "a", "v1").await.as_ref(), Some(&digest), "after {writes} writes");
        assert_eq!(by_digest(&store, "a", &child_digest).await.as_ref(), Some(&child));
        for blob in [&b"config"[..], b"layer"] {
            assert_eq!(read_blob(&store, "a", &digest_of(blob)).await.as_deref(), Some(blob), "after {writes} writes");
        }
    }
    println!("{died} died");
    assert!((2..(2 * MOST_WRITES - 1) / stride).contains(&died), "{died} died");
}

async fn a_move_of_a_tag_may_die_at_any_step(store: Store) {
    let (_, first) = push_image(&store, "a", &[b"config", b"one"], &["v1"]).await;
    let (bytes, second) = push_image(&store, "a", &[b"config", b"two"], &["v2"]).await;
    for writes in 1..MOST_WRITES {
        let moved = put(&mortal(&store, writes), "a", ManifestKind::OciManifest, &bytes, &["v1"]).await;
        collect(&store).await;
        let named = by_tag(&store, "a", "v1").await.unwrap();
        assert!(named == second || (moved.is_err() && named == first), "after {writes} writes");
        assert_eq!(by_tag(&store, "a", "v2").await.as_ref(), Some(&second));
        assert!(by_digest(&store, "a", &first).await.is_some());
    }
}

async fn a_collection_may_die_at_any_step(store: Store) {
    let (_, kept) = push_image(&store, "a", &[b"config", b"kept"], &["v1"]).await;
    for writes in 0..MOST_WRITES {
        let layer = format!("layer {writes}");
        let (_, gone) = push_image(&store, "a", &[b"config", layer.as_bytes()], &["v2"]).await;
        store.delete_manifest(&repository("a"), &gone).await.unwrap();
        tokio::time::sleep(collect::tick()).await;
        let terms = Terms { untagged: Untagged::Keep, dry_run: false };
        let _ = mortal(&store, writes).with_grace(Duration::ZERO).collect(terms, &mut |_| {}).await;
        assert_eq!(by_tag(&store, "a", "v1").await.as_ref(), Some(&kept), "after {writes} writes");
        for blob in [&b"config"[..], b"kept"] {
            assert_eq!(read_blob(&store, "a", &digest_of(blob)).await.as_deref(), Some(blob), "after {writes} writes");
        }
        collect(&store).await;
        assert_eq!(read_blob(&store, "a", &digest_of(layer.as_bytes())).await, None, "after {writes} writes");
        let left = collect::kept(&store).await;
        assert!(!left.iter().any(|key| key.starts_with("g/")), "after {writes} writes: {left:?}");
    }
}
