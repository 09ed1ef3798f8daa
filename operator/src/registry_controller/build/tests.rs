//! Whatever a Registry says, its objects are what they must be.

mod bucket;

use k8s_openapi::api::core::v1::{PodSpec, Service};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::api::registry::Registry;
use crate::certificate_authority::Authority;
use crate::context::Settings;
use crate::keyring::Keyring;
use crate::registry_controller::dereference::Observed;
use crate::registry_controller::validate::{self, Refusal};

pub(crate) fn settings() -> Settings {
    Settings {
        namespace: "berth-system".into(),
        node_namespace: "berth-nodes".into(),
        node_agent: true,
        registry_image: "berth-registry:1".into(),
        cluster_domain: "cluster.local".into(),
        watch_namespaces: Vec::new(),
        release: "berth".into(),
        concurrency: 1,
        max_rollouts: 1,
    }
}

pub(crate) fn registry(spec: &Value) -> Registry {
    let registry = json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "Registry", "spec": spec,
        "metadata": {"name": "images", "namespace": "team-a", "uid": "u", "generation": 1},
    });
    serde_json::from_value(registry).unwrap()
}

fn validated(spec: &Value) -> Result<ValidatedRegistry, Refusal> {
    validate::validate(&registry(spec), &Observed::default(), &settings())
}

fn minimal() -> Value {
    json!({"storage": {"persistentVolumeClaim": {"size": "10Gi"}}})
}

pub(crate) fn keyring() -> Keyring {
    let life = std::time::Duration::from_secs(86_400);
    let now = jiff::Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(2);
    Keyring::new("u", Authority::new("images", now, life).unwrap(), now).unwrap()
}

fn built(spec: &Value) -> Resources {
    build(&validated(spec).unwrap(), &keyring(), Some("images-server-x"))
}

fn with(mut spec: Value, more: &Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

#[test]
fn six_lines_give_a_registry() {
    let Resources { config, deployment, claim, disruption_budget, .. } = built(&minimal());
    let config = &config.data.unwrap()["config.yml"];
    let read: berth_contract::config::Config = serde_yaml::from_str(config).unwrap();
    assert!(read.auth.unwrap().nodes.is_some(), "a managed Registry is never open, and nodes pull");
    let deployment = serde_json::to_value(deployment).unwrap();
    assert_eq!(deployment["spec"]["strategy"], json!({"type": "Recreate"}));
    assert_eq!(deployment["spec"]["replicas"], 1);
    let claim = serde_json::to_value(claim).unwrap();
    assert_eq!(claim["metadata"]["labels"]["berth.dev/retained-for"], "images");
    assert_eq!(claim["metadata"]["ownerReferences"], Value::Null);
    assert_eq!(claim["spec"]["accessModes"], json!(["ReadWriteOnce"]));
    assert!(disruption_budget.is_none());
    let entry = node_entry::build(&validated(&minimal()).unwrap(), &keyring(), &["10.0.0.1".into()], "berth-nodes");
    let entry: crate::node_entry::NodeEntry =
        serde_json::from_str(&entry.unwrap().data.unwrap()["entry.json"]).unwrap();
    assert_eq!(entry.hosts, ["images.team-a.svc", "images.team-a.svc.cluster.local"]);
}

#[test]
fn a_shared_volume_is_served_by_several_pods_that_replace_each_other() {
    let storage = json!({"persistentVolumeClaim": {"size": "1Gi", "accessModes": ["ReadWriteMany"]}});
    let Resources { deployment, disruption_budget, .. } = built(&json!({"storage": storage, "replicas": 3}));
    let deployment = serde_json::to_value(deployment).unwrap();
    let rolling = json!({"maxSurge": 1, "maxUnavailable": 0});
    assert_eq!(deployment["spec"]["strategy"]["rollingUpdate"], rolling);
    assert_eq!(serde_json::to_value(disruption_budget).unwrap()["spec"]["maxUnavailable"], 1);
}

#[test]
fn a_volume_that_goes_with_its_registry_is_owned_by_it() {
    let claim = built(&with(minimal(), &json!({"deletionPolicy": "Delete"}))).claim.unwrap();
    assert_eq!(claim.metadata.owner_references.unwrap()[0].uid, "u");
}

#[test]
fn more_pods_than_a_volume_bears_are_refused_even_if_the_definition_did_not() {
    assert_eq!(validated(&with(minimal(), &json!({"replicas": 2}))).unwrap_err().reason, "VolumeNotShared");
}

#[test]
fn an_existing_claim_that_is_not_there_is_named() {
    let refused = validated(&json!({"storage": {"persistentVolumeClaim": {"existingClaim": "mine"}}})).unwrap_err();
    assert_eq!(refused.reason, "ClaimNotFound");
    assert!(refused.message.contains("mine"));
}

#[test]
fn a_namespace_that_was_not_granted_says_how_to_grant_it() {
    let settings = Settings { watch_namespaces: vec!["a".into(), "b".into()], ..settings() };
    let refused = validate::validate(&registry(&minimal()), &Observed::default(), &settings).unwrap_err();
    assert_eq!(refused.reason, "NamespaceNotGranted");
    assert!(refused.message.contains("--set 'watchNamespaces={a,b,team-a}'"), "{}", refused.message);
}

#[test]
fn a_host_that_was_not_granted_reaches_no_node_and_no_certificate() {
    let spec = with(minimal(), &json!({"nodes": {"hosts": ["docker.io"]}}));
    let validated = validated(&spec).unwrap();
    assert_eq!(validated.refused_hosts, ["docker.io"]);
    let service: Service = serde_json::from_value(json!({"spec": {"clusterIPs": ["10.0.0.1", "fd00::1"]}})).unwrap();
    let names = validated.certificate_names(Some(&service)).unwrap();
    assert!(!validated.hosts.contains(&"docker.io".into()) && !names.contains(&"docker.io".into()));
    for name in [
        "images",
        "images.team-a",
        "images.team-a.svc",
        "images.team-a.svc.cluster.local",
        "localhost",
        "10.0.0.1",
        "fd00::1",
        "127.0.0.1",
        "::1",
    ] {
        assert!(names.contains(&name.into()), "{name}");
    }
}

#[test]
fn nothing_is_certified_while_the_service_has_no_address() {
    let validated = validated(&minimal()).unwrap();
    for service in [json!({}), json!({"spec": {"clusterIPs": [""]}}), json!({"spec": {"clusterIPs": ["None"]}})] {
        let service: Service = serde_json::from_value(service).unwrap();
        assert_eq!(validated.certificate_names(Some(&service)), None);
    }
}

#[test]
fn only_what_a_pod_reads_at_its_start_restarts_it() {
    let hash = |spec| serde_json::to_value(built(&spec).deployment).unwrap()["spec"]["template"].clone();
    assert_eq!(hash(minimal()), hash(with(minimal(), &json!({"tls": {"privateCA": {"certificateDuration": "24h"}}}))));
    assert_ne!(hash(minimal()), hash(with(minimal(), &json!({"logLevel": "debug"}))));
}

#[test]
fn the_users_own_files_are_mounted_and_named() {
    let spec = json!({"access": {"htpasswd": {"secretRef": {"name": "users", "key": "f"}}}, "tls": {"secretRef": {"name": "cert"}}});
    let Resources { config, deployment, .. } = built(&with(minimal(), &spec));
    let config = &config.data.unwrap()["config.yml"];
    assert!(config.contains("/etc/berth/users/htpasswd") && config.contains("/etc/berth/tls/tls.crt"), "{config}");
    let volumes = serde_json::to_value(deployment).unwrap()["spec"]["template"]["spec"]["volumes"].to_string();
    assert!(volumes.contains(r#""items":[{"key":"f","path":"htpasswd"}],"secretName":"users""#), "{volumes}");
    assert!(volumes.contains(r#""secretName":"cert""#), "{volumes}");
}

/// The Pod Security Standard `restricted`, as far as our pods have fields for it.
fn is_restricted(pod: &PodSpec) -> bool {
    let security = pod.security_context.clone().unwrap_or_default();
    let allowed = |volume: &k8s_openapi::api::core::v1::Volume| {
        volume.config_map.is_some()
            || volume.secret.is_some()
            || volume.empty_dir.is_some()
            || volume.persistent_volume_claim.is_some()
    };
    pod.host_network.is_none()
        && pod.host_pid.is_none()
        && pod.host_ipc.is_none()
        && pod.node_name.is_none()
        && pod.init_containers.is_none()
        && security.run_as_non_root == Some(true)
        && security.run_as_user != Some(0)
        && security.sysctls.is_none()
        && security.seccomp_profile.is_some_and(|profile| profile.type_ == "RuntimeDefault")
        && pod.volumes.iter().flatten().all(allowed)
        && pod.containers.iter().all(|container| {
            let security = container.security_context.clone().unwrap_or_default();
            let capabilities = security.capabilities.unwrap_or_default();
            security.allow_privilege_escalation == Some(false)
                && security.privileged.is_none()
                && security.read_only_root_filesystem == Some(true)
                && capabilities.drop == Some(vec!["ALL".into()])
                && capabilities.add.is_none()
                && container.ports.iter().flatten().all(|port| port.host_port.is_none())
        })
}

fn any_spec() -> impl Strategy<Value = Value> {
    let storage = prop_oneof![
        "[1-9][0-9]?(Mi|Gi|Ti)"
            .prop_map(|size| json!({"persistentVolumeClaim": {"size": size, "accessModes": ["ReadWriteMany"]}})),
        Just(json!({"emptyDir": {}})),
        Just(json!({"emptyDir": {"sizeLimit": "1Gi"}})),
        any::<[bool; 2]>().prop_map(|[authorities, key]| {
            let mut bucket = json!({"bucket": "images", "endpoint": "https://s3.example"});
            if authorities {
                bucket["caBundle"] = json!({"secretKeyRef": {"name": "authority"}});
            }
            if key {
                bucket["credentialsSecretRef"] = json!({"name": "key"});
            }
            json!({"s3": bucket})
        }),
        Just(json!({"azure": {"accountName": "images", "container": "images"}})),
        Just(json!({"gcs": {"bucket": "images", "credentialsSecretRef": {"name": "key"}}})),
    ];
    let text = "[a-z]{1,8}";
    let map =
        prop::collection::btree_map("([a-z]{1,8}[.]example/)?[a-zA-Z]([a-zA-Z.-]{0,10}[a-zA-Z])?", "[ -~]{0,20}", 0..4);
    let template = (map.clone(), map, text, any::<bool>()).prop_map(|(labels, annotations, class, resources)| {
        let mut template = json!({"labels": labels, "annotations": annotations, "priorityClassName": class,
            "tolerations": [{"operator": "Exists"}]});
        if resources {
            template["resources"] = json!({"limits": {"memory": "1Gi"}});
        }
        template
    });
    (storage, template, any::<[bool; 6]>(), text).prop_map(|(storage, template, flags, name)| {
        let mut spec = json!({"storage": storage, "podTemplate": template, "readOnly": flags[0]});
        if flags[1] {
            spec["access"] = json!({"nodes": "None", "htpasswd": {"secretRef": {"name": name}}});
        }
        if flags[2] {
            spec["tls"] = json!({"secretRef": {"name": name}, "extraDNSNames": ["a.example.com"]});
        }
        if flags[3] {
            spec["service"] = json!({"type": "LoadBalancer", "annotations": {"a": "b"}});
        }
        if flags[4] {
            spec["image"] = json!({"repository": name, "tag": "1", "pullSecrets": [{"name": name}]});
        }
        if flags[5] {
            spec["deletionPolicy"] = json!("Delete");
        }
        spec
    })
}

proptest! {
    #[test]
    fn the_pods_of_every_registry_are_restricted(spec in any_spec()) {
        let deployment = built(&spec).deployment.unwrap();
        let pod = deployment.spec.unwrap().template.spec.unwrap();
        prop_assert!(is_restricted(&pod), "{}", serde_json::to_string_pretty(&pod).unwrap());
        prop_assert_eq!(pod.automount_service_account_token, Some(false));
    }

    #[test]
    fn the_same_registry_gives_the_same_objects(spec in any_spec()) {
        let (validated, keyring) = (validated(&spec).unwrap(), keyring());
        let build = || format!("{:?}", build(&validated, &keyring, Some("s")));
        prop_assert_eq!(build(), build());
    }

    #[test]
    fn our_labels_win_over_the_users(spec in any_spec()) {
        let deployment = built(&spec).deployment.unwrap().spec.unwrap();
        let labels = deployment.template.metadata.unwrap().labels.unwrap();
        for (key, value) in deployment.selector.match_labels.unwrap() {
            prop_assert_eq!(&labels[&key], &value);
        }
    }

    #[test]
    fn every_name_fits(name in "[a-z]([-a-z0-9]{0,38}[a-z0-9])?", namespace in "[a-z]{1,63}") {
        let mut registry = registry(&minimal());
        registry.metadata.name = Some(name);
        registry.metadata.namespace = Some(namespace);
        let validated = validate::validate(&registry, &Observed::default(), &settings()).unwrap();
        let owner = &validated.owner;
        let secret = format!("{}-server-{}", owner.name, crate::random::name(10).unwrap());
        for name in [owner.config_name(), owner.ca_name(), owner.claim_name(), secret] {
            prop_assert!(name.len() <= 63, "{}", name);
        }
        prop_assert!(owner.keyring_name().len() <= 253);
        prop_assert!(validated.owner.labels().values().all(|value| value.len() <= 63));
    }
}

#[test]
fn the_operators_own_secret_is_named_after_both_names() {
    let owner = validated(&minimal()).unwrap().owner;
    assert_eq!(owner.keyring_name(), "registry-team-a.images");
}

#[test]
fn garbage_is_collected_as_the_registry_says_and_every_day_when_it_says_nothing() {
    let config = |spec: &Value| {
        let text = built(spec).config.data.unwrap()["config.yml"].clone();
        let config: berth_contract::config::Config = serde_yaml::from_str(&text).unwrap();
        config.storage.maintenance.garbagecollection
    };
    assert_eq!(config(&minimal()), berth_contract::config::GarbageCollection::default());
    let wanted = json!({"garbageCollection": {
        "suspend": true, "schedule": "@hourly", "grace": "36h", "untagged": "Delete", "dryRun": true,
    }});
    let made = config(&with(minimal(), &wanted));
    assert!(!made.enabled && made.dryrun);
    assert_eq!((made.schedule.to_string().as_str(), made.grace.get().as_secs()), ("@hourly", 36 * 3600));
    assert_eq!(made.untagged, berth_contract::config::Untagged::Delete);
}

#[test]
fn a_schedule_that_is_none_is_named_with_an_example() {
    let spec = with(minimal(), &json!({"garbageCollection": {"schedule": "0 25 * * *"}}));
    let refusal = validated(&spec).unwrap_err();
    assert!(refusal.message.starts_with("garbageCollection.schedule: a schedule is a cron expression"), "{refusal}");
}

#[test]
fn a_claim_that_was_kept_and_is_of_another_kind_is_named_with_what_to_write() {
    let kept = |modes: &Value, class: &str, kept_for: &str| {
        let claim = json!({
            "metadata": {"name": "images-data", "labels": {"berth.dev/retained-for": kept_for}},
            "spec": {"accessModes": modes, "storageClassName": class},
        });
        Observed { claim: Some(std::sync::Arc::new(serde_json::from_value(claim).unwrap())), ..Default::default() }
    };
    let refused = |more: &Value, kept: &Observed| {
        let mut claim = json!({"size": "1Gi"});
        claim.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let spec = json!({"storage": {"persistentVolumeClaim": claim}});
        validate::validate(&registry(&spec), kept, &settings()).err()
    };
    let of_one = kept(&json!(["ReadWriteOnce"]), "fast", "images");
    for fits in [json!({}), json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "fast"})] {
        assert_eq!(refused(&fits, &of_one), None);
    }
    for differs in [json!({"accessModes": ["ReadWriteMany"]}), json!({"storageClassName": "slow"})] {
        let refusal = refused(&differs, &of_one).unwrap();
        assert_eq!(refusal.reason, "ClaimDiffers");
        assert!(refusal.message.contains("accessModes: [ReadWriteOnce] and storageClassName: fast"), "{refusal}");
        let anothers = kept(&json!(["ReadWriteOnce"]), "fast", "another");
        assert_eq!(refused(&differs, &anothers), None, "that it is another's is said elsewhere");
    }
}
