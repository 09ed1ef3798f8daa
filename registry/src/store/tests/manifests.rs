//! Manifests, tags, referrers, the catalog.

use super::*;

on_every_driver! {
    a_manifest_is_readable_by_tag_and_digest
    a_manifest_without_its_blobs_is_refused_and_leaves_nothing
    a_manifest_that_lies_about_a_size_is_refused
    an_index_may_be_sparse
    a_deleted_manifest_takes_its_tags_along_and_no_others
    a_tag_that_was_deleted_with_its_manifest_does_not_come_back_with_it
    a_deleted_tag_leaves_its_manifest
    referrers_are_listed_by_subject_and_type_and_once_each
    a_repository_without_manifests_is_not_in_the_catalog
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
    assert_eq!((page.items, page.more), (vec![repository("a-b"), repository("a")], true));
    let page = store.repositories(Some("a"), 5).await.unwrap();
    assert_eq!((page.items, page.more), (vec![repository("a/b")], false));
}
