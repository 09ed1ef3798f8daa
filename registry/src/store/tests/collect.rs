//! The collector: garbage goes, all else stays, and nothing that was answered is lost on the way.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use berth_contract::config::Untagged;

use crate::store::{Collected, Garbage, Terms, Told, Why};

on_every_driver! {
    what_is_referred_to_stays
    a_deleted_image_goes_with_all_that_only_it_held
    a_blob_that_no_manifest_names_goes_after_the_grace
    a_blob_stays_while_another_repository_links_it
    an_image_without_a_tag_stays_or_goes_as_the_terms_say
    an_index_holds_its_manifests_and_a_subject_its_referrers
    of_duplicates_one_stays
    of_duplicates_that_nothing_names_none_stays
    of_duplicate_records_the_tagged_one_stays
    what_a_deletion_left_half_done_is_finished
    a_dry_run_says_what_a_run_deletes_and_changes_nothing
    a_batch_that_nobody_finished_is_finished
    what_a_batch_names_goes_with_what_held_it
    what_was_spared_stays_until_a_push_makes_something_else_stand_for_it
    a_torn_batch_is_removed
    a_torn_intent_stops_no_collection
    nothing_is_taken_from_a_repository_with_a_damaged_manifest
    a_run_leaves_what_came_of_it
}

/// The clock that what is stored has its times from stands still for so long: a file's for a tick of the kernel's, an object's
/// for a second.
pub(super) fn tick() -> Duration {
    let on_a_server = std::env::var_os("BERTH_TEST_SERVER").is_some();
    Duration::from_millis(if on_a_server { 1100 } else { 20 })
}

async fn collect_with(store: &Store, grace: Duration, untagged: Untagged, dry_run: bool) -> (Collected, Vec<Garbage>) {
    tokio::time::sleep(tick()).await;
    let mut garbage = Vec::new();
    let mut tell = |told: Told| {
        if let Told::Garbage(found) = told {
            garbage.push(found);
        }
    };
    let terms = Terms { untagged, dry_run };
    let collected = store.clone().with_grace(grace).collect(terms, &mut tell).await.unwrap();
    (collected, garbage)
}

async fn collect(store: &Store) -> Collected {
    collect_with(store, Duration::ZERO, Untagged::Keep, false).await.0
}

async fn collect_untagged(store: &Store) -> Collected {
    collect_with(store, Duration::ZERO, Untagged::Delete, false).await.0
}

/// What is stored, but for what collections say of themselves.
pub(super) async fn kept(store: &Store) -> Vec<String> {
    let mut kept = store.stored_keys().await.unwrap();
    kept.retain(|key| !key.starts_with("g/runs/"));
    let mut removed = HashSet::new();
    for key in kept.iter().filter(|key| key.contains("/_t/")) {
        // On object stores a tag that was removed has an empty value.
        if store.driver.read(&key.parse().unwrap()).await.unwrap().is_some_and(|value| value.is_empty()) {
            removed.insert(key.clone());
        }
    }
    kept.retain(|key| !removed.contains(key));
    kept
}

async fn what_is_referred_to_stays(store: Store) {
    let (child, _) = push_image(&store, "a", &[b"config", b"layer"], &[]).await;
    put(&store, "a", ManifestKind::OciIndex, &index(&[&child]), &["v1", "v2"]).await.unwrap();
    push_image(&store, "b/c", &[b"config", b"another layer"], &["latest"]).await;
    let before = kept(&store).await;
    for untagged in [Untagged::Keep, Untagged::Delete] {
        let (collected, garbage) = collect_with(&store, Duration::ZERO, untagged, false).await;
        assert_eq!(garbage, []);
        assert_eq!(collected.repositories, 2);
        assert_eq!(kept(&store).await, before);
    }
}

async fn a_deleted_image_goes_with_all_that_only_it_held(store: Store) {
    let (bytes, digest) = push_image(&store, "a", &[b"config", b"layer"], &["v1"]).await;
    push_image(&store, "a", &[b"config", b"other"], &["v2"]).await;
    assert!(store.delete_manifest(&repository("a"), &digest).await.unwrap());
    let collected = collect(&store).await;
    assert_eq!((collected.links, collected.blobs, collected.bytes), (1, 1, 5));
    assert_eq!(read_blob(&store, "a", &digest_of(b"layer")).await, None);
    assert_eq!(read_blob(&store, "a", &digest_of(b"config")).await.unwrap(), b"config");
    assert!(collect(&store).await.is_nothing());
    // It can be pushed again.
    push_blob(&store, "a", b"layer").await;
    put(&store, "a", ManifestKind::OciManifest, &bytes, &["v1"]).await.unwrap();
    assert!(collect(&store).await.is_nothing());
    for name in ["v1", "v2"] {
        let digest = by_tag(&store, "a", name).await.unwrap();
        assert!(store.delete_manifest(&repository("a"), &digest).await.unwrap());
    }
    collect(&store).await;
    assert_eq!(kept(&store).await, [""; 0]);
}

async fn a_blob_that_no_manifest_names_goes_after_the_grace(store: Store) {
    let digest = push_blob(&store, "a", b"bytes").await;
    collect_with(&store, Duration::from_secs(60), Untagged::Delete, false).await;
    assert_eq!(read_blob(&store, "a", &digest).await.unwrap(), b"bytes");
    let (_, garbage) = collect_with(&store, Duration::ZERO, Untagged::Keep, false).await;
    let why: Vec<Why> = garbage.iter().map(|garbage| garbage.why).collect();
    assert_eq!(why, [Why::Unreferenced, Why::Unlinked]);
    assert_eq!(kept(&store).await, [""; 0]);
}

async fn a_blob_stays_while_another_repository_links_it(store: Store) {
    let digest = push_blob(&store, "a", b"config").await;
    assert!(store.mount_blob(&repository("b"), &digest, &repository("a")).await.unwrap());
    put(&store, "b", ManifestKind::OciManifest, &image(&[b"config"]), &["v1"]).await.unwrap();
    let collected = collect(&store).await;
    assert_eq!((collected.links, collected.blobs), (1, 0));
    assert_eq!(read_blob(&store, "a", &digest).await, None);
    assert_eq!(read_blob(&store, "b", &digest).await.unwrap(), b"config");
}

async fn an_image_without_a_tag_stays_or_goes_as_the_terms_say(store: Store) {
    let (old, old_digest) = push_image(&store, "a", &[b"config", b"old"], &["v1"]).await;
    let (_, new_digest) = push_image(&store, "a", &[b"config", b"new"], &["v1"]).await;
    assert!(collect(&store).await.is_nothing());
    assert_eq!(by_digest(&store, "a", &old_digest).await.unwrap(), old);
    let collected = collect_untagged(&store).await;
    assert_eq!((collected.manifests, collected.links, collected.blobs), (1, 1, 1));
    assert_eq!(collected.bytes, old.len() as u64 + 3);
    assert_eq!(by_digest(&store, "a", &old_digest).await, None);
    assert_eq!(by_tag(&store, "a", "v1").await, Some(new_digest));
    assert_eq!(kept(&store).await.iter().filter(|key| key.contains("/_x/")).count(), 1);
}

async fn an_index_holds_its_manifests_and_a_subject_its_referrers(store: Store) {
    let (child, child_digest) = push_image(&store, "a", &[b"config"], &[]).await;
    let top = put(&store, "a", ManifestKind::OciIndex, &index(&[&child]), &["v1"]).await.unwrap();
    push_blob(&store, "a", b"signature").await;
    let signature = format!(
        r#"{{"subject":{{"mediaType":"{}","digest":"{child_digest}","size":{}}},{}"#,
        ManifestKind::OciManifest,
        child.len(),
        &std::str::from_utf8(&image(&[b"signature"])).unwrap()[1..]
    );
    put(&store, "a", ManifestKind::OciManifest, &signature.into(), &[]).await.unwrap();
    assert!(collect_untagged(&store).await.is_nothing());
    // The index, then its manifest, then what refers to that, then the blobs: in one collection.
    assert!(store.delete_tag(&repository("a"), &tag("v1")).await.unwrap());
    assert!(by_digest(&store, "a", &top).await.is_some());
    let collected = collect_untagged(&store).await;
    assert_eq!((collected.manifests, collected.links, collected.blobs), (3, 2, 2));
    assert_eq!(kept(&store).await, [""; 0]);
}

async fn of_duplicates_one_stays(store: Store) {
    let digest = push_blob(&store, "a", b"config").await;
    // Replicas that push at the same moment see nothing of each other.
    for _ in 0..3 {
        let link = only_data(&store, b"config").await;
        store.link_to_own(&repository("a"), &digest, link, 6).await.unwrap();
    }
    put(&store, "a", ManifestKind::OciManifest, &image(&[b"config"]), &["v1"]).await.unwrap();
    put(&store, "a", ManifestKind::OciManifest, &image(&[b"config"]), &[]).await.unwrap();
    assert_eq!(store.links(&repository("a"), &digest).await.unwrap().len(), 4);
    let collected = collect(&store).await;
    assert_eq!((collected.manifests, collected.links, collected.blobs), (1, 3, 3));
    assert_eq!(store.links(&repository("a"), &digest).await.unwrap().len(), 1);
    assert_eq!(by_tag(&store, "a", "v1").await, Some(digest_of(&image(&[b"config"]))));
    assert!(collect(&store).await.is_nothing());
}

async fn of_duplicates_that_nothing_names_none_stays(store: Store) {
    // Of links younger than half the grace there is one.
    let grace = Duration::from_secs(2);
    let pusher = store.clone().with_grace(grace);
    for _ in 0..3 {
        push_blob(&pusher, "a", b"bytes").await;
        push_image(&pusher, "b", &[b"config"], &[]).await;
        tokio::time::sleep(grace / 2).await;
    }
    let would_go = collect_with(&store, Duration::ZERO, Untagged::Delete, true).await.0;
    let collected = collect_untagged(&store).await;
    assert_eq!((collected.links, collected.manifests, collected.spared), (6, 3, 0));
    assert_eq!(collected, would_go);
    assert_eq!(kept(&store).await, [""; 0]);
}

async fn only_data(store: &Store, bytes: &'static [u8]) -> Ulid {
    let data = Ulid::generate();
    store.driver.create(vec![(Key::Data(data), Bytes::from_static(bytes))], &[]).await.unwrap();
    data
}

async fn of_duplicate_records_the_tagged_one_stays(store: Store) {
    let (bytes, digest) = push_image(&store, "a", &[b"config"], &["v1"]).await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        put(&store, "a", ManifestKind::OciManifest, &bytes, &[]).await.unwrap();
    }
    assert_eq!(collect(&store).await.manifests, 3);
    assert_eq!(by_tag(&store, "a", "v1").await, Some(digest));
}

async fn what_a_deletion_left_half_done_is_finished(store: Store) {
    let (_, digest) = push_image(&store, "a", &[b"config"], &["v1"]).await;
    let names = store.records(&repository("a"), &digest).await.unwrap();
    // It died after the record, and its tag had been written over meanwhile by nobody.
    store.driver.remove(&[manifest::record_key(&repository("a"), &digest, names[0])]).await.unwrap();
    let collected = collect(&store).await;
    assert_eq!((collected.entries, collected.links, collected.blobs), (1, 1, 1));
    assert_eq!(kept_tags(&store).await, 0);
}

/// Tags that are there; on an object store one that was removed leaves an empty value.
async fn kept_tags(store: &Store) -> usize {
    store.driver.page(&Prefix::Tags(repository("a")), None, 10).await.unwrap().items.len()
}

async fn a_dry_run_says_what_a_run_deletes_and_changes_nothing(store: Store) {
    let (child, _) = push_image(&store, "a", &[b"config", b"layer"], &[]).await;
    put(&store, "a", ManifestKind::OciIndex, &index(&[&child]), &[]).await.unwrap();
    push_image(&store, "b", &[b"config"], &["v1"]).await;
    push_blob(&store, "b", b"forgotten").await;
    let before = store.stored_keys().await.unwrap();
    tokio::time::sleep(tick()).await;
    let looked =
        store.clone().with_grace(Duration::ZERO).look_for_garbage(Untagged::Delete, &mut |_| ()).await.unwrap();
    assert_eq!(store.stored_keys().await.unwrap(), before, "looking leaves no trace");
    let (would, said) = collect_with(&store, Duration::ZERO, Untagged::Delete, true).await;
    assert_eq!(kept(&store).await, before, "a dry run in its turn leaves what came of it");
    let told = store.last_collection().await.unwrap().unwrap();
    assert_eq!((told.dry_run, told.manifests, told.blobs), (true, would.manifests, would.blobs));
    assert_eq!(looked, would);
    let (did, done) = collect_with(&store, Duration::ZERO, Untagged::Delete, false).await;
    assert_eq!(would, did);
    let keys = |garbage: Vec<Garbage>| garbage.into_iter().map(|found| found.key).collect::<BTreeSet<_>>();
    assert_eq!(keys(said), keys(done));
    assert_eq!((did.manifests, did.links, did.blobs), (2, 3, 2));
}

async fn a_batch_that_nobody_finished_is_finished(store: Store) {
    let digest = push_blob(&store, "a", b"bytes").await;
    let link = only_link(&store, "a", &digest).await;
    let keys = [blob::link_key(&repository("a"), &digest, link), Key::Data(link.data)];
    plant_dead_batch(&store, &keys).await;
    // Young as they are, they were old when they were named.
    let (collected, garbage) = collect_with(&store, Duration::from_secs(60), Untagged::Keep, false).await;
    assert_eq!((collected.links, collected.blobs), (1, 1));
    assert!(garbage.iter().all(|found| found.why == Why::LeftOver));
    assert_eq!(kept(&store).await, [""; 0]);
}

async fn what_a_batch_names_goes_with_what_held_it(store: Store) {
    let digest = push_blob(&store, "a", b"bytes").await;
    let link = only_link(&store, "a", &digest).await;
    plant_dead_batch(&store, &[Key::Data(link.data)]).await;
    collect(&store).await;
    assert_eq!(kept(&store).await, [""; 0]);
}

async fn what_was_spared_stays_until_a_push_makes_something_else_stand_for_it(store: Store) {
    let (child, digest) = push_image(&store, "a", &[b"config"], &[]).await;
    put(&store, "a", ManifestKind::OciIndex, &index(&[&child]), &["v1"]).await.unwrap();
    let link = only_link(&store, "a", &digest_of(b"config")).await;
    let record = store.records(&repository("a"), &digest).await.unwrap()[0];
    let keys = [
        manifest::record_key(&repository("a"), &digest, record),
        blob::link_key(&repository("a"), &digest_of(b"config"), link),
        Key::Data(link.data),
    ];
    plant_dead_batch(&store, &keys).await;
    let would_go = collect_with(&store, Duration::ZERO, Untagged::Keep, true).await.0;
    assert!(would_go.is_nothing(), "{would_go:?}");
    let before = kept(&store).await;
    for _ in 0..2 {
        assert_eq!(collect(&store).await.spared, 3);
        assert_eq!(kept(&store).await, before, "a collector brings nothing back that a client may be deleting");
        assert_eq!(by_digest(&store, "a", &digest).await.unwrap(), child);
        assert_eq!(read_blob(&store, "a", &digest_of(b"config")).await.unwrap(), b"config");
    }
    put(&store, "a", ManifestKind::OciIndex, &index(&[&child]), &["v1"]).await.unwrap();
    collect(&store).await;
    assert_eq!(by_digest(&store, "a", &digest).await.unwrap(), child);
    assert_eq!(read_blob(&store, "a", &digest_of(b"config")).await.unwrap(), b"config");
    let left = kept(&store).await;
    assert!(!left.iter().any(|key| key.starts_with("g/dead/")), "{left:?}");
    for key in keys {
        assert_eq!(store.driver.size(&key).await.unwrap(), None, "{key}");
    }
}

async fn a_torn_intent_stops_no_collection(store: Store) {
    let name = RecordName { record: Ulid::generate(), kind: ManifestKind::OciManifest };
    let intent = Key::Intent { repository: repository("a"), digest: digest_of(b"whole"), name };
    store.driver.leave(vec![(intent, Bytes::from_static(b"torn"))]).await.unwrap();
    push_blob(&store, "a", b"forgotten").await;
    let collected = collect(&store).await;
    assert_eq!((collected.links, collected.blobs, collected.spared), (1, 1, 0));
}

async fn a_torn_batch_is_removed(store: Store) {
    store.driver.create(vec![(Key::DeadBatch(Ulid::generate()), Bytes::from_static(b"to"))], &[]).await.unwrap();
    collect(&store).await;
    assert_eq!(kept(&store).await, [""; 0]);
}

async fn nothing_is_taken_from_a_repository_with_a_damaged_manifest(store: Store) {
    push_image(&store, "a", &[b"config"], &["v1"]).await;
    push_blob(&store, "a", b"perhaps needed").await;
    push_blob(&store, "b", b"not needed").await;
    let record = RecordName { record: Ulid::generate(), kind: ManifestKind::OciManifest };
    let damaged = manifest::record_key(&repository("a"), &digest_of(b"what it was"), record);
    store.driver.create(vec![(damaged, Bytes::from_static(b"what it is"))], &[]).await.unwrap();
    let collected = collect_untagged(&store).await;
    assert_eq!(collected.left_alone, [repository("a")]);
    assert_eq!((collected.links, collected.blobs), (1, 1));
    assert!(read_blob(&store, "a", &digest_of(b"perhaps needed")).await.is_some());
    assert!(read_blob(&store, "b", &digest_of(b"not needed")).await.is_none());
    // Whoever deletes it has decided.
    assert!(store.delete_manifest(&repository("a"), &digest_of(b"what it was")).await.unwrap());
    assert_eq!(collect_untagged(&store).await.left_alone, []);
    assert!(read_blob(&store, "a", &digest_of(b"perhaps needed")).await.is_none());
}

async fn a_run_leaves_what_came_of_it(store: Store) {
    assert_eq!(store.last_collection().await.unwrap(), None);
    for round in 0..10 {
        push_blob(&store, "a", format!("blob {round}").as_bytes()).await;
        collect(&store).await;
    }
    let last = store.last_collection().await.unwrap().unwrap();
    assert_eq!((last.blobs, last.bytes, last.error), (1, 6, None));
    let runs = store.stored_keys().await.unwrap();
    assert_eq!(runs.iter().filter(|key| key.as_str() == "g/runs/*").count(), 8);
    assert_eq!(runs.iter().filter(|key| key.as_str() == "g/runs/*.result").count(), 8);
}

/// Pushes, re-pushes, mounts and deletions without a pause, beside collectors without a pause and with next to no grace.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_answered_is_lost_beside_collectors_that_never_rest() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::posix(root.path()).unwrap().with_grace(Duration::from_secs(2));
    let stop = Arc::new(AtomicBool::new(false));
    let collectors: Vec<_> = (0..2)
        .map(|_| {
            let (store, stop) = (store.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut deleted = 0;
                while !stop.load(Ordering::Relaxed) {
                    let terms = Terms { untagged: Untagged::Delete, dry_run: false };
                    let collected = store.collect(terms, &mut |_| {}).await.unwrap();
                    deleted += collected.blobs;
                }
                deleted
            })
        })
        .collect();
    let pushers: Vec<_> = (0..4).map(|pusher| tokio::spawn(churn(store.clone(), pusher))).collect();
    let mut acknowledged = 0;
    for pusher in pushers {
        acknowledged += pusher.await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let mut deleted = 0;
    for collector in collectors {
        deleted += collector.await.unwrap();
    }
    eprintln!("{acknowledged} pushes acknowledged and found whole, {deleted} blobs collected meanwhile");
    assert!(acknowledged > 50 && deleted > 0);
}

/// Pushes images of few different blobs, so that they are always about to be collected, and reads each after its 201.
async fn churn(store: Store, pusher: u32) -> usize {
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let name = ["a", "b"][(round % 2) as usize];
        let blobs: Vec<String> = (0..3).map(|blob| format!("blob {}", (round + blob + pusher) % 7)).collect();
        let blobs: Vec<&[u8]> = blobs.iter().map(String::as_bytes).collect();
        for blob in &blobs {
            let digest = digest_of(blob);
            let from = repository(["b", "a"][(round % 2) as usize]);
            if !store.mount_blob(&repository(name), &digest, &from).await.unwrap_or(false) {
                let _ = store.put_blob(&repository(name), &digest, body(blob)).await;
            }
        }
        let (bytes, tag) = (image(&blobs), format!("t{pusher}"));
        // Refused when a blob was collected meanwhile, or when it took longer than the grace allows: then nothing was promised.
        let Ok(digest) = put(&store, name, ManifestKind::OciManifest, &bytes, &[&tag]).await else { continue };
        acknowledged += 1;
        for _ in 0..round % 4 {
            assert_eq!(by_tag(&store, name, &tag).await, Some(digest.clone()), "round {round}");
            for blob in &blobs {
                assert_eq!(read_blob(&store, name, &digest_of(blob)).await.as_deref(), Some(*blob), "round {round}");
            }
            tokio::time::sleep(Duration::from_millis(u64::from(round % 5) * 200)).await;
        }
        if round % 3 == 0 {
            let _ = store.delete_tag(&repository(name), &super::tag(&tag)).await;
        }
    }
    acknowledged
}

const ROUNDS: u32 = 60;
