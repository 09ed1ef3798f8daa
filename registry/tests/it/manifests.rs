//! `/v2/<name>/manifests/<reference>`

use axum::body::Body;
use berth_oci::{Algorithm, Digest};
use http::header;
use serde_json::json;

use crate::registry_under_test::{IMAGE, INDEX, RegistryUnderTest, digest_of, image, request};

fn empty_index() -> Vec<u8> {
    serde_json::to_vec(&json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] })).unwrap()
}

#[tokio::test]
async fn an_image_is_pulled_by_tag_and_by_digest_as_it_was_pushed() {
    let registry = RegistryUnderTest::open();
    let digest = registry.push_image("a", "v1").await;
    for reference in ["v1".to_owned(), digest.to_string()] {
        let got = registry.ask(&format!("GET /v2/a/manifests/{reference}")).await;
        assert_eq!((got.status.as_u16(), digest_of(&got.body)), (200, digest.clone()));
        let head = registry.ask(&format!("HEAD /v2/a/manifests/{reference}")).await;
        for answer in [&got, &head] {
            assert_eq!(answer.header("content-type"), IMAGE);
            assert_eq!(answer.header("content-length"), got.body.len().to_string());
            assert_eq!(answer.header("docker-content-digest"), digest.as_ref());
            assert_eq!(answer.header("etag"), format!("\"{digest}\""));
        }
        assert!(head.body.is_empty());
    }
}

#[tokio::test]
async fn what_a_push_stores_is_what_the_layout_says() {
    let registry = RegistryUnderTest::open();
    let digest = registry.push_image("a/b", "v1").await;
    let keys = registry.stored_keys().await;
    let of = |prefix: String| keys.iter().filter(|key| key.starts_with(&prefix)).count();
    assert_eq!(of("d/".into()), 2);
    assert_eq!(of("r/a~b/_b/".into()), 2);
    assert_eq!(of(format!("r/a~b/_m/{digest}/")), 1);
    assert_eq!(of(format!("r/a~b/_x/{digest}/v1.")), 1);
    assert!(keys.contains(&"r/a~b/_t/v1".to_owned()), "{keys:?}");
    assert_eq!(of("u/".into()), 0);
}

#[tokio::test]
async fn a_push_answers_with_digest_location_subject_and_tags() {
    let registry = RegistryUnderTest::open();
    let config = registry.push_blob("a", b"{}").await;
    let subject = digest_of(b"not here");
    let more = json!({ "subject": { "mediaType": IMAGE, "digest": subject, "size": 8 } });
    let manifest = image(&config, 2, &config, 2, more);
    let digest = digest_of(&manifest);
    let answer = registry.put_manifest("a", &format!("{digest}?tag=v1&tag=v2&tag=v1"), IMAGE, &manifest).await;
    assert_eq!((answer.status.as_u16(), answer.header("docker-content-digest")), (201, digest.as_ref()));
    assert_eq!(answer.header("location"), format!("/v2/a/manifests/{digest}"));
    assert_eq!(answer.header("oci-subject"), subject.as_ref());
    assert_eq!(answer.headers.get_all("oci-tag").iter().collect::<Vec<_>>(), ["v1", "v2"]);
    for tag in ["v1", "v2"] {
        assert_eq!(registry.ask(&format!("GET /v2/a/manifests/{tag}")).await.body, manifest);
    }
}

#[tokio::test]
async fn a_manifest_is_named_by_the_algorithm_that_it_was_pushed_with() {
    let registry = RegistryUnderTest::open();
    let index = empty_index();
    let digest = Digest::of(Algorithm::Sha512, &index);
    let answer = registry.put_manifest("a", &format!("{digest}?tag=v1"), INDEX, &index).await;
    assert_eq!((answer.status.as_u16(), answer.header("docker-content-digest")), (201, digest.as_ref()));
    assert_eq!(registry.ask("HEAD /v2/a/manifests/v1").await.header("docker-content-digest"), digest.as_ref());
    let other = digest_of(&index);
    assert_eq!(registry.ask(&format!("GET /v2/a/manifests/{other}")).await.refusal(), (404, "MANIFEST_UNKNOWN".into()));
}

#[tokio::test]
async fn a_manifest_that_is_not_what_it_says_is_refused_and_not_stored() {
    let registry = RegistryUnderTest::open();
    let index = empty_index();
    let spaced = [&index[..], b"  "].concat();
    let answer = registry.put_manifest("a", digest_of(&index).as_ref(), INDEX, &spaced).await;
    assert_eq!(answer.refusal(), (400, "DIGEST_INVALID".into()));
    let both = json!({ "schemaVersion": 2, "manifests": [], "layers": [] }).to_string();
    let deep = "[".repeat(1_000_000);
    for (media_type, body) in [
        (IMAGE, index.as_slice()),
        (INDEX, both.as_bytes()),
        (INDEX, deep.as_bytes()),
        (INDEX, b"".as_slice()),
        (INDEX, b"{}{}".as_slice()),
        (INDEX, b"\xff".as_slice()),
        ("", index.as_slice()),
        ("text/html", index.as_slice()),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", index.as_slice()),
    ] {
        let answer = registry.put_manifest("a", "v1", media_type, body).await;
        assert_eq!(answer.refusal(), (400, "MANIFEST_INVALID".into()), "{media_type}");
    }
    assert!(registry.stored_keys().await.is_empty());
    let parameters = format!("{INDEX}; charset=utf-8");
    assert_eq!(registry.put_manifest("a", "v1", &parameters, &index).await.status, 201);
}

#[tokio::test]
async fn a_manifest_whose_blobs_are_not_here_is_refused_wherever_else_they_are() {
    let registry = RegistryUnderTest::open();
    let elsewhere = registry.push_blob("b", b"{}").await;
    let nowhere = digest_of(b"nowhere");
    for missing in [elsewhere, nowhere] {
        let answer = registry.put_manifest("a", "v1", IMAGE, &image(&missing, 2, &missing, 2, json!({}))).await;
        assert_eq!(answer.refusal(), (400, "MANIFEST_BLOB_UNKNOWN".into()));
        assert_eq!(answer.json()["errors"][0]["detail"]["digest"], missing.as_ref());
    }
    let here = registry.push_blob("a", b"{}").await;
    let answer = registry.put_manifest("a", "v1", IMAGE, &image(&here, 3, &here, 2, json!({}))).await;
    assert_eq!(answer.refusal(), (400, "MANIFEST_INVALID".into()), "a size that is not the blob's");
    assert_eq!(registry.ask("GET /v2/a/manifests/v1").await.refusal(), (404, "MANIFEST_UNKNOWN".into()));
}

#[tokio::test]
async fn a_manifest_of_4_mib_is_taken_and_one_beyond_the_limit_is_not_even_read() {
    let registry = RegistryUnderTest::open();
    let index = |length: usize| {
        let note =
            json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [], "annotations": { "a": "" } }).to_string();
        note.replace("\"a\":\"\"", &format!("\"a\":\"{}\"", "x".repeat(length - note.len()))).into_bytes()
    };
    assert_eq!(registry.put_manifest("a", "v1", INDEX, &index(4 << 20)).await.status, 201);
    let answer = registry.put_manifest("a", "v2", INDEX, &index((4 << 20) + (64 << 10) + 1)).await;
    assert_eq!(answer.refusal(), (413, "SIZE_INVALID".into()));
    let claimed = request("PUT /v2/a/manifests/v2")
        .header(header::CONTENT_TYPE, INDEX)
        .header(header::CONTENT_LENGTH, "1000000000000");
    assert_eq!(registry.send(claimed.body(Body::empty()).unwrap()).await.status, 413);
    let endless = Body::from_stream(futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1 << 16])));
    let chunked = request("PUT /v2/a/manifests/v2").header(header::CONTENT_TYPE, INDEX).body(endless).unwrap();
    assert_eq!(registry.send(chunked).await.refusal(), (413, "SIZE_INVALID".into()));
    assert_eq!(registry.ask("HEAD /v2/a/manifests/v2").await.status, 404);
}

#[tokio::test]
async fn a_tag_is_deleted_alone_and_a_digest_with_its_tags() {
    let registry = RegistryUnderTest::open();
    let digest = registry.push_image("a", "v1").await;
    registry.push_image("a", "v2").await;
    assert_eq!(registry.ask("DELETE /v2/a/manifests/v1").await.status, 202);
    assert_eq!(registry.ask("DELETE /v2/a/manifests/v1").await.refusal(), (404, "MANIFEST_UNKNOWN".into()));
    assert_eq!(registry.ask(&format!("HEAD /v2/a/manifests/{digest}")).await.status, 200);
    assert_eq!(registry.ask(&format!("DELETE /v2/a/manifests/{digest}")).await.status, 202);
    for reference in ["v1", "v2", digest.as_ref()] {
        assert_eq!(registry.ask(&format!("GET /v2/a/manifests/{reference}")).await.status, 404, "{reference}");
    }
    assert_eq!(registry.ask("GET /v2/a/tags/list").await.json()["tags"], json!([]));
    let keys = registry.stored_keys().await;
    assert!(keys.iter().all(|key| !key.contains("/_m/") && !key.contains("/_x/")), "{keys:#?}");
}

#[tokio::test]
async fn a_manifest_is_no_blob_and_a_blob_is_no_manifest() {
    let registry = RegistryUnderTest::open();
    let digest = registry.push_image("a", "v1").await;
    let layer = digest_of(b"a layer");
    for line in [format!("blobs/{digest}"), format!("manifests/{layer}")] {
        for method in ["GET", "HEAD"] {
            assert_eq!(registry.ask(&format!("{method} /v2/a/{line}")).await.status, 404, "{method} {line}");
        }
    }
}

#[tokio::test]
async fn a_client_that_has_the_manifest_is_told_so_and_accept_changes_nothing() {
    let registry = RegistryUnderTest::open();
    let digest = registry.push_image("a", "v1").await;
    let ask = async |name, value: &str| {
        registry.send(request("GET /v2/a/manifests/v1").header(name, value).body(Body::empty()).unwrap()).await
    };
    let known = ask(header::IF_NONE_MATCH, &format!("\"{digest}\"")).await;
    assert_eq!((known.status.as_u16(), known.body.len()), (304, 0));
    assert_eq!(ask(header::IF_NONE_MATCH, "\"other\"").await.status, 200);
    for accept in [INDEX, "application/vnd.docker.distribution.manifest.v2+json", "text/html", "*/*"] {
        let answer = ask(header::ACCEPT, accept).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, IMAGE), "{accept}");
    }
}

#[tokio::test]
async fn more_tags_than_are_reasonable_and_tags_that_cannot_be_are_refused_together() {
    let registry = RegistryUnderTest::open();
    let index = empty_index();
    let digest = digest_of(&index);
    let many = (0..101).map(|n| format!("tag=t{n}")).collect::<Vec<_>>().join("&");
    assert_eq!(registry.put_manifest("a", &format!("{digest}?{many}"), INDEX, &index).await.status, 400);
    let answer = registry.put_manifest("a", &format!("{digest}?tag=good&tag=.bad"), INDEX, &index).await;
    assert_eq!(answer.refusal(), (400, "MANIFEST_INVALID".into()));
    assert!(registry.stored_keys().await.is_empty());
}
