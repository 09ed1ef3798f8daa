//! The storage as a whole: opened, opened again, shared, swept.

use super::*;

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
    assert_eq!(store.sweep_intents().await.unwrap(), 1);
    assert_eq!(store.stored_keys().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_hint_whose_link_was_deleted_before_it_was_written_is_swept() {
    let root = tempfile::tempdir().unwrap();
    for store in [Store::in_memory(), Store::posix(root.path()).unwrap()] {
        let digest = push_blob(&store, "a", b"stays").await;
        let before = store.stored_keys().await.unwrap();
        let hint = |hours| {
            let link = Ulid::from_datetime(std::time::SystemTime::now() - Duration::from_hours(hours));
            Key::Hint { digest: digest.clone(), repository: repository("b"), link }
        };
        store.driver.leave(vec![(hint(30), Bytes::new())]).await.unwrap();
        store.sweep_hints().await.unwrap();
        assert_eq!(store.stored_keys().await.unwrap(), before);
        // The link of a young one may still be to come.
        store.driver.leave(vec![(hint(1), Bytes::new())]).await.unwrap();
        store.sweep_hints().await.unwrap();
        assert_eq!(store.stored_keys().await.unwrap().len(), before.len() + 1);
        // The grace over, the other one goes, and one with its link does not.
        store.clone().with_grace(Duration::ZERO).sweep_hints().await.unwrap();
        assert_eq!(store.stored_keys().await.unwrap(), before);
    }
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
