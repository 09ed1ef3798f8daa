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
    };
}

on_every_driver! {
    a_blob_is_readable_through_the_repository_it_was_pushed_to_and_no_other
    bytes_of_another_digest_are_refused_and_leave_nothing
    a_body_that_breaks_off_leaves_nothing
    pushing_the_same_again_adds_nothing
    the_same_bytes_in_two_repositories_are_stored_once
    a_mount_gives_a_repository_the_blob_and_a_missing_source_gives_nothing
    a_deleted_blob_is_gone_from_its_repository_only
    chunks_make_a_blob_and_leave_no_segments
    a_stale_location_learns_the_newest_offset_and_goes_on_from_there
    a_chunk_that_breaks_off_is_kept_as_far_as_it_came
    finishing_twice_is_answered_twice
    a_finish_with_another_digest_ends_the_upload
    a_digest_of_another_algorithm_than_announced_is_verified_all_the_same
    a_cancelled_upload_is_unknown
    an_expired_upload_is_unknown_and_swept
    two_chunks_at_one_offset_make_two_branches_and_either_can_be_finished
    a_manifest_is_readable_by_tag_and_digest
    a_manifest_without_its_blobs_is_refused_and_leaves_nothing
    a_manifest_that_lies_about_a_size_is_refused
    an_index_may_be_sparse
    a_deleted_manifest_takes_its_tags_along_and_no_others
    a_tag_that_was_deleted_with_its_manifest_does_not_come_back_with_it
    a_deleted_tag_leaves_its_manifest
    referrers_are_listed_by_subject_and_type_and_once_each
    a_repository_without_manifests_is_not_in_the_catalog
    a_blob_whose_data_is_dead_gets_a_fresh_incarnation_from_a_manifest
    a_blob_whose_link_is_dead_gets_a_fresh_incarnation_from_a_manifest
    a_mount_of_dead_data_gets_a_fresh_incarnation
    a_push_does_not_adopt_dead_data
    a_dead_child_manifest_is_recorded_again
    a_torn_batch_of_the_dead_is_ignored
    a_link_whose_data_is_gone_is_not_relied_on
}

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
    let blob = store.blob(&repository(name), digest).await.unwrap()?;
    let size = blob.size();
    let pieces: Vec<Bytes> = blob.stream(0..size).try_collect().await.unwrap();
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

async fn chunks_make_a_blob_and_leave_no_segments(store: Store) {
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let digest = Digest::of(algorithm, b"one two three");
        let mut state = store.start_upload(repository("a"), "me".into(), algorithm);
        for chunk in [&b"one "[..], b"two "] {
            let start = state.offset();
            state = store.append(&state, Some(start), body(chunk)).await.unwrap();
            assert_eq!(state.offset(), start + 4);
        }
        store.finish_upload(&state, Some(8), body(b"three"), &digest).await.unwrap();
        assert_eq!(read_blob(&store, "a", &digest).await.unwrap(), b"one two three");
        assert!(matches!(store.append(&state, None, body(b"x")).await, Err(UploadError::Unknown)));
    }
    let keys = store.stored_keys().await.unwrap();
    let uploads: Vec<_> = keys.iter().filter(|key| key.starts_with("u/")).collect();
    assert!(uploads.iter().all(|key| key.starts_with("u/*/finished.sha")) && uploads.len() == 2, "{uploads:?}");
}

async fn a_stale_location_learns_the_newest_offset_and_goes_on_from_there(store: Store) {
    let digest = digest_of(b"one two three");
    let first = store.start_upload(repository("a"), "me".into(), Algorithm::Sha256);
    let second = store.append(&first, Some(0), body(b"one ")).await.unwrap();
    store.append(&second, Some(4), body(b"two ")).await.unwrap();
    let Err(UploadError::OutOfOrder(newest)) = store.append(&first, Some(0), body(b"one ")).await else {
        panic!("a replayed chunk must be told where the upload stands");
    };
    assert_eq!(newest.offset(), 8);
    assert_eq!(store.upload_status(&first).await.unwrap(), *newest);
    store.finish_upload(&newest, Some(8), body(b"three"), &digest).await.unwrap();
    assert_eq!(read_blob(&store, "a", &digest).await.unwrap(), b"one two three");
}

async fn a_chunk_that_breaks_off_is_kept_as_far_as_it_came(store: Store) {
    let state = store.start_upload(repository("a"), "me".into(), Algorithm::Sha256);
    assert!(matches!(store.append(&state, None, broken_body(b"one ")).await, Err(UploadError::Body(_))));
    let state = store.upload_status(&state).await.unwrap();
    assert_eq!(state.offset(), 4);
    store.finish_upload(&state, None, body(b"two"), &digest_of(b"one two")).await.unwrap();

    let state = store.start_upload(repository("a"), "me".into(), Algorithm::Sha256);
    assert!(matches!(store.append(&state, None, broken_body(b"x")).await, Err(UploadError::Body(_))));
    assert_eq!(store.upload_status(&state).await.unwrap().offset(), 0, "one byte and none are told in the same words");
}

async fn finishing_twice_is_answered_twice(store: Store) {
    let state = store.start_upload(repository("a"), "me".into(), Algorithm::Sha256);
    let state = store.append(&state, None, body(b"bytes")).await.unwrap();
    for _ in 0..2 {
        store.finish_upload(&state, None, body(b""), &digest_of(b"bytes")).await.unwrap();
    }
    let other = store.finish_upload(&state, None, body(b""), &digest_of(b"other")).await;
    assert!(matches!(other, Err(UploadError::Unknown)));
}

async fn a_finish_with_another_digest_ends_the_upload(store: Store) {
    let state = store.start_upload(repository("a"), "me".into(), Algorithm::Sha256);
    let state = store.append(&state, None, body(b"bytes")).await.unwrap();
    let finish = store.finish_upload(&state, None, body(b""), &digest_of(b"other")).await;
    assert!(matches!(finish, Err(UploadError::DigestMismatch)));
    assert!(matches!(store.upload_status(&state).await, Err(UploadError::Unknown)));
    assert_eq!(store.stored_keys().await.unwrap(), ["u/*/cancelled"]);
}

async fn a_digest_of_another_algorithm_than_announced_is_verified_all_the_same(store: Store) {
    let state = store.start_upload(repository("a"), "me".into(), Algorithm::Sha256);
    let state = store.append(&state, None, body(b"one ")).await.unwrap();
    let wrong = Digest::of(Algorithm::Sha512, b"one three");
    let right = Digest::of(Algorithm::Sha512, b"one two");
    let other = store.append(&state, None, body(b"and")).await.unwrap();
    assert!(matches!(store.finish_upload(&state, None, body(b"two"), &wrong).await, Err(UploadError::OutOfOrder(_))));
    assert!(matches!(store.finish_upload(&other, None, body(b""), &wrong).await, Err(UploadError::DigestMismatch)));
    let state = store.start_upload(repository("a"), "me".into(), Algorithm::Sha256);
    let state = store.append(&state, None, body(b"one ")).await.unwrap();
    store.finish_upload(&state, None, body(b"two"), &right).await.unwrap();
    assert_eq!(read_blob(&store, "a", &right).await.unwrap(), b"one two");
}

async fn a_cancelled_upload_is_unknown(store: Store) {
    let fresh = store.start_upload(repository("a"), "me".into(), Algorithm::Sha256);
    let state = store.append(&fresh, None, body(b"bytes")).await.unwrap();
    store.cancel_upload(&state).await.unwrap();
    for state in [&fresh, &state] {
        assert!(matches!(store.upload_status(state).await, Err(UploadError::Unknown)));
        assert!(matches!(store.append(state, None, body(b"x")).await, Err(UploadError::Unknown)));
        let finish = store.finish_upload(state, None, body(b""), &digest_of(b"bytes")).await;
        assert!(matches!(finish, Err(UploadError::Unknown)));
        assert!(matches!(store.cancel_upload(state).await, Err(UploadError::Unknown)));
    }
    assert_eq!(store.stored_keys().await.unwrap(), ["u/*/cancelled"]);
}

async fn an_expired_upload_is_unknown_and_swept(store: Store) {
    let store = store.with_upload_age(Duration::ZERO);
    let state = store.start_upload(repository("a"), "me".into(), Algorithm::Sha256);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(matches!(store.append(&state, None, body(b"x")).await, Err(UploadError::Unknown)));
    // One that began a day ago, as another replica left it.
    let name = layout::SegmentName { start: 0, attempt: Ulid::generate(), before: Ulid::nil() };
    let yesterday = Ulid::from_datetime(std::time::SystemTime::now() - Duration::from_hours(24));
    let old = Key::Segment { upload: yesterday, name };
    let young = Key::Segment { upload: Ulid::generate(), name };
    let values = [&old, &young].map(|key| (key.clone(), Bytes::from_static(b"x")));
    store.driver.create(values.into(), &[]).await.unwrap();
    for dry_run in [true, false] {
        assert_eq!(store.sweep(dry_run).await.unwrap(), Swept { uploads: 1, intents: 0 });
    }
    assert_eq!(store.stored_keys().await.unwrap(), ["u/*/0000000000000000.*.*"]);
    assert_eq!(store.driver.list(&Prefix::Uploads, 10).await.unwrap().len(), 1);
}

async fn two_chunks_at_one_offset_make_two_branches_and_either_can_be_finished(store: Store) {
    let state = store.start_upload(repository("a"), "me".into(), Algorithm::Sha256);
    let (one, other) = tokio::join!(store.append(&state, None, body(b"aaaa")), store.append(&state, None, body(b"bb")));
    // Either may have been told that it came second; whoever was taken in can go on with its own bytes.
    for (taken, bytes) in [(one, &b"aaaa"[..]), (other, b"bb")] {
        if let Ok(state) = taken
            && store.finish_upload(&state, None, body(b""), &digest_of(bytes)).await.is_ok()
        {
            assert_eq!(read_blob(&store, "a", &digest_of(bytes)).await.unwrap(), bytes);
            return;
        }
    }
    panic!("nobody could finish");
}

async fn a_manifest_is_readable_by_tag_and_digest(store: Store) {
    let (bytes, digest) = push_image(&store, "a", &[b"config", b"layer"], &["v1", "latest"]).await;
    assert_eq!(by_digest(&store, "a", &digest).await.unwrap(), bytes);
    for name in ["v1", "latest"] {
        assert_eq!(by_tag(&store, "a", name).await.unwrap(), digest);
    }
    assert!(by_digest(&store, "b", &digest).await.is_none());
    assert!(by_tag(&store, "a", "v2").await.is_none());
    let page = store.tags(&repository("a"), None, 10).await.unwrap().unwrap();
    assert_eq!(page.items, [tag("latest"), tag("v1")]);
    let keys: Vec<_> = store.stored_keys().await.unwrap().into_iter().filter(|key| !key.contains("_b/")).collect();
    let expected = [
        format!("r/a/_m/{digest}/*.oci-manifest"),
        "r/a/_t/latest".into(),
        "r/a/_t/v1".into(),
        format!("r/a/_x/{digest}/latest.*"),
        format!("r/a/_x/{digest}/v1.*"),
    ];
    assert_eq!(
        keys.iter().filter(|key| key.starts_with("r/")).collect::<Vec<_>>(),
        expected.iter().collect::<Vec<_>>()
    );
}

async fn a_manifest_without_its_blobs_is_refused_and_leaves_nothing(store: Store) {
    push_blob(&store, "a", b"config").await;
    push_blob(&store, "b", b"layer").await;
    let before = store.stored_keys().await.unwrap();
    let refused = put(&store, "a", ManifestKind::OciManifest, &image(&[b"config", b"layer"]), &["v1"]).await;
    assert!(matches!(refused, Err(PutManifestError::ChildUnknown(digest)) if digest == digest_of(b"layer")));
    assert_eq!(store.stored_keys().await.unwrap(), before);
}

async fn a_manifest_that_lies_about_a_size_is_refused(store: Store) {
    push_blob(&store, "a", b"config").await;
    let lie = String::from_utf8(image(&[b"config"]).to_vec()).unwrap().replace("\"size\":6", "\"size\":7");
    let refused = put(&store, "a", ManifestKind::OciManifest, &lie.into(), &["v1"]).await;
    assert!(matches!(refused, Err(PutManifestError::ChildSize { described: 7, stored: 6, .. })));
}

async fn an_index_may_be_sparse(store: Store) {
    let (present, digest) = push_image(&store, "a", &[b"config"], &[]).await;
    let index = index(&[&present, &Bytes::from_static(b"a manifest for another platform")]);
    let index_digest = put(&store, "a", ManifestKind::OciIndex, &index, &["v1"]).await.unwrap();
    assert_eq!(by_tag(&store, "a", "v1").await.unwrap(), index_digest);
    assert!(by_digest(&store, "a", &digest).await.is_some());
}

async fn a_deleted_manifest_takes_its_tags_along_and_no_others(store: Store) {
    let (_, first) = push_image(&store, "a", &[b"config"], &["v1", "latest", "moved"]).await;
    let (_, second) = push_image(&store, "a", &[b"config", b"layer"], &["v2", "moved"]).await;
    assert!(store.delete_manifest(&repository("a"), &first).await.unwrap());
    assert!(!store.delete_manifest(&repository("a"), &first).await.unwrap());
    assert!(by_digest(&store, "a", &first).await.is_none());
    assert_eq!(by_tag(&store, "a", "moved").await.unwrap(), second);
    let page = store.tags(&repository("a"), None, 10).await.unwrap().unwrap();
    assert_eq!(page.items, [tag("moved"), tag("v2")]);
    let left = store.stored_keys().await.unwrap();
    assert!(!left.iter().any(|key| key.starts_with("r/") && key.contains(first.as_ref())), "{left:?}");
}

async fn a_tag_that_was_deleted_with_its_manifest_does_not_come_back_with_it(store: Store) {
    let (bytes, digest) = push_image(&store, "a", &[b"config"], &["v1"]).await;
    // As a request leaves it that writes the tag at the very moment when its record is deleted.
    let value = store.driver.read(&Key::Tag { repository: repository("a"), tag: tag("v1") }).await.unwrap().unwrap();
    store.delete_manifest(&repository("a"), &digest).await.unwrap();
    store.driver.replace(&Key::Tag { repository: repository("a"), tag: tag("v1") }, value).await.unwrap();
    assert!(by_tag(&store, "a", "v1").await.is_none());
    put(&store, "a", ManifestKind::OciManifest, &bytes, &[]).await.unwrap();
    assert!(by_tag(&store, "a", "v1").await.is_none());
    assert!(by_digest(&store, "a", &digest).await.is_some());
}

async fn a_deleted_tag_leaves_its_manifest(store: Store) {
    let (_, digest) = push_image(&store, "a", &[b"config"], &["v1", "v2"]).await;
    assert!(store.delete_tag(&repository("a"), &tag("v1")).await.unwrap());
    assert!(!store.delete_tag(&repository("a"), &tag("v1")).await.unwrap());
    assert!(by_tag(&store, "a", "v1").await.is_none());
    assert_eq!(by_tag(&store, "a", "v2").await.unwrap(), digest);
    assert!(by_digest(&store, "a", &digest).await.is_some());
}

async fn referrers_are_listed_by_subject_and_type_and_once_each(store: Store) {
    let subject = digest_of(b"a subject that is not here yet");
    push_blob(&store, "a", b"config").await;
    let mut digests = Vec::new();
    for artifact_type in ["application/x", "application/x", "application/y"] {
        let image = String::from_utf8(image(&[b"config"]).to_vec()).unwrap();
        let subject = format!(r#"{{"mediaType":"{}","digest":"{subject}","size":3}}"#, ManifestKind::OciManifest);
        let (number, end) = (digests.len(), image.rfind('}').unwrap());
        let fields =
            format!(r#","artifactType":"{artifact_type}","annotations":{{"n":"{number}"}},"subject":{subject}}}"#);
        let bytes: Bytes = (image[..end].to_owned() + &fields).into();
        for _ in 0..2 {
            put(&store, "a", ManifestKind::OciManifest, &bytes, &[]).await.unwrap();
        }
        digests.push(digest_of(&bytes));
    }
    let list = |artifact_type: Option<&'static str>| {
        let (store, subject) = (store.clone(), subject.clone());
        async move { referrers(&store, &subject, artifact_type, None).await }
    };
    assert_eq!(list(None).await.len(), 3);
    assert_eq!(list(Some("application/x")).await.len(), 2);
    assert_eq!(list(Some("application/y")).await[0].annotations.as_ref().unwrap()["n"], "2");
    store.delete_manifest(&repository("a"), &digests[2]).await.unwrap();
    assert!(list(Some("application/y")).await.is_empty());
    let left = list(None).await;
    let after = left[0].digest.to_string();
    assert_eq!(referrers(&store, &subject, None, Some(&after)).await, left[1..]);
}

async fn referrers(
    store: &Store,
    subject: &Digest,
    artifact_type: Option<&str>,
    after: Option<&str>,
) -> Vec<berth_oci::Descriptor> {
    let repository = repository("a");
    let mut referrers = store.referrers(&repository, subject, artifact_type, after).await.unwrap();
    let mut listed = Vec::new();
    while let Some(descriptor) = referrers.next().await.unwrap() {
        listed.push(descriptor);
    }
    assert!(listed.is_sorted_by_key(|descriptor| descriptor.digest.clone()));
    listed
}

async fn a_repository_without_manifests_is_not_in_the_catalog(store: Store) {
    for name in ["a", "a/b", "a-b", "b"] {
        push_image(&store, name, &[b"config"], &["v1"]).await;
    }
    push_blob(&store, "only-a-blob", b"config").await;
    store.delete_manifest(&repository("b"), &digest_of(&image(&[b"config"]))).await.unwrap();
    let page = store.repositories(None, 2).await.unwrap();
    assert_eq!((page.items, page.more), (vec![repository("a"), repository("a-b")], true));
    let page = store.repositories(Some("a-b"), 5).await.unwrap();
    assert_eq!((page.items, page.more), (vec![repository("a/b")], false));
}

async fn a_blob_whose_data_is_dead_gets_a_fresh_incarnation_from_a_manifest(store: Store) {
    let digest = push_blob(&store, "a", b"config").await;
    let old = only_link(&store, "a", &digest).await;
    plant_dead_batch(&store, &[Key::Data(old.data)]).await;
    put(&store, "a", ManifestKind::OciManifest, &image(&[b"config"]), &["v1"]).await.unwrap();
    store.driver.remove(&[Key::Data(old.data)]).await.unwrap();
    assert_eq!(read_blob(&store, "a", &digest).await.unwrap(), b"config");
}

async fn a_blob_whose_link_is_dead_gets_a_fresh_incarnation_from_a_manifest(store: Store) {
    let digest = push_blob(&store, "a", b"config").await;
    let old = only_link(&store, "a", &digest).await;
    let old_key = blob::link_key(&repository("a"), &digest, old);
    plant_dead_batch(&store, std::slice::from_ref(&old_key)).await;
    put(&store, "a", ManifestKind::OciManifest, &image(&[b"config"]), &["v1"]).await.unwrap();
    store.driver.remove(&[old_key, Key::Data(old.data)]).await.unwrap();
    assert_eq!(read_blob(&store, "a", &digest).await.unwrap(), b"config");
}

async fn a_mount_of_dead_data_gets_a_fresh_incarnation(store: Store) {
    let digest = push_blob(&store, "a", b"bytes").await;
    let old = only_link(&store, "a", &digest).await;
    plant_dead_batch(&store, &[Key::Data(old.data)]).await;
    assert!(store.mount_blob(&repository("b"), &digest, &repository("a")).await.unwrap());
    store.driver.remove(&[Key::Data(old.data)]).await.unwrap();
    assert_eq!(read_blob(&store, "b", &digest).await.unwrap(), b"bytes");
}

async fn a_push_does_not_adopt_dead_data(store: Store) {
    let digest = push_blob(&store, "a", b"bytes").await;
    let old = only_link(&store, "a", &digest).await;
    plant_dead_batch(&store, &[Key::Data(old.data), blob::link_key(&repository("a"), &digest, old)]).await;
    push_blob(&store, "a", b"bytes").await;
    push_blob(&store, "b", b"bytes").await;
    store.driver.remove(&[Key::Data(old.data)]).await.unwrap();
    for name in ["a", "b"] {
        assert_eq!(read_blob(&store, name, &digest).await.unwrap(), b"bytes");
    }
}

async fn a_dead_child_manifest_is_recorded_again(store: Store) {
    let (child, digest) = push_image(&store, "a", &[b"config"], &[]).await;
    let link = only_link(&store, "a", &digest_of(b"config")).await;
    let names = store.driver.list(&Prefix::Records(repository("a"), digest.clone()), 10).await.unwrap();
    let record: RecordName = names[0].parse().unwrap();
    let record = manifest::record_key(&repository("a"), &digest, record);
    // The collector took the child and all that only it held.
    let dead = [record, blob::link_key(&repository("a"), &digest_of(b"config"), link), Key::Data(link.data)];
    plant_dead_batch(&store, &dead).await;
    put(&store, "a", ManifestKind::OciIndex, &index(&[&child]), &["v1"]).await.unwrap();
    store.driver.remove(&dead).await.unwrap();
    assert_eq!(by_digest(&store, "a", &digest).await.unwrap(), child);
    assert_eq!(read_blob(&store, "a", &digest_of(b"config")).await.unwrap(), b"config");
}

async fn a_torn_batch_of_the_dead_is_ignored(store: Store) {
    let digest = push_blob(&store, "a", b"config").await;
    let data = Key::Data(only_link(&store, "a", &digest).await.data);
    let whole = dead::write(&[data]);
    let torn = Bytes::copy_from_slice(&whole.as_bytes()[..whole.len() - 3]);
    store.driver.create(vec![(Key::DeadBatch(Ulid::generate()), torn)], &[]).await.unwrap();
    put(&store, "a", ManifestKind::OciManifest, &image(&[b"config"]), &["v1"]).await.unwrap();
}

async fn a_link_whose_data_is_gone_is_not_relied_on(store: Store) {
    let digest = push_blob(&store, "a", b"config").await;
    let data = Key::Data(only_link(&store, "a", &digest).await.data);
    store.driver.remove(&[data]).await.unwrap();
    let refused = put(&store, "a", ManifestKind::OciManifest, &image(&[b"config"]), &["v1"]).await;
    assert!(matches!(refused, Err(PutManifestError::ChildUnknown(_))));
    assert!(!store.mount_blob(&repository("b"), &digest, &repository("a")).await.unwrap());
    push_blob(&store, "a", b"config").await;
    put(&store, "a", ManifestKind::OciManifest, &image(&[b"config"]), &["v1"]).await.unwrap();
}

#[tokio::test]
async fn an_intent_whose_request_is_gone_is_swept_and_a_young_one_is_not() {
    let store = Store::in_memory();
    let intent = |hours| {
        let record = Ulid::from_datetime(std::time::SystemTime::now() - Duration::from_hours(hours));
        let name = RecordName { record, kind: ManifestKind::OciManifest };
        Key::Intent { repository: repository("a"), digest: digest_of(b"x"), name }
    };
    let values = [intent(1), intent(30)].map(|key| (key, Bytes::from_static(b"x")));
    store.driver.leave(values.into()).await.unwrap();
    for dry_run in [true, false] {
        assert_eq!(store.sweep(dry_run).await.unwrap(), Swept { uploads: 0, intents: 1 });
    }
    assert_eq!(store.stored_keys().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_directory_of_distribution_is_refused() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("docker/registry/v2")).unwrap();
    let error = Store::posix(root.path()).unwrap_err();
    assert!(error.to_string().contains("docker/registry/v2"), "{error}");
}

#[tokio::test]
async fn storage_is_the_same_after_it_is_opened_again() {
    let root = tempfile::tempdir().unwrap();
    let (bytes, digest) = push_image(&Store::posix(root.path()).unwrap(), "a", &[b"config"], &["v1"]).await;
    let store = Store::posix(root.path()).unwrap();
    assert_eq!(by_tag(&store, "a", "v1").await, Some(digest.clone()));
    assert_eq!(by_digest(&store, "a", &digest).await, Some(bytes));
}

#[tokio::test]
async fn two_replicas_on_one_directory_see_each_others_tags_within_a_second() {
    let root = tempfile::tempdir().unwrap();
    let [one, two] = [(); 2].map(|()| Store::posix(Path::new(root.path())).unwrap());
    push_image(&one, "a", &[b"config"], &["v1"]).await;
    assert_eq!(two.tags(&repository("a"), None, 10).await.unwrap().unwrap().items, [tag("v1")]);
    push_image(&one, "a", &[b"config"], &["v2"]).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(two.tags(&repository("a"), None, 10).await.unwrap().unwrap().items, [tag("v1"), tag("v2")]);
}

async fn findings(store: &Store) -> Vec<Finding> {
    let mut findings = Vec::new();
    store.check(&mut |finding| findings.push(finding)).await.unwrap();
    findings
}

#[tokio::test]
async fn a_check_of_sound_storage_finds_nothing_and_looks_at_everything() {
    let store = Store::in_memory();
    let (child, _) = push_image(&store, "a", &[b"config", b"layer"], &["v1", "v2"]).await;
    put(&store, "a", ManifestKind::OciIndex, &index(&[&child]), &["all"]).await.unwrap();
    push_image(&store, "b", &[b"config"], &["v1"]).await;
    let state = store.start_upload(repository("a"), "me".into(), Algorithm::Sha256);
    store.append(&state, None, body(b"bytes")).await.unwrap();
    let checked = store.check(&mut |finding| panic!("{finding}")).await.unwrap();
    // Both repositories link one copy of the config.
    assert_eq!(checked, Checked { repositories: 2, manifests: 3, tags: 4, blobs: 2, bytes: 11 });
}

#[tokio::test]
async fn a_check_names_what_is_damaged_lost_and_overdue() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::posix(root.path()).unwrap();
    let (_, digest) = push_image(&store, "a", &[b"config", b"layer"], &["v1"]).await;
    let config = only_link(&store, "a", &digest_of(b"config")).await;
    std::fs::write(root.path().join(Key::Data(config.data).to_string()), b"c0nfig").unwrap();
    store.delete_blob(&repository("a"), &digest_of(b"layer")).await.unwrap();
    let old = Ulid::from_datetime(std::time::SystemTime::now() - Duration::from_hours(24 * 9));
    let segment = layout::SegmentName { start: 0, attempt: old, before: Ulid::nil() };
    let values = vec![(Key::Segment { upload: old, name: segment }, Bytes::from_static(b"x"))];
    store.driver.create(values, &[]).await.unwrap();
    std::fs::write(root.path().join("r/a/_t/.hidden"), b"x").unwrap();

    let mut found: Vec<_> = findings(&store).await.into_iter().map(|finding| (finding.severity, finding.key)).collect();
    found.sort();
    let record = store.driver.list(&Prefix::Records(repository("a"), digest.clone()), 1).await.unwrap();
    let expected = [
        (Severity::Leftover, "r/a/_t/.hidden".to_owned()),
        (Severity::Overdue, format!("u/{old}")),
        (Severity::Incomplete, format!("r/a/_m/{digest}/{}", record[0])),
        (Severity::Corrupt, Key::Data(config.data).to_string()),
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_check_writes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let config = config::Storage {
        filesystem: Some(config::Filesystem { rootdirectory: root.path().to_path_buf() }),
        ..config::Storage::default()
    };
    let store = Store::open_to_read(&config).unwrap();
    assert!(findings(&store).await.is_empty());
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
}
