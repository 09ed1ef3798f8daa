//! The rely rule: what the collector has named is not relied upon.

use super::*;

on_every_driver! {
    a_blob_whose_data_is_dead_gets_a_fresh_incarnation_from_a_manifest
    a_blob_whose_link_is_dead_gets_a_fresh_incarnation_from_a_manifest
    a_mount_of_dead_data_gets_a_fresh_incarnation
    a_push_does_not_adopt_dead_data
    a_dead_child_manifest_is_recorded_again
    a_torn_batch_of_the_dead_is_ignored
    a_link_whose_data_is_gone_is_not_relied_on
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
