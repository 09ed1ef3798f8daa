//! Requests that no client sends by accident.

use axum::body::Body;
use http::{Request, header};

use crate::registry_under_test::{RegistryUnderTest, digest_of, request};

/// S-01, S-04: names that cannot be never come to the store.
#[tokio::test]
async fn names_and_digests_outside_the_grammar_are_refused_everywhere() {
    let registry = RegistryUnderTest::open();
    let good = digest_of(b"x");
    let long = "a".repeat(256);
    let names = [
        "..",
        ".",
        "a/../b",
        "%2e%2e%2f",
        "%252e",
        "a%2Fb",
        "a%00b",
        "a//b",
        "A",
        "-a",
        "a..b",
        "a___b",
        "a%5Cb",
        &long,
    ];
    for name in names {
        for line in [
            format!("GET /v2/{name}/tags/list"),
            format!("GET /v2/{name}/manifests/latest"),
            format!("PUT /v2/{name}/manifests/latest"),
            format!("DELETE /v2/{name}/manifests/latest"),
            format!("GET /v2/{name}/blobs/{good}"),
            format!("DELETE /v2/{name}/blobs/{good}"),
            format!("POST /v2/{name}/blobs/uploads/"),
            format!("PATCH /v2/{name}/blobs/uploads/x"),
            format!("GET /v2/{name}/referrers/{good}"),
        ] {
            assert_eq!(registry.ask(&line).await.refusal(), (400, "NAME_INVALID".into()), "{line}");
        }
        if name != "a%2Fb" {
            // In a query a slash may be escaped.
            let mount = registry.ask(&format!("POST /v2/a/blobs/uploads/?mount={good}&from={name}")).await;
            assert_eq!(mount.refusal().0, 400, "{name}");
        }
    }
    let hex = "a".repeat(64);
    for digest in [
        format!("SHA256:{hex}"),
        format!("sha256:{}", hex.to_uppercase()),
        format!("sha256:{hex}a"),
        format!("sha512:{hex}"),
        format!("md5:{hex}"),
        format!("sha256+b64u:{hex}"),
        "sha256:".into(),
        "sha256:baddigeststring".into(),
    ] {
        for line in [
            format!("GET /v2/a/blobs/{digest}"),
            format!("HEAD /v2/a/blobs/{digest}"),
            format!("DELETE /v2/a/blobs/{digest}"),
            format!("GET /v2/a/manifests/{digest}"),
            format!("PUT /v2/a/manifests/{digest}"),
            format!("DELETE /v2/a/manifests/{digest}"),
            format!("GET /v2/a/referrers/{digest}"),
        ] {
            let answer = registry.ask(&line).await;
            assert_eq!(answer.status, 400, "{line}");
            if !line.starts_with("HEAD") {
                assert_eq!(answer.code(), "DIGEST_INVALID", "{line}");
            }
        }
    }
    assert!(registry.stored_keys().await.is_empty());
}

#[tokio::test]
async fn what_is_nobodys_is_not_found_and_a_wrong_method_is_told_the_right_ones() {
    let registry = RegistryUnderTest::open();
    for line in ["GET /x", "GET /v1/", "GET /v2/a", "GET /metrics", "GET /v2/a/x/y", "POST /"] {
        let answer = registry.ask(line).await;
        assert!(matches!(answer.refusal(), (404 | 405, code) if code == "UNSUPPORTED"), "{line}");
    }
    let answer = registry.ask("POST /v2/a/manifests/latest").await;
    assert_eq!((answer.refusal(), answer.header("allow")), ((405, "UNSUPPORTED".into()), "GET, HEAD, PUT, DELETE"));
    for method in ["OPTIONS", "TRACE", "BREW"] {
        assert_eq!(registry.ask(&format!("{method} /v2/")).await.status, 405, "{method}");
    }
}

/// S-36: nobody's word but ours stands in a location.
#[tokio::test]
async fn locations_are_relative_whatever_the_host_header_says() {
    let registry = RegistryUnderTest::open();
    let request = request("POST /v2/a/blobs/uploads/").header(header::HOST, "evil.example");
    let request = request.header("x-forwarded-host", "evil.example").header("x-forwarded-proto", "gopher");
    let answer = registry.send(request.body(Body::empty()).unwrap()).await;
    assert!(answer.header("location").starts_with("/v2/a/"));
    assert!(answer.headers.values().all(|value| !value.to_str().unwrap().contains("evil")));
    let absolute = Request::builder().uri("http://evil.example/v2/").body(Body::empty()).unwrap();
    assert_eq!(registry.send(absolute).await.status, 200);
}

/// S-16: what someone pushed is never a page.
#[tokio::test]
async fn no_answer_is_a_page_for_a_browser() {
    let registry = RegistryUnderTest::open();
    let digest = registry.push_blob("a", b"<script>alert(1)</script>").await;
    for line in [
        format!("GET /v2/a/blobs/{digest}"),
        "GET /v2/".into(),
        "GET /v2/%3Cscript%3E/tags/list".into(),
        "GET /".into(),
    ] {
        let answer = registry.ask(&line).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{line}");
        assert!(answer.header("content-security-policy").starts_with("default-src 'none'"), "{line}");
        assert!(!answer.header("content-type").contains("html") && answer.header("set-cookie").is_empty());
    }
}

#[tokio::test]
async fn repositories_may_be_called_like_parts_of_the_api() {
    let registry = RegistryUnderTest::open();
    for name in ["manifests", "x/manifests/y", "blobs/uploads", "tags/list", "a/blobs/uploads/b", "v2/referrers"] {
        let digest = registry.push_image(name, "list").await;
        assert_eq!(
            registry.ask(&format!("HEAD /v2/{name}/manifests/list")).await.header("docker-content-digest"),
            digest.as_ref()
        );
        assert_eq!(registry.ask(&format!("GET /v2/{name}/tags/list")).await.json()["name"], name);
    }
}
