//! `/v2/<name>/blobs/uploads/`

use axum::body::Body;
use berth_registry::store::Store;
use http::header;

use crate::registry_under_test::{ALL_ON, Answer, RegistryUnderTest, basic, digest_of, request};

async fn start(registry: &RegistryUnderTest, repository: &str) -> Answer {
    let answer = registry.ask(&format!("POST /v2/{repository}/blobs/uploads/")).await;
    assert_eq!((answer.status.as_u16(), answer.header("range")), (202, "0-0"));
    answer
}

async fn chunk(registry: &RegistryUnderTest, method: &str, location: &str, range: &str, body: &'static str) -> Answer {
    let request = request(&format!("{method} {location}")).header(header::CONTENT_RANGE, range);
    registry.send(request.header(header::CONTENT_LENGTH, body.len()).body(body.into()).unwrap()).await
}

fn one_blob(digest: &impl std::fmt::Display, size: usize) -> Vec<String> {
    vec!["d/*".into(), format!("i/{digest}/a/*"), format!("r/a/_b/{digest}/*.*.{size}")]
}

#[tokio::test]
async fn a_blob_arrives_in_one_request() {
    let registry = RegistryUnderTest::open();
    let digest = registry.push_blob("a", b"bytes").await;
    assert_eq!(registry.stored_keys().await, one_blob(&digest, 5));
}

#[tokio::test]
async fn a_blob_arrives_as_a_stream_and_a_put() {
    let registry = RegistryUnderTest::open();
    let started = start(&registry, "a").await;
    assert!(started.header("location").starts_with("/v2/a/blobs/uploads/"));
    assert!(!started.header("docker-upload-uuid").is_empty() && !started.header("oci-chunk-min-length").is_empty());
    let patched = registry.bring(&format!("PATCH {}", started.header("location")), "bytes").await;
    assert_eq!((patched.status.as_u16(), patched.header("range")), (202, "0-4"));
    assert_eq!(patched.header("docker-upload-uuid"), started.header("docker-upload-uuid"));
    let digest = digest_of(b"bytes");
    let put = registry.ask(&format!("PUT {}?digest={digest}", patched.header("location"))).await;
    assert_eq!((put.status.as_u16(), put.header("docker-content-digest")), (201, digest.as_ref()));
    assert_eq!(put.header("location"), format!("/v2/a/blobs/{digest}"));
    assert_eq!(registry.ask(&format!("GET {}", put.header("location"))).await.body, "bytes");
    let blob = one_blob(&digest, 5);
    let keys = registry.stored_keys().await;
    assert!(blob.iter().all(|key| keys.contains(key)), "{keys:?}");
    assert!(!keys.iter().any(|key| key.starts_with("u/") && !key.contains("/finished.")), "{keys:?}");
    let again = registry.ask(&format!("PUT {}?digest={digest}", patched.header("location"))).await;
    assert_eq!(again.status, 201, "an answer that got lost is given again");
}

/// The requests after POST by which a blob may come, each with its part of the bytes.
const WAYS: [&[(&str, &str)]; 4] = [
    &[("PUT", "bytes")],
    &[("PATCH", "bytes"), ("PUT", "")],
    &[("PATCH", "by"), ("PUT", "tes")],
    &[("PATCH", "by"), ("PATCH", "tes"), ("PUT", "")],
];

#[tokio::test]
async fn a_finished_upload_is_gone_whichever_way_it_was_finished() {
    let digest = digest_of(b"bytes");
    for way in WAYS {
        let root = tempfile::tempdir().unwrap();
        for store in [Store::in_memory(), Store::posix(root.path()).unwrap()] {
            let registry = RegistryUnderTest::on(store);
            let mut locations = vec![start(&registry, "a").await.header("location").to_owned()];
            for (method, part) in way {
                let line = format!("{method} {}?digest={digest}", locations.last().unwrap());
                let answer = registry.bring(&line, *part).await;
                assert_eq!(answer.status, if *method == "PUT" { 201 } else { 202 }, "{way:?} {answer:?}");
                locations.push(answer.header("location").to_owned());
            }
            let blob = locations.pop().unwrap();
            assert_eq!(registry.ask(&format!("GET {blob}")).await.body, "bytes");
            for location in locations {
                for method in ["GET", "PATCH", "DELETE"] {
                    let answer = registry.ask(&format!("{method} {location}")).await;
                    assert_eq!(answer.refusal(), (404, "BLOB_UPLOAD_UNKNOWN".into()), "{way:?} {method} {location}");
                }
                let other = registry.bring(&format!("PUT {location}?digest={}", digest_of(b"x")), "x").await;
                assert_eq!(other.refusal(), (404, "BLOB_UPLOAD_UNKNOWN".into()), "{way:?} {location}");
                let again = registry.bring(&format!("PUT {location}?digest={digest}"), "bytes").await;
                assert_eq!(again.status, 201, "an answer that got lost is given again");
            }
            let mut keys = one_blob(&digest, 5);
            keys.push(format!("u/*/finished.{digest}"));
            assert_eq!(registry.stored_keys().await, keys, "{way:?}");
        }
    }
}

#[tokio::test]
async fn an_upload_that_ends_with_another_digest_is_gone_whichever_way_it_came() {
    let said = digest_of(b"said");
    for way in WAYS {
        let root = tempfile::tempdir().unwrap();
        for store in [Store::in_memory(), Store::posix(root.path()).unwrap()] {
            let registry = RegistryUnderTest::on(store);
            let first = start(&registry, "a").await.header("location").to_owned();
            let mut location = first.clone();
            for (method, part) in way {
                let answer = registry.bring(&format!("{method} {location}?digest={said}"), *part).await;
                assert!(matches!(answer.status.as_u16(), 202 | 400), "{answer:?}");
                location = answer.header("location").to_owned();
            }
            assert_eq!(registry.ask(&format!("GET {first}")).await.refusal(), (404, "BLOB_UPLOAD_UNKNOWN".into()));
            assert_eq!(registry.stored_keys().await, ["u/*/cancelled"], "{way:?}");
        }
    }
}

#[tokio::test]
async fn chunks_are_taken_in_their_order_only_and_the_refusal_says_where_to_go_on() {
    let registry = RegistryUnderTest::open();
    let started = start(&registry, "a").await;
    let first = chunk(&registry, "PATCH", started.header("location"), "0-2", "abc").await;
    assert_eq!((first.status.as_u16(), first.header("range")), (202, "0-2"));
    for range in ["5-7", "0-2", "2-4"] {
        for method in ["PATCH", "PUT"] {
            let line = format!("{}?digest={}", first.header("location"), digest_of(b"abcdef"));
            let refused = chunk(&registry, method, &line, range, "xyz").await;
            assert_eq!(refused.refusal(), (416, "BLOB_UPLOAD_INVALID".into()), "{method} {range}");
            assert_eq!(refused.header("range"), "0-2");
            assert!(refused.header("location").starts_with("/v2/a/blobs/uploads/"));
        }
    }
    let status = registry.ask(&format!("GET {}", started.header("location"))).await;
    assert_eq!(
        (status.status.as_u16(), status.header("range")),
        (204, "0-2"),
        "an old location learns the newest state"
    );
    let line = format!("{}?digest={}", status.header("location"), digest_of(b"abcdef"));
    assert_eq!(chunk(&registry, "PUT", &line, "3-5", "def").await.status, 201);
}

#[tokio::test]
async fn a_range_that_is_malformed_or_lies_about_the_length_is_refused() {
    let registry = RegistryUnderTest::open();
    let started = start(&registry, "a").await;
    for range in ["-5", "bytes=0-5", "bytes 0-5/6", "5-3", "0", "a-b", "0-18446744073709551616"] {
        let answer = chunk(&registry, "PATCH", started.header("location"), range, "abcdef").await;
        assert_eq!(answer.refusal(), (400, "BLOB_UPLOAD_INVALID".into()), "{range}");
    }
    for range in ["0-4", "0-6", "0-18446744073709551615"] {
        let answer = chunk(&registry, "PATCH", started.header("location"), range, "abcdef").await;
        assert_eq!(answer.refusal(), (400, "SIZE_INVALID".into()), "{range}");
    }
    assert_eq!(registry.stored_keys().await, Vec::<String>::new());
}

#[tokio::test]
async fn two_chunks_for_the_same_place_do_not_mix() {
    let registry = RegistryUnderTest::open();
    let started = start(&registry, "a").await;
    let [left, right] = [
        chunk(&registry, "PATCH", started.header("location"), "0-3", "left"),
        chunk(&registry, "PATCH", started.header("location"), "0-4", "right"),
    ];
    let (left, right) = futures::future::join(left, right).await;
    let mut made = 0;
    for (answer, body) in [(left, "left"), (right, "right")] {
        if answer.status == 202 {
            let line = format!("PUT {}?digest={}", answer.header("location"), digest_of(body.as_bytes()));
            made += usize::from(registry.ask(&line).await.status == 201);
        } else {
            assert_eq!(answer.status, 416, "{answer:?}");
        }
    }
    assert_eq!(made, 1);
}

#[tokio::test]
async fn bytes_of_another_digest_are_refused_on_every_way_in_and_nothing_is_left() {
    let registry = RegistryUnderTest::open();
    let (said, sent) = (digest_of(b"said"), digest_of(b"sent"));
    let post = registry.bring(&format!("POST /v2/a/blobs/uploads/?digest={said}"), "sent").await;
    assert_eq!(post.refusal(), (400, "DIGEST_INVALID".into()));
    let started = start(&registry, "a").await;
    let put = registry.bring(&format!("PUT {}?digest={said}", started.header("location")), "sent").await;
    assert_eq!(put.refusal(), (400, "DIGEST_INVALID".into()));
    let started = start(&registry, "a").await;
    let patched = registry.bring(&format!("PATCH {}", started.header("location")), "sent").await;
    let put = registry.ask(&format!("PUT {}?digest={said}", patched.header("location"))).await;
    assert_eq!(put.refusal(), (400, "DIGEST_INVALID".into()));
    assert_eq!(registry.ask(&format!("GET {}", patched.header("location"))).await.status, 404, "the session is gone");
    for digest in [said, sent] {
        assert_eq!(registry.ask(&format!("HEAD /v2/a/blobs/{digest}")).await.status, 404);
    }
    assert!(registry.stored_keys().await.iter().all(|key| key.starts_with("u/")));
}

#[tokio::test]
async fn a_digest_that_cannot_be_is_refused_before_any_byte_is_taken() {
    let registry = RegistryUnderTest::open();
    let location = start(&registry, "a").await.header("location").to_owned();
    for bad in ["sha256:bad", "md5:00", "SHA256:00", "latest", ""] {
        for line in [
            format!("POST /v2/a/blobs/uploads/?digest={bad}"),
            format!("POST /v2/a/blobs/uploads/?mount={bad}&from=b"),
            format!("PUT {location}?digest={bad}"),
        ] {
            assert_eq!(registry.bring(&line, "bytes").await.refusal(), (400, "DIGEST_INVALID".into()), "{line}");
        }
    }
    assert_eq!(
        registry.ask("POST /v2/a/blobs/uploads/?digest-algorithm=md5").await.refusal(),
        (400, "DIGEST_INVALID".into())
    );
    assert_eq!(registry.ask(&format!("PUT {location}")).await.status, 400);
    assert!(registry.stored_keys().await.is_empty());
}

#[tokio::test]
async fn a_sha512_upload_is_announced_or_not() {
    let registry = RegistryUnderTest::open();
    let digest = berth_oci::Digest::of(berth_oci::Algorithm::Sha512, b"bytes");
    for query in ["?digest-algorithm=sha512", ""] {
        let started = registry.ask(&format!("POST /v2/a/blobs/uploads/{query}")).await;
        let patched = registry.bring(&format!("PATCH {}", started.header("location")), "bytes").await;
        let put = registry.ask(&format!("PUT {}?digest={digest}", patched.header("location"))).await;
        assert_eq!((put.status.as_u16(), put.header("docker-content-digest")), (201, digest.as_ref()), "{query}");
    }
}

#[tokio::test]
async fn a_cancelled_upload_is_gone() {
    let registry = RegistryUnderTest::open();
    let started = start(&registry, "a").await;
    let patched = registry.bring(&format!("PATCH {}", started.header("location")), "bytes").await;
    assert_eq!(registry.ask(&format!("DELETE {}", patched.header("location"))).await.status, 204);
    for method in ["GET", "PATCH", "DELETE"] {
        let answer = registry.ask(&format!("{method} {}", patched.header("location"))).await;
        assert_eq!(answer.refusal(), (404, "BLOB_UPLOAD_UNKNOWN".into()), "{method}");
    }
    let put = registry.ask(&format!("PUT {}?digest={}", patched.header("location"), digest_of(b"bytes"))).await;
    assert_eq!(put.refusal(), (404, "BLOB_UPLOAD_UNKNOWN".into()));
}

/// S-24, S-25: IDOR by upload session (CVE-2026-32589).
#[tokio::test]
async fn an_upload_of_another_repository_or_user_or_hand_does_not_exist() {
    let open = RegistryUnderTest::open();
    let guarded = RegistryUnderTest::guarded(open.store.clone(), ALL_ON);
    let anyones = start(&open, "a").await.header("location").to_owned();
    let as_alice = |line: String| {
        let request = request(&line).header(header::AUTHORIZATION, basic("alice", "secret"));
        request.body(Body::from("bytes")).unwrap()
    };
    let alices = guarded.send(as_alice("POST /v2/a/blobs/uploads/".into())).await.header("location").to_owned();
    let altered = alices.replacen(&alices[alices.len() - 40..], &alices[alices.len() - 41..alices.len() - 1], 1);
    let elsewhere = alices.replacen("/v2/a/", "/v2/b/", 1);
    for foreign in [anyones, altered, elsewhere, "/v2/a/blobs/uploads/guess".into(), alices[..60].into()] {
        for method in ["GET", "PATCH", "DELETE", "PUT"] {
            let line = format!("{method} {foreign}?digest={}", digest_of(b"bytes"));
            assert_eq!(
                guarded.send(as_alice(line)).await.refusal(),
                (404, "BLOB_UPLOAD_UNKNOWN".into()),
                "{method} {foreign}"
            );
        }
    }
    assert_eq!(guarded.send(as_alice(format!("GET {alices}"))).await.status, 204);
    assert!(open.stored_keys().await.is_empty());
}

#[tokio::test]
async fn any_replica_goes_on_with_an_upload() {
    let one = RegistryUnderTest::open();
    let other = RegistryUnderTest::on(one.store.clone());
    let started = start(&one, "a").await;
    let patched = other.bring(&format!("PATCH {}", started.header("location")), "by").await;
    let patched = one.bring(&format!("PATCH {}", patched.header("location")), "tes").await;
    let put = other.ask(&format!("PUT {}?digest={}", patched.header("location"), digest_of(b"bytes"))).await;
    assert_eq!(put.status, 201);
}

#[tokio::test]
async fn bytes_in_an_encoding_are_refused() {
    let registry = RegistryUnderTest::open();
    let location = start(&registry, "a").await.header("location").to_owned();
    let digest = digest_of(b"bytes");
    for line in [
        format!("PATCH {location}"),
        format!("PUT {location}?digest={digest}"),
        format!("POST /v2/a/blobs/uploads/?digest={digest}"),
        "PUT /v2/a/manifests/latest".to_owned(),
    ] {
        let request = request(&line).header(header::CONTENT_ENCODING, "gzip").body("bytes".into()).unwrap();
        assert_eq!(registry.send(request).await.refusal(), (415, "UNSUPPORTED".into()), "{line}");
    }
    assert!(registry.stored_keys().await.is_empty());
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_what_can_be_gone_on_with() {
    let registry = RegistryUnderTest::open();
    let started = start(&registry, "a").await;
    let broken = [Ok("byt"), Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))];
    let body = Body::from_stream(futures::stream::iter(broken));
    let answer = registry.bring(&format!("PATCH {}", started.header("location")), body).await;
    assert_eq!(answer.refusal(), (400, "BLOB_UPLOAD_INVALID".into()));
    let status = registry.ask(&format!("GET {}", started.header("location"))).await;
    assert_eq!((status.status.as_u16(), status.header("range")), (204, "0-2"));
    let line = format!("PUT {}?digest={}", status.header("location"), digest_of(b"bytes"));
    assert_eq!(registry.bring(&line, "es").await.status, 201);
}
