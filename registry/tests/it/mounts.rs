//! `POST /v2/<name>/blobs/uploads/?mount=`

use berth_registry::store::Store;

use crate::registry_under_test::{RegistryUnderTest, digest_of};

#[tokio::test]
async fn a_blob_is_mounted_from_where_it_is() {
    let root = tempfile::tempdir().unwrap();
    for store in [Store::in_memory(), Store::posix(root.path()).unwrap()] {
        let registry = RegistryUnderTest::on(store);
        let digest = registry.push_blob("a", b"bytes").await;
        let answer = registry.ask(&format!("POST /v2/b/blobs/uploads/?mount={digest}&from=a")).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (201, &*format!("/v2/b/blobs/{digest}")));
        assert_eq!(answer.header("docker-content-digest"), digest.as_ref());
        assert_eq!(registry.ask(&format!("GET /v2/b/blobs/{digest}")).await.body, "bytes");
        let link = |repository| format!("r/{repository}/_b/{digest}/*.*.5");
        let keys = ["d/*".into(), format!("i/{digest}/a/*"), format!("i/{digest}/b/*"), link("a"), link("b")];
        assert_eq!(registry.stored_keys().await, keys, "the bytes once, and no upload");
    }
}

#[tokio::test]
async fn a_mount_without_a_source_finds_one() {
    let registry = RegistryUnderTest::open();
    let digest = registry.push_blob("a", b"bytes").await;
    assert_eq!(registry.ask(&format!("POST /v2/b/blobs/uploads/?mount={digest}")).await.status, 201);
}

#[tokio::test]
async fn what_cannot_be_mounted_is_uploaded() {
    let registry = RegistryUnderTest::open();
    let digest = registry.push_blob("a", b"bytes").await;
    for query in [
        format!("mount={digest}&from=c"),
        format!("mount={}&from=a", digest_of(b"x")),
        format!("mount={}", digest_of(b"x")),
    ] {
        let answer = registry.ask(&format!("POST /v2/b/blobs/uploads/?{query}")).await;
        assert_eq!((answer.status.as_u16(), answer.header("range")), (202, "0-0"), "{query}");
        assert!(answer.header("location").starts_with("/v2/b/blobs/uploads/") && answer.body.is_empty());
    }
    assert!(registry.stored_keys().await.iter().all(|key| !key.contains("r/b/")));
}
