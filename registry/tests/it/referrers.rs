//! `/v2/<name>/referrers/<digest>`

use berth_oci::Digest;
use serde_json::{Value, json};

use crate::registry_under_test::{IMAGE, INDEX, RegistryUnderTest, digest_of, image};

/// Pushes an artifact of `artifact_type` about `subject`.
async fn refer(registry: &RegistryUnderTest, subject: &Digest, artifact_type: &str, note: &str) -> Digest {
    let config = registry.push_blob("a", b"{}").await;
    let more = json!({
        "subject": { "mediaType": IMAGE, "digest": subject, "size": 8 },
        "artifactType": artifact_type,
        "annotations": { "note": note },
    });
    let manifest = image(&config, 2, &config, 2, more);
    let digest = digest_of(&manifest);
    assert_eq!(registry.put_manifest("a", digest.as_ref(), IMAGE, &manifest).await.status, 201);
    digest
}

async fn list(registry: &RegistryUnderTest, target: &str) -> (Vec<Value>, String, String) {
    let answer = registry.ask(&format!("GET {target}")).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, INDEX));
    let index = answer.json();
    assert_eq!((&index["schemaVersion"], &index["mediaType"]), (&json!(2), &json!(INDEX)));
    let manifests = index["manifests"].as_array().unwrap().clone();
    (manifests, answer.header("link").into(), answer.header("oci-filters-applied").into())
}

#[tokio::test]
async fn what_nobody_refers_to_has_an_empty_index_even_where_there_is_no_repository() {
    let registry = RegistryUnderTest::open();
    let path = format!("/v2/nowhere/referrers/{}", digest_of(b"x"));
    assert_eq!(list(&registry, &path).await, (vec![], String::new(), String::new()));
    let answer = registry.ask("GET /v2/a/referrers/latest").await;
    assert_eq!(answer.refusal(), (400, "DIGEST_INVALID".into()));
}

#[tokio::test]
async fn referrers_are_listed_filtered_and_paged() {
    let registry = RegistryUnderTest::open();
    let subject = digest_of(b"a subject that is not here yet");
    let mut all = Vec::new();
    for (artifact_type, note) in [("a/x+json", "1"), ("a/x+json", "2"), ("a/y", "3"), ("a/y", "4"), ("a/y", "5")] {
        all.push((refer(&registry, &subject, artifact_type, note).await, artifact_type, note));
    }
    all.sort();
    let path = format!("/v2/a/referrers/{subject}");
    let (listed, link, applied) = list(&registry, &path).await;
    assert_eq!((link, applied), (String::new(), String::new()));
    let told = listed.iter().map(|entry| (&entry["digest"], &entry["artifactType"], &entry["annotations"]["note"]));
    let known: Vec<_> =
        all.iter().map(|(digest, artifact_type, note)| (json!(digest), json!(artifact_type), json!(note))).collect();
    assert!(told.eq(known.iter().map(|(digest, artifact_type, note)| (digest, artifact_type, note))));

    let (filtered, _, applied) = list(&registry, &format!("{path}?artifactType=a/x%2Bjson")).await;
    assert_eq!((filtered.len(), applied.as_str()), (2, "artifactType"));
    assert!(list(&registry, &format!("{path}?artifactType=a/z")).await.0.is_empty());

    let (mut seen, mut target) = (Vec::new(), format!("{path}?n=2&artifactType=a/y"));
    loop {
        let (page, link, applied) = list(&registry, &target).await;
        assert!(page.len() <= 2 && applied == "artifactType");
        seen.extend(page);
        let Some((next, _)) = link.trim_start_matches('<').split_once('>') else { break };
        target = next.to_owned();
    }
    assert_eq!(seen.len(), 3);
}

#[tokio::test]
async fn a_page_stays_small_however_large_the_entries_are() {
    let registry = RegistryUnderTest::open();
    let subject = digest_of(b"subject");
    for n in 0..5 {
        refer(&registry, &subject, "a/b", &format!("{n}{}", "x".repeat(1 << 20))).await;
    }
    let (mut seen, mut target) = (0, format!("/v2/a/referrers/{subject}"));
    loop {
        let answer = registry.ask(&format!("GET {target}")).await;
        assert!(answer.body.len() < 4 << 20);
        seen += answer.json()["manifests"].as_array().unwrap().len();
        let Some((next, _)) = answer.header("link").trim_start_matches('<').split_once('>') else { break };
        target = next.to_owned();
    }
    assert_eq!(seen, 5);
}

#[tokio::test]
async fn a_deleted_referrer_is_listed_no_longer() {
    let registry = RegistryUnderTest::open();
    let subject = digest_of(b"subject");
    let digest = refer(&registry, &subject, "a/b", "1").await;
    assert_eq!(registry.ask(&format!("DELETE /v2/a/manifests/{digest}")).await.status, 202);
    assert!(list(&registry, &format!("/v2/a/referrers/{subject}")).await.0.is_empty());
}
