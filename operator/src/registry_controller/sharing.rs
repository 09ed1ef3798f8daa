//! Two Registries in one place: the same bucket, and the same prefix in it. Nothing breaks by that as long as they collect garbage
//! alike, but it is seldom meant, and the younger one says so.
//!
//! What is compared is what is written, so the same bucket under two addresses goes unnoticed, as does another cluster's Registry.

use kube::ResourceExt as _;

use super::validate::{self, ValidatedBucket};
use crate::api::registry::Registry;
use crate::context::Settings;

/// An older Registry that keeps its images where this one does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elder {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The age below which it collects nothing; none where what is written is none.
    pub grace: Option<berth_contract::Duration>,
}

/// The oldest of the others that are served from the same place, if it is older than this one.
pub fn elder<'a>(
    registry: &Registry,
    others: impl Iterator<Item = &'a Registry>,
    settings: &Settings,
) -> Option<Elder> {
    let place = place(registry)?;
    let age = |registry: &Registry| (registry.creation_timestamp().map(|created| created.0), registry.uid());
    let is_served = |other: &&Registry| validate::is_granted(&validate::owner(other), settings);
    let elder = others
        .filter(|other| age(other) < age(registry) && self::place(other).is_some_and(|other| other == place))
        .filter(is_served)
        .min_by_key(|other| age(other))?;
    Some(Elder {
        namespace: elder.namespace().unwrap_or_default(),
        name: elder.name_any(),
        grace: validate::garbage_collection(elder.spec.garbage_collection.as_ref()).ok().map(|wanted| wanted.grace),
    })
}

fn place(registry: &Registry) -> Option<String> {
    validate::bucket(&registry.spec.storage).ok().flatten().as_ref().map(ValidatedBucket::address)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::registry_controller::build::tests::settings;

    fn registry(name: &str, created: &str, storage: &Value) -> Registry {
        serde_json::from_value(json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "Registry", "spec": {"storage": storage},
            "metadata": {"name": name, "namespace": "team-a", "uid": name, "creationTimestamp": created},
        }))
        .unwrap()
    }

    #[test]
    fn the_younger_of_two_in_one_place_knows_the_elder_and_the_elder_does_not_know_it() {
        let bucket = json!({"s3": {"bucket": "images", "prefix": "a"}});
        let old = registry("old", "2026-01-01T00:00:00Z", &bucket);
        let [middle, young] = ["middle", "young"].map(|name| registry(name, "2026-01-02T00:00:00Z", &bucket));
        let all = [young.clone(), middle.clone(), old.clone()];
        let name = |registry, settings: &Settings| elder(registry, all.iter(), settings).map(|elder| elder.name);
        assert_eq!(name(&old, &settings()), None);
        assert_eq!(name(&middle, &settings()).as_deref(), Some("old"));
        assert_eq!(name(&young, &settings()).as_deref(), Some("old"));
        let elsewhere = Settings { watch_namespaces: vec!["team-b".into()], ..settings() };
        assert_eq!(name(&young, &elsewhere), None, "nobody serves it");
    }

    #[test]
    fn another_bucket_prefix_endpoint_or_provider_is_another_place() {
        let knows = |first: &Value, second: &Value| {
            let first = registry("first", "2026-01-01T00:00:00Z", first);
            let second = registry("second", "2026-01-02T00:00:00Z", second);
            elder(&second, [&first].into_iter(), &settings()).is_some()
        };
        let azure = |endpoint: Option<&str>| json!({"azure": {"accountName": "berth", "container": "images", "endpoint": endpoint}});
        let one = json!({"s3": {"bucket": "images"}});
        assert!(knows(&one, &json!({"s3": {"bucket": "images", "region": "eu-central-1"}})));
        assert!(knows(&azure(None), &azure(Some("https://berth.blob.core.windows.net"))));
        assert!(!knows(&azure(None), &azure(Some("https://berth.blob.core.usgovcloudapi.net"))));
        for other in [
            json!({"s3": {"bucket": "others"}}),
            json!({"s3": {"bucket": "images", "prefix": "a"}}),
            json!({"s3": {"bucket": "images", "endpoint": "https://minio.example"}}),
            json!({"gcs": {"bucket": "images"}}),
            json!({"emptyDir": {}}),
        ] {
            assert!(!knows(&one, &other) && !knows(&other, &one), "{other}");
        }
        assert!(!knows(&json!({"emptyDir": {}}), &json!({"emptyDir": {}})));
    }
}
