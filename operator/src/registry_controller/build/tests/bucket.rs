//! Of Registries on a bucket.

use serde_json::{Value, json};

use super::super::Resources;
use super::{built, with};

fn on_a_bucket(more: &Value) -> Value {
    let bucket = json!({
        "bucket": "images", "endpoint": "https://minio.example:9000", "prefix": "team-a",
        "credentialsSecretRef": {"name": "key"}, "caBundle": {"configMapKeyRef": {"name": "authority"}},
    });
    json!({"storage": {"s3": with(bucket, more)}, "replicas": 3})
}

#[test]
fn a_bucket_is_served_by_several_pods_that_replace_each_other_and_mount_no_volume_for_it() {
    let Resources { deployment, disruption_budget, claim, .. } = built(&on_a_bucket(&json!({})));
    let deployment = serde_json::to_value(deployment).unwrap();
    assert_eq!(deployment["spec"]["strategy"]["rollingUpdate"], json!({"maxSurge": 1, "maxUnavailable": 0}));
    assert_eq!(serde_json::to_value(disruption_budget).unwrap()["spec"]["maxUnavailable"], 1);
    let pod = &deployment["spec"]["template"]["spec"];
    let spread = pod["topologySpreadConstraints"].as_array().unwrap();
    assert_eq!(spread.len(), 1, "another label would turn it off on nodes that lack that");
    assert_eq!(spread[0]["topologyKey"], "kubernetes.io/hostname");
    let apart = &pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"];
    let apart: Vec<_> = apart.as_array().unwrap().iter().map(|term| &term["podAffinityTerm"]["topologyKey"]).collect();
    assert_eq!(apart, ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]);
    assert!(claim.is_none() && !pod["volumes"].to_string().contains("persistentVolumeClaim"));
    let names: Vec<&Value> = pod["volumes"].as_array().unwrap().iter().map(|volume| &volume["name"]).collect();
    assert_eq!(names, ["config", "secrets", "bucket"]);
}

#[test]
fn the_access_key_reaches_pods_from_the_users_secret_and_stands_in_no_object_of_ours() {
    let Resources { config, deployment, .. } = built(&on_a_bucket(&json!({})));
    let text = config.data.unwrap()["config.yml"].clone();
    let read: berth_contract::config::Config = serde_yaml::from_str(&text).unwrap();
    let bucket = read.storage.s3.unwrap();
    assert_eq!((bucket.accesskey, bucket.secretkey), (None, None));
    assert_eq!((read.storage.filesystem, bucket.rootdirectory.as_deref()), (None, Some("team-a")));
    assert!(bucket.forcepathstyle, "beside an endpoint");
    assert_eq!(bucket.cabundle.as_deref(), Some(std::path::Path::new("/etc/berth/bucket/ca.crt")));
    let container = serde_json::to_value(deployment).unwrap()["spec"]["template"]["spec"]["containers"][0].clone();
    let variable = |name: &str| json!({"name": name, "valueFrom": {"secretKeyRef": {"name": "key", "key": name}}});
    assert_eq!(container["env"], json!([variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")]));
}

#[test]
fn what_is_written_of_a_bucket_is_what_pods_are_configured_with() {
    let config = |more: &Value| {
        let text = built(&on_a_bucket(more)).config.data.unwrap()["config.yml"].clone();
        // As the registry itself reads it, which refuses what contradicts itself.
        let (config, warnings) = berth_contract::config::load(Some(&text), std::iter::empty()).unwrap();
        assert_eq!(warnings, []);
        config.storage.s3.unwrap()
    };
    let plain = config(&json!({}));
    assert_eq!((plain.encrypt, plain.keyid, plain.storageclass, plain.region), (false, None, None, None));
    let aes = config(&json!({"serverSideEncryption": {"aes256": {}}, "storageClass": "STANDARD_IA"}));
    assert_eq!((aes.encrypt, aes.keyid, aes.storageclass.as_deref()), (true, None, Some("STANDARD_IA")));
    let kms = config(&json!({"serverSideEncryption": {"kms": {"keyID": "alias/images"}}, "region": "eu-central-1"}));
    assert_eq!((kms.encrypt, kms.keyid.as_deref()), (true, Some("alias/images")));
    assert_eq!(kms.region.as_deref(), Some("eu-central-1"));
    assert!(!config(&json!({"forcePathStyle": false})).forcepathstyle);
    let redirects = |more: &Value| {
        let text = built(&on_a_bucket(more)).config.data.unwrap()["config.yml"].clone();
        berth_contract::config::load(Some(&text), std::iter::empty()).unwrap().0.storage.redirects()
    };
    assert!(!redirects(&json!({})), "nobody has said that nodes reach the endpoint");
    assert!(redirects(&json!({"redirect": "Always"})));
    assert!(!redirects(&json!({"redirect": "Never"})));
    let text =
        built(&on_a_bucket(&json!({"redirectExcept": ["10.244.0.0/16"]}))).config.data.unwrap()["config.yml"].clone();
    let config = berth_contract::config::load(Some(&text), std::iter::empty()).unwrap().0;
    assert_eq!(config.storage.redirect.except, ["10.244.0.0/16".parse().unwrap()]);
}

#[test]
fn the_annotations_by_which_a_cloud_knows_pods_are_on_their_service_account_and_replace_them() {
    let with_role = |role: &str| {
        let annotations = json!({"serviceAccountAnnotations": {"eks.amazonaws.com/role-arn": role}});
        built(&with(json!({"storage": {"s3": {"bucket": "images"}}}), &json!({"podTemplate": annotations})))
    };
    let account = serde_json::to_value(with_role("a").service_account).unwrap();
    assert_eq!(account["metadata"]["annotations"], json!({"eks.amazonaws.com/role-arn": "a"}));
    assert_eq!(
        (&account["metadata"]["name"], &account["automountServiceAccountToken"]),
        (&json!("images"), &json!(false))
    );
    let template = |role| serde_json::to_value(with_role(role).deployment).unwrap()["spec"]["template"].clone();
    assert_ne!(template("a")["metadata"], template("b")["metadata"]);
    assert_eq!(template("a")["spec"]["containers"][0]["env"], Value::Null);
}

/// The configuration, as the registry itself reads it, and the pods' template.
fn made(spec: &Value) -> (berth_contract::config::Config, Value) {
    let Resources { config, deployment, .. } = built(spec);
    let text = config.data.unwrap()["config.yml"].clone();
    let (config, warnings) = berth_contract::config::load(Some(&text), std::iter::empty()).unwrap();
    assert_eq!(warnings, []);
    (config, serde_json::to_value(deployment).unwrap()["spec"]["template"].clone())
}

#[test]
fn a_container_of_azure_is_configured_with_its_key_in_a_variable() {
    let container = json!({
        "accountName": "berth", "container": "images", "prefix": "team-a", "endpoint": "https://berth.blob.example",
        "credentialsSecretRef": {"name": "key", "accountKeyKey": "key1"},
    });
    let (config, pod) = made(&json!({"storage": {"azure": container}, "replicas": 2}));
    assert!(!config.storage.redirects());
    let azure = config.storage.azure.unwrap();
    assert_eq!((azure.accountname.as_str(), azure.container.as_str(), azure.accountkey), ("berth", "images", None));
    assert_eq!(azure.serviceurl.as_deref(), Some("https://berth.blob.example"));
    assert_eq!(azure.rootdirectory.as_deref(), Some("team-a"));
    let variable =
        json!([{"name": "AZURE_STORAGE_KEY", "valueFrom": {"secretKeyRef": {"name": "key", "key": "key1"}}}]);
    assert_eq!(pod["spec"]["containers"][0]["env"], variable);
}

#[test]
fn pods_ask_azure_for_the_identity_that_their_service_account_names_unless_they_have_a_key() {
    let labels = |container: &Value, template: &Value| {
        let container = with(json!({"accountName": "berth", "container": "images"}), container);
        let (_, pod) = made(&json!({"storage": {"azure": container}, "podTemplate": template}));
        pod["metadata"]["labels"]["azure.workload.identity/use"].clone()
    };
    let named = json!({"serviceAccountAnnotations": {"azure.workload.identity/client-id": "0-0"}});
    assert_eq!(labels(&json!({}), &named), json!("true"));
    assert_eq!(labels(&json!({}), &json!({})), Value::Null);
    assert_eq!(labels(&json!({"credentialsSecretRef": {"name": "key"}}), &named), Value::Null);
    let refused = with(named, &json!({"labels": {"azure.workload.identity/use": "false"}}));
    assert_eq!(labels(&json!({}), &refused), json!("false"), "who says otherwise is believed");
}

#[test]
fn a_bucket_of_google_is_configured_with_its_key_in_a_file() {
    let bucket = |more: &Value| json!({"storage": {"gcs": with(json!({"bucket": "images"}), more)}});
    let (config, pod) = made(&bucket(&json!({})));
    assert!(!config.storage.redirects(), "Google may have to be asked to sign");
    assert_eq!(config.storage.gcs.unwrap().keyfile, None);
    let names = |pod: &Value| pod["spec"]["volumes"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
    let volumes: Vec<Value> = names(&pod);
    assert_eq!(volumes, ["config", "secrets"]);

    let key = json!({"credentialsSecretRef": {"name": "key", "key": "sa"}, "prefix": "a", "redirect": "Always"});
    let (config, pod) = made(&bucket(&key));
    assert!(config.storage.redirects());
    let gcs = config.storage.gcs.unwrap();
    assert_eq!(gcs.rootdirectory.as_deref(), Some("a"));
    assert_eq!(gcs.keyfile.as_deref(), Some(std::path::Path::new("/etc/berth/bucket-key/key.json")));
    let volumes = pod["spec"]["volumes"].to_string();
    assert!(volumes.contains(r#""items":[{"key":"sa","path":"key.json"}],"secretName":"key""#), "{volumes}");
    let mounts = pod["spec"]["containers"][0]["volumeMounts"].to_string();
    assert!(mounts.contains(r#""mountPath":"/etc/berth/bucket-key","name":"bucket-key","readOnly":true"#), "{mounts}");
}
