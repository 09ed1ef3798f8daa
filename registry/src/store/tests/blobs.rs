//! Blobs: pushed, mounted, deleted.

use super::*;

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
