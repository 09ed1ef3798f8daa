//! Blobs: pushed, mounted, deleted.

use super::*;
use crate::store::Terms;
use berth_contract::config::Untagged;

on_every_driver! {
    a_blob_is_readable_through_the_repository_it_was_pushed_to_and_no_other
    bytes_of_another_digest_are_refused_and_leave_nothing
    a_body_that_breaks_off_leaves_nothing
    pushing_the_same_again_adds_nothing
    the_same_bytes_in_two_repositories_are_stored_once
    a_mount_gives_a_repository_the_blob_and_a_missing_source_gives_nothing
    a_deleted_blob_is_gone_from_its_repository_only
}

async fn a_blob_is_readable_through_the_repository_it_was_pushed_to_and_no_other(store: Store) {
    let digest = push_blob(&store, "team/app", b"bytes of a blob").await;
    assert_eq!(read_blob(&store, "team/app", &digest).await.unwrap(), b"bytes of a blob");
    assert!(read_blob(&store, "team", &digest).await.is_none());
    assert!(read_blob(&store, "team/app2", &digest).await.is_none());
    let keys = store.stored_keys().await.unwrap();
    assert_eq!(keys, ["d/*".to_owned(), format!("i/{digest}/team~app/*"), format!("r/team~app/_b/{digest}/*.*.15")]);
}

async fn bytes_of_another_digest_are_refused_and_leave_nothing(store: Store) {
    let put = store.put_blob(&repository("a"), &digest_of(b"other"), body(b"bytes")).await;
    assert!(matches!(put, Err(UploadError::DigestMismatch)));
    assert!(store.stored_keys().await.unwrap().is_empty());
}

async fn a_body_that_breaks_off_leaves_nothing(store: Store) {
    let put = store.put_blob(&repository("a"), &digest_of(b"bytes"), broken_body(b"byt")).await;
    assert!(matches!(put, Err(UploadError::Body(_))));
    assert!(store.stored_keys().await.unwrap().is_empty());
}

async fn pushing_the_same_again_adds_nothing(store: Store) {
    push_blob(&store, "a", b"bytes").await;
    let before = store.stored_keys().await.unwrap();
    push_blob(&store, "a", b"bytes").await;
    assert_eq!(store.stored_keys().await.unwrap(), before);
}

async fn the_same_bytes_in_two_repositories_are_stored_once(store: Store) {
    let digest = push_blob(&store, "a", b"bytes").await;
    push_blob(&store, "b", b"bytes").await;
    assert_eq!(read_blob(&store, "b", &digest).await.unwrap(), b"bytes");
    assert_eq!(store.stored_keys().await.unwrap().iter().filter(|key| key.starts_with("d/")).count(), 1);
}

async fn a_mount_gives_a_repository_the_blob_and_a_missing_source_gives_nothing(store: Store) {
    let digest = push_blob(&store, "a", b"bytes").await;
    assert_eq!(store.repositories_hinting_at(&digest).await.unwrap(), [repository("a")]);
    assert!(store.mount_blob(&repository("b"), &digest, &repository("a")).await.unwrap());
    assert_eq!(read_blob(&store, "b", &digest).await.unwrap(), b"bytes");
    assert!(!store.mount_blob(&repository("b"), &digest_of(b"x"), &repository("a")).await.unwrap());
    assert!(!store.mount_blob(&repository("b"), &digest, &repository("c")).await.unwrap());
}

async fn a_deleted_blob_is_gone_from_its_repository_only(store: Store) {
    let digest = push_blob(&store, "a", b"bytes").await;
    push_blob(&store, "b", b"bytes").await;
    assert!(store.delete_blob(&repository("a"), &digest).await.unwrap());
    assert!(!store.delete_blob(&repository("a"), &digest).await.unwrap());
    assert!(read_blob(&store, "a", &digest).await.is_none());
    assert_eq!(read_blob(&store, "b", &digest).await.unwrap(), b"bytes");
}

/// A directory with one blob, of which the first byte has become another, and what it was.
async fn damaged(size: usize) -> (tempfile::TempDir, Vec<u8>) {
    let root = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
    push_blob(&Store::posix(root.path()).unwrap(), "a", &bytes).await;
    let shard = std::fs::read_dir(root.path().join("d")).unwrap().next().unwrap().unwrap().path();
    let file = std::fs::read_dir(shard).unwrap().next().unwrap().unwrap().path();
    let mut damaged = std::fs::read(&file).unwrap();
    damaged[0] ^= 1;
    std::fs::write(file, damaged).unwrap();
    (root, bytes)
}

async fn wanted(store: &Store, digest: &Digest, range: std::ops::Range<u64>) -> Option<std::io::Result<Vec<Bytes>>> {
    let blob = store.blob(&repository("a"), digest, |_| Some(range.clone())).await.unwrap()?;
    Some(blob.bytes().unwrap().try_collect().await)
}

#[tokio::test]
async fn a_damaged_blob_is_never_read_to_its_end_and_a_push_brings_it_back() {
    for size in [1000, 3 << 20] {
        let (root, bytes) = damaged(size).await;
        let (digest, whole) = (digest_of(&bytes), 0..bytes.len() as u64);

        let store = Store::posix(root.path()).unwrap();
        if size > 100_000 {
            let read = wanted(&store, &digest, whole.clone()).await.expect("its beginning is given out");
            assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::InvalidData, "its end is not");
        }
        assert!(wanted(&store, &digest, whole.clone()).await.is_none());
        assert!(wanted(&store, &digest, 0..1).await.is_none());
        assert!(store.blob(&repository("a"), &digest, |_| None).await.unwrap().is_none());

        push_blob(&store, "a", &bytes).await;
        for _ in 0..2 {
            let read = wanted(&store, &digest, whole.clone()).await.unwrap().unwrap();
            assert!(read.concat() == bytes);
        }
        // Of two that are there the younger one is read also by who has not found the other one out.
        let read = wanted(&Store::posix(root.path()).unwrap(), &digest, whole).await.unwrap().unwrap();
        assert!(read.concat() == bytes);
    }
}

#[tokio::test]
async fn what_one_replica_has_found_damaged_a_push_to_another_brings_back() {
    for size in [1000, 3 << 20] {
        let (root, bytes) = damaged(size).await;
        let (digest, whole) = (digest_of(&bytes), 0..bytes.len() as u64);
        let (finder, other) = (Store::posix(root.path()).unwrap(), Store::posix(root.path()).unwrap());
        let found = wanted(&finder, &digest, whole.clone()).await;
        assert!(found.is_none_or(|read| read.is_err()));
        push_blob(&other, "a", &bytes).await;
        for store in [&finder, &other, &Store::posix(root.path()).unwrap()] {
            let read = wanted(store, &digest, whole.clone()).await.unwrap().unwrap();
            assert!(read.concat() == bytes);
        }
        // And what is damaged goes.
        std::thread::sleep(collect::tick());
        let terms = Terms { untagged: Untagged::Keep, dry_run: false };
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"a/b","digest":"{digest}","size":{size}}},"layers":[]}}"#
        );
        put(&other, "a", ManifestKind::OciManifest, &manifest.into(), &["v1"]).await.unwrap();
        other.clone().with_grace(Duration::ZERO).collect(terms, &mut |_| {}).await.unwrap();
        let left = other.stored_keys().await.unwrap();
        assert_eq!(left.iter().filter(|key| *key == "d/*").count(), 1, "{left:?}");
        assert!(!left.iter().any(|key| key.starts_with("g/dead/")), "{left:?}");
    }
}

#[tokio::test]
async fn a_part_of_a_small_blob_is_the_part_that_was_asked_for() {
    let store = Store::in_memory();
    push_blob(&store, "a", b"0123456789").await;
    for _ in 0..2 {
        let part = wanted(&store, &digest_of(b"0123456789"), 3..7).await.unwrap().unwrap();
        assert_eq!(part.concat(), b"3456");
    }
}
