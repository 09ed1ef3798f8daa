use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;

use super::*;
use crate::node_entry::RegistryName;

fn certificate() -> String {
    rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap().cert.pem()
}

fn entry(namespace: &str, name: &str, uid: &str, hosts: &[&str]) -> NodeEntry {
    NodeEntry {
        registry: RegistryName { namespace: namespace.into(), name: name.into(), uid: uid.into() },
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        addresses: vec!["10.96.0.7".into()],
        port: 443,
        ca_bundle: certificate(),
    }
}

fn config_map(name: &str, created: i64, key: &str, text: String) -> Arc<ConfigMap> {
    Arc::new(ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.into()),
            creation_timestamp: Some(Time(Timestamp::from_second(created).unwrap())),
            ..Default::default()
        },
        data: Some([(key.to_owned(), text)].into()),
        ..Default::default()
    })
}

fn stored(created: i64, entry: &NodeEntry) -> Arc<ConfigMap> {
    config_map(&entry_name(&entry.registry.uid), created, ENTRY_KEY, serde_json::to_string(entry).unwrap())
}

fn secret(uid: &str, authorization: &[u8]) -> Arc<Secret> {
    Arc::new(Secret {
        metadata: ObjectMeta { name: Some(entry_name(uid)), ..Default::default() },
        data: Some([(AUTHORIZATION_KEY.to_owned(), ByteString(authorization.to_vec()))].into()),
        ..Default::default()
    })
}

fn known(wanted: &Wanted, uid: &str) -> Known {
    match &wanted[uid] {
        Wish::Known(known) => Known::clone(known),
        Wish::Malformed(message) => panic!("{message}"),
    }
}

fn hosts(names: &[HostName]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn a_registry_gets_the_names_of_its_service_and_its_credential() {
    let objects = Objects {
        entries: vec![stored(0, &entry("team-a", "images", "u1", &["images.team-a.svc"]))],
        secrets: vec![secret("u1", b"Basic eA==")],
        grants: vec![],
    };
    let known = known(&wanted(&objects, "example.org"), "u1");
    assert_eq!(hosts(&known.own), ["images.team-a.svc", "images.team-a.svc.example.org"]);
    assert_eq!(known.endpoint.authorization.as_deref(), Some("Basic eA=="));
    assert_eq!(known.endpoint.registry, "team-a/images");
    assert!(known.refused.is_empty() && known.granted.is_empty());
}

#[test]
fn a_host_that_nobody_granted_is_refused() {
    let claims = ["docker.io", "images.team-b.svc", "../../etc", "_default", "images.team-a.svc.cluster.local"];
    let objects = Objects { entries: vec![stored(0, &entry("team-a", "images", "u1", &claims))], ..Objects::default() };
    let known = known(&wanted(&objects, "cluster.local"), "u1");
    assert!(known.granted.is_empty());
    let reasons: Vec<_> = known.refused.iter().map(|why| why.reason).collect();
    assert_eq!(reasons, ["HostNotGranted", "HostNotGranted", "HostNameInvalid", "HostNameInvalid"]);
}

#[test]
fn the_older_registry_keeps_a_host_granted_to_both() {
    let grants = "[{host: docker.io, namespace: infra}]".to_owned();
    let objects = Objects {
        entries: vec![
            stored(20, &entry("infra", "b", "u2", &["docker.io"])),
            stored(10, &entry("infra", "a", "u9", &["docker.io"])),
        ],
        grants: vec![config_map(HOST_GRANTS_NAME, 0, HOST_GRANTS_KEY, grants)],
        ..Objects::default()
    };
    let wanted = wanted(&objects, "cluster.local");
    assert_eq!(hosts(&known(&wanted, "u9").granted), ["docker.io"]);
    assert_eq!(known(&wanted, "u2").refused[0].reason, "HostConflict");
}

#[test]
fn nobody_gets_the_names_of_anothers_service_whatever_is_granted() {
    let grants = "[{host: images.team-a.svc, namespace: infra}]".to_owned();
    let objects = Objects {
        entries: vec![
            stored(10, &entry("infra", "successor", "u1", &["images.team-a.svc"])),
            stored(20, &entry("team-a", "images", "u2", &[])),
        ],
        grants: vec![config_map(HOST_GRANTS_NAME, 0, HOST_GRANTS_KEY, grants)],
        ..Objects::default()
    };
    let wanted = wanted(&objects, "cluster.local");
    let successor = known(&wanted, "u1");
    assert_eq!((successor.granted.len(), successor.refused[0].reason), (0, "HostConflict"));
    assert!(hosts(&known(&wanted, "u2").own).contains(&"images.team-a.svc".to_owned()));
}

#[test]
fn a_registry_made_again_replaces_its_predecessor() {
    let objects = Objects {
        entries: vec![stored(20, &entry("a", "images", "new", &[])), stored(10, &entry("a", "images", "old", &[]))],
        ..Objects::default()
    };
    assert_eq!(wanted(&objects, "cluster.local").into_keys().collect::<Vec<_>>(), ["new"]);
}

#[test]
fn unreadable_grants_grant_nothing() {
    let objects = Objects {
        entries: vec![stored(0, &entry("infra", "a", "u", &["docker.io"]))],
        grants: vec![config_map(HOST_GRANTS_NAME, 0, HOST_GRANTS_KEY, "[{host: docker.io, nmespace: infra}]".into())],
        ..Objects::default()
    };
    assert_eq!(known(&wanted(&objects, "cluster.local"), "u").refused[0].reason, "HostNotGranted");
}

#[test]
fn a_malformed_entry_is_reported_and_the_others_go_on() {
    let good = entry("a", "good", "good", &[]);
    let changed = |change: fn(&mut NodeEntry)| {
        let mut entry = entry("a", "bad", "bad", &[]);
        change(&mut entry);
        stored(0, &entry)
    };
    for bad in [
        config_map("registry-bad", 0, ENTRY_KEY, "{".into()),
        config_map("registry-bad", 0, "other.json", "{}".into()),
        // What an agent could write, whose report carried the wrong label.
        config_map("report-bad", 0, ENTRY_KEY, serde_json::to_string(&entry("a", "bad", "bad", &[])).unwrap()),
        changed(|entry| entry.addresses.clear()),
        changed(|entry| entry.addresses = vec!["registry.example.org".into()]),
        changed(|entry| entry.port = 0),
        changed(|entry| entry.ca_bundle = "no certificate".into()),
        changed(|entry| entry.registry.name = "a\nserver = \"https://evil\"".into()),
    ] {
        let objects = Objects { entries: vec![bad, stored(0, &good)], ..Objects::default() };
        let wanted = wanted(&objects, "cluster.local");
        assert!(matches!(wanted["good"], Wish::Known(_)));
        assert_eq!(wanted.values().filter(|wish| matches!(wish, Wish::Malformed(_))).count(), 1, "{wanted:?}");
    }
    let objects =
        Objects { entries: vec![stored(0, &good)], secrets: vec![secret("good", b"Basic a\r\nX: y")], grants: vec![] };
    assert!(matches!(wanted(&objects, "cluster.local")["good"], Wish::Malformed(_)));
}
