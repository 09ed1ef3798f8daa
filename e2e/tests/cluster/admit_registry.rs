//! What the API server refuses, with which words, and what it takes as it is.

mod refusals;

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use berth_e2e::cluster::{Cluster, read};
use berth_e2e::temp_namespace::with_namespace;
use berth_operator::api::Registry;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use self::refusals::{Refusal, refusals};

#[tokio::test]
async fn every_rule_of_the_definition_refuses_with_its_message() -> Result<()> {
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "admit", async |namespace| refuses_all(&namespace.client(), &namespace.name).await).await
}

#[tokio::test]
async fn six_lines_and_every_field_there_is_are_taken_as_they_are_written() -> Result<()> {
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "accept", async |namespace| accepts_all(&namespace.client(), &namespace.name).await).await
}

#[tokio::test]
async fn every_rule_has_a_row_here() -> Result<()> {
    let mut rules = BTreeSet::new();
    collect_messages(&definition()?, &mut rules);
    let rows: BTreeSet<String> = refusals().into_iter().map(|row| row.message.to_owned()).collect();
    ensure!(rules == rows, "only in crds/: {:?}; only here: {:?}", &rules - &rows, &rows - &rules);
    println!("{} rules in crds/registries.yaml, {} refusals here", rules.len(), refusals().len());
    Ok(())
}

#[tokio::test]
async fn every_field_is_in_what_is_accepted() -> Result<()> {
    let spec = &definition()?["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut fields = BTreeSet::new();
    collect_fields(spec, "", &mut fields);
    let missing: Vec<&String> = fields
        .iter()
        .filter(|field| !accepted().iter().any(|spec| !spec.pointer(field).unwrap_or(&Value::Null).is_null()))
        .collect();
    ensure!(missing.is_empty(), "nothing here writes {missing:?}");
    Ok(())
}

/// Shows every refusal against an API server that has the definition.
pub(crate) async fn refuses_all(client: &Client, namespace: &str) -> Result<()> {
    let desk = Desk::new(client, namespace);
    for (number, row) in refusals().into_iter().enumerate() {
        let said = desk.refusal(&format!("row-{number}"), &row).await.with_context(|| format!("{row:?}"))?;
        ensure!(
            said.len() == 1 && said[0].ends_with(row.message),
            "expected {:?}, got {said:?} for {row:?}",
            row.message
        );
        println!("refused: {} <- {}", said[0], row.after);
    }
    println!("{} refusals, each with its message and no other", refusals().len());
    Ok(())
}

/// Shows that what is accepted is stored as it was written.
pub(crate) async fn accepts_all(client: &Client, namespace: &str) -> Result<()> {
    let desk = Desk::new(client, namespace);
    for (number, spec) in accepted().into_iter().enumerate() {
        let stored = desk.create(&format!("accepted-{number}"), &spec, true).await.with_context(|| spec.to_string())?;
        ensure!(stored.data["spec"] == spec, "written: {spec}\nstored: {}", stored.data["spec"]);
    }
    Ok(())
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}

/// What is accepted. Together they write every field.
pub(crate) fn accepted() -> Vec<Value> {
    let digest = format!("sha256:{}", "0".repeat(64));
    vec![
        json!({"storage": {"persistentVolumeClaim": {"size": "10Gi"}}}),
        json!({"storage": {"persistentVolumeClaim": {"existingClaim": "mine"}}, "replicas": 2, "image": {"digest": digest}}),
        json!({"storage": {"emptyDir": {"sizeLimit": "1Gi"}}}),
        json!({"storage": {"s3": {"bucket": "images"}}}),
        json!({
            "storage": {"s3": {
                "bucket": "images.team-a",
                "region": "eu-central-1",
                "endpoint": "https://minio.example:9000",
                "forcePathStyle": true,
                "prefix": "registries/team-a",
                "credentialsSecretRef": {"name": "key", "accessKeyIDKey": "id", "secretAccessKeyKey": "secret"},
                "serverSideEncryption": {"kms": {"keyID": "arn:aws:kms:eu-central-1:111122223333:key/1234abcd"}},
                "storageClass": "INTELLIGENT_TIERING",
                "caBundle": {"configMapKeyRef": {"name": "authority", "key": "ca.pem"}},
                "redirect": "Always",
                "redirectExcept": ["10.244.0.0/16", "fd00:10:244::/56"],
            }},
            "replicas": 3,
            "podTemplate": {
                "serviceAccountAnnotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/images"},
            },
        }),
        json!({"storage": {"s3": {
            "bucket": "images",
            "endpoint": "https://[fd00::1]:9000",
            "serverSideEncryption": {"aes256": {}},
            "caBundle": {"secretKeyRef": {"name": "authority", "key": "ca.pem"}},
        }}}),
        json!({"storage": {"azure": {"accountName": "berth", "container": "images"}}, "replicas": 2}),
        json!({
            "storage": {"azure": {
                "accountName": "berth",
                "container": "team-a-images",
                "endpoint": "http://10.0.0.1:10000/berth",
                "prefix": "registries/team.a",
                "credentialsSecretRef": {"name": "key", "accountKeyKey": "key1"},
                "redirect": "Never",
                "redirectExcept": ["10.0.0.0/8"],
            }},
            "podTemplate": {"serviceAccountAnnotations": {"azure.workload.identity/client-id": "0000-0000"}},
        }),
        json!({"storage": {"azure": {
            "accountName": "berth", "container": "images", "endpoint": "https://berth.blob.core.usgovcloudapi.net",
        }}}),
        json!({"storage": {"gcs": {"bucket": "images.example.com"}}, "replicas": 2}),
        json!({
            "storage": {"gcs": {
                "bucket": "team_a-images",
                "prefix": "registries/team-a",
                "credentialsSecretRef": {"name": "key", "key": "sa.json"},
                "redirect": "Always",
                "redirectExcept": ["10.0.0.0/8"],
            }},
            "podTemplate": {
                "serviceAccountAnnotations": {"iam.gke.io/gcp-service-account": "images@project.iam.gserviceaccount.com"},
            },
        }),
        json!({
            "storage": {"persistentVolumeClaim": {
                "size": "10Gi", "storageClassName": "fast", "accessModes": ["ReadWriteMany"],
            }},
            "replicas": 3,
            "suspend": true,
            "deletionPolicy": "Delete",
            "readOnly": true,
            "garbageCollection": {
                "suspend": true, "schedule": "30 2 * * SUN", "grace": "48h", "untagged": "Delete", "dryRun": true,
            },
            "image": {
                "repository": "registry.example:5000/berth-registry",
                "tag": "1.0.0",
                "pullPolicy": "Always",
                "pullSecrets": [{"name": "pull"}],
            },
            "tls": {
                "secretRef": {"name": "public"},
                "privateCA": {"authorityDuration": "8760h", "certificateDuration": "720h", "renewBefore": "240h"},
                "extraDNSNames": ["images.example.com", "*.images.example.com"],
            },
            "service": {
                "type": "LoadBalancer",
                "annotations": {"example.com/scheme": "internal"},
                "loadBalancerClass": "example.com/lb",
            },
            "access": {"nodes": "None", "htpasswd": {"secretRef": {"name": "users", "key": "htpasswd"}}},
            "nodes": {"hosts": ["docker.io", "images.example.com"]},
            "podTemplate": {
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
                "nodeSelector": {"kubernetes.io/arch": "amd64"},
                "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "registry", "effect": "NoSchedule"}],
                "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
                    "weight": 1,
                    "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]},
                }]}},
                "topologySpreadConstraints": [{
                    "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway",
                }],
                "annotations": {"example.com/team": "images"},
                "labels": {"team": "images"},
                "priorityClassName": "system-cluster-critical",
            },
            "logLevel": "debug",
            "drainTimeout": "5m",
        }),
    ]
}

/// Where Registries are handed in.
struct Desk {
    api: Api<DynamicObject>,
}

impl Desk {
    fn new(client: &Client, namespace: &str) -> Self {
        Self { api: Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<Registry>(&())) }
    }

    async fn create(&self, name: &str, spec: &Value, dry_run: bool) -> kube::Result<DynamicObject> {
        let parameters = PostParams { dry_run, field_manager: None };
        self.api.create(&parameters, &object(name, spec, None)).await
    }

    /// What the API server complains of.
    async fn refusal(&self, name: &str, row: &Refusal) -> Result<Vec<String>> {
        let name = row.name.unwrap_or(name);
        let answer = match &row.before {
            None => self.create(name, &row.after, true).await,
            Some(before) => {
                // Suspended, so that nothing comes of it.
                let suspended = |spec: &Value| {
                    let mut spec = spec.clone();
                    merge(&mut spec, json!({"suspend": true}));
                    spec
                };
                self.create(name, &suspended(before), false).await?;
                let parameters = PostParams { dry_run: true, field_manager: None };
                loop {
                    let version = self.api.get(name).await?.metadata.resource_version;
                    let after = object(name, &suspended(&row.after), version);
                    match self.api.replace(name, &parameters, &after).await {
                        // The operator wrote the status in between.
                        Err(kube::Error::Api(status)) if status.code == 409 => {}
                        answer => break answer,
                    }
                }
            }
        };
        match answer {
            Ok(_) => bail!("it was accepted"),
            Err(kube::Error::Api(status)) if status.code == 422 => {
                let details = status.details.context("no details")?;
                Ok(details.causes.into_iter().map(|cause| cause.message).collect())
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn object(name: &str, spec: &Value, version: Option<String>) -> DynamicObject {
    let mut object = DynamicObject::new(name, &ApiResource::erase::<Registry>(&())).data(json!({"spec": spec}));
    object.metadata.resource_version = version;
    object
}

/// The definition as it is shipped.
pub(crate) fn definition() -> Result<Value> {
    Ok(serde_yaml::from_str(&read("crds/registries.yaml")?)?)
}

fn collect_messages(schema: &Value, into: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            let rules = map.get("x-kubernetes-validations").and_then(Value::as_array);
            let messages = rules.into_iter().flatten().filter_map(|rule| rule["message"].as_str());
            into.extend(messages.map(ToOwned::to_owned));
            map.values().for_each(|value| collect_messages(value, into));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_messages(item, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Fields as JSON pointers. What Kubernetes itself defines is not gone into.
fn collect_fields(schema: &Value, path: &str, into: &mut BTreeSet<String>) {
    const OF_KUBERNETES: [&str; 1] = ["/podTemplate/affinity"];
    let properties = schema["properties"].as_object().filter(|_| !OF_KUBERNETES.contains(&path));
    for (name, schema) in properties.into_iter().flatten() {
        let path = format!("{path}/{name}");
        collect_fields(schema, &path, into);
        into.insert(path);
    }
}
