//! `/v2/_catalog`

use serde_json::json;

use crate::registry_under_test::RegistryUnderTest;

#[tokio::test]
async fn repositories_are_listed_in_pages_that_lead_to_one_another() {
    let registry = RegistryUnderTest::open();
    assert_eq!(registry.ask("GET /v2/_catalog").await.json(), json!({ "repositories": [] }));
    for name in ["a", "a/b", "a-b", "ab", "b/manifests/c"] {
        registry.push_image(name, "v1").await;
    }
    registry.push_blob("only-blobs", b"bytes").await;
    let all = registry.ask("GET /v2/_catalog").await.json();
    let mut seen = Vec::new();
    let mut line = "GET /v2/_catalog?n=2".to_owned();
    loop {
        let answer = registry.ask(&line).await;
        seen.extend(answer.json()["repositories"].as_array().unwrap().clone());
        let link = answer.header("link");
        let Some((target, _)) = link.trim_start_matches('<').split_once('>') else { break };
        line = format!("GET {target}");
    }
    assert_eq!(json!(seen), all["repositories"]);
    seen.sort_by_key(ToString::to_string);
    assert_eq!(seen, ["a", "a-b", "a/b", "ab", "b/manifests/c"]);
    assert_eq!(registry.ask("GET /v2/_catalog?n=0").await.json(), json!({ "repositories": [] }));
    assert_eq!(registry.ask("GET /v2/_catalog?n=-1").await.status, 400);
}
