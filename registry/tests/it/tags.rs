//! `/v2/<name>/tags/list`

use serde_json::json;

use crate::registry_under_test::{Answer, RegistryUnderTest};

async fn names(registry: &RegistryUnderTest, query: &str) -> (Vec<String>, String) {
    let answer = registry.ask(&format!("GET /v2/a/tags/list{query}")).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
    let tags = serde_json::from_value(answer.json()["tags"].clone()).unwrap();
    (tags, answer.header("link").to_owned())
}

#[tokio::test]
async fn tags_come_in_bytewise_order_and_pages_lead_to_one_another() {
    let registry = RegistryUnderTest::open();
    for tag in ["v1", "v10", "v1-a", "v1.a", "v1_a", "V1", "latest"] {
        registry.push_image("a", tag).await;
    }
    let all = ["V1", "latest", "v1", "v1-a", "v1.a", "v10", "v1_a"];
    assert_eq!(names(&registry, "").await, (all.map(String::from).into(), String::new()));
    let (mut seen, mut query) = (Vec::new(), "?n=2".to_owned());
    loop {
        let (tags, link) = names(&registry, &query).await;
        assert!(tags.len() <= 2);
        seen.extend(tags);
        let Some((target, rest)) = link.trim_start_matches("</v2/a/tags/list").split_once('>') else { break };
        assert_eq!(rest, "; rel=\"next\"");
        query = target.to_owned();
    }
    assert_eq!(seen, all);
    assert_eq!(names(&registry, "?last=v1").await.0, ["v1-a", "v1.a", "v10", "v1_a"]);
    assert_eq!(names(&registry, "?last=nothing/like%20it").await.0, ["v1", "v1-a", "v1.a", "v10", "v1_a"]);
    assert_eq!(names(&registry, "?last=zzz").await, (vec![], String::new()));
}

#[tokio::test]
async fn a_page_of_none_is_empty_and_a_page_of_nonsense_is_refused() {
    let registry = RegistryUnderTest::open();
    registry.push_image("a", "v1").await;
    assert_eq!(names(&registry, "?n=0").await, (vec![], String::new()));
    for n in ["2147483648", "9223372036854775808", "99999999999999999999999"] {
        assert_eq!(names(&registry, &format!("?n={n}")).await.0, ["v1"], "{n}");
    }
    for n in ["-1", "abc", "", "1.5"] {
        let answer = registry.ask(&format!("GET /v2/a/tags/list?n={n}")).await;
        assert_eq!(answer.refusal(), (400, "UNSUPPORTED".into()), "{n}");
    }
}

#[tokio::test]
async fn a_repository_that_is_not_there_has_no_list_and_one_without_tags_has_an_empty_one() {
    let registry = RegistryUnderTest::open();
    let missing: Answer = registry.ask("GET /v2/a/tags/list").await;
    assert_eq!(missing.refusal(), (404, "NAME_UNKNOWN".into()));
    assert_eq!(registry.ask("GET /v2/a/tags/list?n=0").await.status, 404);
    registry.push_image("a", "v1").await;
    registry.push_image("a/b", "other").await;
    assert_eq!(registry.ask("DELETE /v2/a/manifests/v1").await.status, 202);
    let empty = registry.ask("GET /v2/a/tags/list").await;
    assert_eq!(empty.json(), json!({ "name": "a", "tags": [] }));
    assert!(empty.header("link").is_empty());
}
