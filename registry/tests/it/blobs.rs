//! `/v2/<name>/blobs/<digest>`

use axum::body::Body;
use http::header;

use crate::registry_under_test::{RegistryUnderTest, digest_of, request};

const BYTES: &[u8] = b"0123456789";

#[tokio::test]
async fn a_blob_is_pulled_with_everything_that_clients_look_for() {
    let registry = RegistryUnderTest::open();
    let digest = registry.push_blob("a/b", BYTES).await;
    for method in ["GET", "HEAD"] {
        let answer = registry.ask(&format!("{method} /v2/a/b/blobs/{digest}")).await;
        assert_eq!(answer.status, 200);
        for (name, value) in [
            ("content-length", "10"),
            ("content-type", "application/octet-stream"),
            ("docker-content-digest", digest.as_ref()),
            ("etag", &format!("\"{digest}\"")),
            ("accept-ranges", "bytes"),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "default-src 'none'; sandbox"),
            ("docker-distribution-api-version", "registry/2.0"),
            ("cache-control", "private, max-age=31536000, immutable"),
        ] {
            assert_eq!(answer.header(name), value, "{method} {name}");
        }
        assert_eq!(answer.body, if method == "GET" { BYTES } else { b"" });
    }
}

#[tokio::test]
async fn a_blob_is_unknown_through_any_repository_but_its_own() {
    let registry = RegistryUnderTest::open();
    let digest = registry.push_blob("a", BYTES).await;
    let missing = registry.ask(&format!("GET /v2/a/blobs/{}", digest_of(b"x"))).await;
    assert_eq!(missing.refusal(), (404, "BLOB_UNKNOWN".into()));
    for line in ["GET /v2/b/blobs/", "HEAD /v2/b/blobs/", "DELETE /v2/b/blobs/", "GET /v2/a/a/blobs/"] {
        let answer = registry.ask(&format!("{line}{digest}")).await;
        assert_eq!(answer.status, 404, "{line}");
    }
    let ranged = request(&format!("GET /v2/b/blobs/{digest}")).header(header::RANGE, "bytes=0-1");
    assert_eq!(registry.send(ranged.body(Body::empty()).unwrap()).await.status, 404);
}

#[tokio::test]
async fn a_single_range_is_served_and_one_beyond_the_end_is_416_with_the_size() {
    let registry = RegistryUnderTest::open();
    let digest = registry.push_blob("a", BYTES).await;
    for (range, status, content_range, body) in [
        ("bytes=2-5", 206, "bytes 2-5/10", "2345"),
        ("bytes=7-", 206, "bytes 7-9/10", "789"),
        ("bytes=-3", 206, "bytes 7-9/10", "789"),
        ("bytes=8-99", 206, "bytes 8-9/10", "89"),
        ("bytes=0-1,4-5", 200, "", "0123456789"),
        ("lines=0-1", 200, "", "0123456789"),
    ] {
        let request = request(&format!("GET /v2/a/blobs/{digest}")).header(header::RANGE, range);
        let answer = registry.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-range")), (status, content_range), "{range}");
        assert_eq!(
            (answer.body.as_ref(), answer.header("content-length")),
            (body.as_bytes(), &*body.len().to_string())
        );
    }
    for range in ["bytes=10-", "bytes=5-0", "bytes=-0", "bytes=99-100"] {
        let request = request(&format!("GET /v2/a/blobs/{digest}")).header(header::RANGE, range);
        let answer = registry.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.refusal(), (416, "SIZE_INVALID".into()), "{range}");
        assert_eq!(answer.header("content-range"), "bytes */10");
    }
}

#[tokio::test]
async fn a_client_that_has_it_already_is_told_so_and_only_where_it_exists() {
    let registry = RegistryUnderTest::open();
    let digest = registry.push_blob("a", BYTES).await;
    let ask = async |repository: &str, name, value: String| {
        let request = request(&format!("GET /v2/{repository}/blobs/{digest}")).header(header::RANGE, "bytes=0-1");
        registry.send(request.header(name, value).body(Body::empty()).unwrap()).await
    };
    let known = ask("a", header::IF_NONE_MATCH, format!("\"{digest}\"")).await;
    assert_eq!((known.status.as_u16(), known.body.len()), (304, 0));
    assert_eq!(known.header("docker-content-digest"), digest.as_ref());
    assert_eq!(ask("b", header::IF_NONE_MATCH, "*".into()).await.status, 404);
    assert_eq!(ask("a", header::IF_RANGE, format!("\"{digest}\"")).await.status, 206);
    assert_eq!(ask("a", header::IF_RANGE, "\"other\"".into()).await.status, 200);
}

#[tokio::test]
async fn a_deleted_blob_is_gone_from_its_repository_alone() {
    let registry = RegistryUnderTest::open();
    let digest = registry.push_blob("a", BYTES).await;
    registry.push_blob("b", BYTES).await;
    assert_eq!(registry.ask(&format!("DELETE /v2/a/blobs/{digest}")).await.status, 202);
    assert_eq!(registry.ask(&format!("DELETE /v2/a/blobs/{digest}")).await.refusal(), (404, "BLOB_UNKNOWN".into()));
    assert_eq!(registry.ask(&format!("HEAD /v2/a/blobs/{digest}")).await.status, 404);
    assert_eq!(registry.ask(&format!("GET /v2/b/blobs/{digest}")).await.body, BYTES);
    assert!(registry.stored_keys().await.iter().all(|key| !key.contains("r/a/")));
}

#[tokio::test]
async fn the_empty_blob_is_a_blob() {
    let registry = RegistryUnderTest::open();
    let digest = registry.push_blob("a", b"").await;
    let answer = registry.ask(&format!("GET /v2/a/blobs/{digest}")).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-length")), (200, "0"));
    let request = request(&format!("GET /v2/a/blobs/{digest}")).header(header::RANGE, "bytes=0-");
    let answer = registry.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-range")), (416, "bytes */0"));
}
