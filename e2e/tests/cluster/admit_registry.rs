//! What the API server refuses, with which words, and what it takes as it is.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use berth_e2e::cluster::{Cluster, read};
use berth_e2e::temp_namespace::with_namespace;
use berth_operator::api::Registry;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

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

/// One thing that is refused.
#[derive(Clone, Debug)]
struct Refusal {
    /// The message of the rule.
    message: &'static str,
    /// The name, when that is what is wrong.
    name: Option<&'static str>,
    /// What it was before; absent when it is new.
    before: Option<Value>,
    /// What it shall be.
    after: Value,
}

fn new(message: &'static str, after: Value) -> Refusal {
    Refusal { message, name: None, before: None, after }
}

/// A new one with storage, and this beside it.
fn beside_storage(message: &'static str, more: Value) -> Refusal {
    let mut after = json!({"storage": {"emptyDir": {}}});
    merge(&mut after, more);
    new(message, after)
}

fn named(message: &'static str, name: &'static str) -> Refusal {
    Refusal { name: Some(name), ..beside_storage(message, json!({})) }
}

/// A change of a claim into another.
#[expect(clippy::needless_pass_by_value, reason = "the rows of the table hold the values in place")]
fn claim(message: &'static str, before: Value, after: Value) -> Refusal {
    storage(message, json!({"persistentVolumeClaim": before}), json!({"persistentVolumeClaim": after}))
}

#[expect(clippy::needless_pass_by_value, reason = "the rows of the table hold the values in place")]
fn storage(message: &'static str, before: Value, after: Value) -> Refusal {
    Refusal { message, name: None, before: Some(json!({"storage": before})), after: json!({"storage": after}) }
}

/// A new one on a bucket called `images`, with this beside or instead of its name.
fn bucket(message: &'static str, more: Value) -> Refusal {
    let mut bucket = json!({"bucket": "images"});
    merge(&mut bucket, more);
    new(message, json!({"storage": {"s3": bucket}}))
}

/// A change of a Service into another.
#[expect(clippy::needless_pass_by_value, reason = "the rows of the table hold the values in place")]
fn service(message: &'static str, before: Value, after: Value) -> Refusal {
    let with = |service: &Value| json!({"storage": {"emptyDir": {}}, "service": service});
    Refusal { message, name: None, before: Some(with(&before)), after: with(&after) }
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}

/// Every rule, and the ways around it that must be closed: a value that is set, unset and set again is refused at the
/// unsetting, and one that was unset at the setting.
#[rustfmt::skip]
fn refusals() -> Vec<Refusal> {
    const NAME: &str = "metadata.name: write at most 40 lower-case letters, digits and '-', beginning with a letter and not ending with '-': the Service has this name";
    const REPLICAS: &str = "spec.replicas: more than one needs a bucket, or a volume that several nodes may mount; write spec.storage.s3, or spec.storage.persistentVolumeClaim.accessModes: [ReadWriteMany], in a new Registry, or replicas: 1";
    const DRAIN: &str = "drainTimeout: write at most 1h";
    const SCHEDULE: &str = "garbageCollection.schedule: write five fields, minute, hour, day of month, month and day of week, as in '0 3 * * *', or @daily";
    const GRACE: &str = "garbageCollection.grace: write between 5m and 8760h";
    const IMAGE: &str = "image: write tag or digest, not both";
    const ANNOTATIONS: &str = "podTemplate.annotations: keys that begin with berth.dev/ or container.apparmor.security.beta.kubernetes.io/ are the operator's; write another key";
    const LABELS: &str = "podTemplate.labels: keys that begin with berth.dev/ or app.kubernetes.io/ are the operator's; write another key";
    const SERVICE_ANNOTATIONS: &str = "service.annotations: keys that begin with berth.dev/ are the operator's; write another key";
    const BALANCER: &str = "service.loadBalancerClass: write service.type: LoadBalancer beside it, or leave it out";
    const OTHER_BALANCER: &str = "service.loadBalancerClass cannot change while there is a load balancer; write service.type: ClusterIP first, then LoadBalancer with the other class";
    const SIZE: &str = "storage.persistentVolumeClaim.size: write a number above zero with Ki, Mi, Gi or Ti, such as 10Gi";
    const SIZE_OR_CLAIM: &str = "storage.persistentVolumeClaim: write size to get a new volume, or existingClaim to use one you have; one of the two, not both";
    const CLAIMS_OWN: &str = "storage.persistentVolumeClaim: storageClassName and accessModes are the existing claim's own; leave them out beside existingClaim";
    const ONE_KIND: &str = "storage: write exactly one of persistentVolumeClaim, s3 and emptyDir";
    const KIND: &str = "storage: one kind cannot become another; create a second Registry with the storage you want, copy the images to it, then delete this one";
    const CLAIM: &str = "storage.persistentVolumeClaim.existingClaim cannot change; create a second Registry on the other claim, then delete this one";
    const CLASS: &str = "storage.persistentVolumeClaim.storageClassName cannot change, as a volume's class cannot; create a second Registry with the class you want, copy the images, then delete this one";
    const MODES: &str = "storage.persistentVolumeClaim.accessModes cannot change, as a volume's cannot; create a second Registry with the modes you want, copy the images, then delete this one";
    const SHRINK: &str = "storage.persistentVolumeClaim.size may grow but not shrink, as a volume cannot; write the old size or a larger one";
    const BUCKET: &str = "storage.s3.bucket: write 3 to 63 lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit, and no IP address";
    const DIRECTORY_BUCKET: &str = "storage.s3.bucket: write a general purpose bucket; one whose name ends with --x-s3 is a directory bucket, which keeps no order";
    const OTHER_BUCKET: &str = "storage.s3.bucket cannot change, as the images would not come along; delete this Registry, which leaves the bucket and its images alone, and create it with the other bucket";
    const PREFIX: &str = "storage.s3.prefix: write letters, digits, '-', '_', '.' and single slashes between them, such as registries/team-a; no part may be '.' or '..'";
    const OTHER_PREFIX: &str = "storage.s3.prefix cannot change, as the images would not come along; delete this Registry, which leaves the bucket and its images alone, and create it with the other prefix";
    const ENDPOINT: &str = "storage.s3.endpoint: write http:// or https://, a host and perhaps a port, and nothing behind them, such as https://minio.example:9000";
    const DOTS: &str = "storage.s3.forcePathStyle: write true for a bucket whose name has dots, because no certificate is for such a host name";
    const ADDRESS: &str = "storage.s3.forcePathStyle: write true, or leave it out, beside an endpoint that is an address: no bucket's name can stand before it";
    const ENCRYPTION: &str = "storage.s3.serverSideEncryption: write exactly one of aes256 and kms";
    const COLD: &str = "storage.s3.storageClass: write a class in capitals whose objects can be read at once, such as STANDARD_IA or GLACIER_IR; those of GLACIER and DEEP_ARCHIVE cannot";
    const CA_BUNDLE: &str = "storage.s3.caBundle: write exactly one of configMapKeyRef and secretKeyRef";
    const CA_WITHOUT_TLS: &str = "storage.s3.caBundle: write an endpoint that begins with https:// beside it, or leave it out";
    const ACCOUNT_ANNOTATIONS: &str = "podTemplate.serviceAccountAnnotations: keys that begin with berth.dev/ or kubernetes.io/ are the operator's and Kubernetes's; write another key";
    const AUTHORITY: &str = "tls.privateCA.authorityDuration: write between 24h and 175200h";
    const CERTIFICATE: &str = "tls.privateCA.certificateDuration: write between 1h and 17520h";
    const RENEW: &str = "tls.privateCA.renewBefore: write less than certificateDuration, which is 2160h unless set";

    vec![
        named(NAME, "a-name-that-is-longer-than-forty-characters"),
        named(NAME, "0-begins-with-a-digit"),
        named(NAME, "has.a.dot"),
        beside_storage(REPLICAS, json!({"replicas": 2})),
        new(REPLICAS, json!({"replicas": 2, "storage": {"persistentVolumeClaim": {"size": "1Gi"}}})),
        new(REPLICAS, json!({"replicas": 2, "storage": {"persistentVolumeClaim": {"size": "1Gi", "accessModes": ["ReadWriteOnce"]}}})),
        beside_storage(DRAIN, json!({"drainTimeout": "61m"})),
        beside_storage(SCHEDULE, json!({"garbageCollection": {"schedule": "daily"}})),
        beside_storage(SCHEDULE, json!({"garbageCollection": {"schedule": "0 0 3 * * *"}})),
        beside_storage(GRACE, json!({"garbageCollection": {"grace": "299s"}})),
        beside_storage(GRACE, json!({"garbageCollection": {"grace": "8761h"}})),
        beside_storage(IMAGE, json!({"image": {"tag": "1", "digest": format!("sha256:{}", "0".repeat(64))}})),
        beside_storage(ANNOTATIONS, json!({"podTemplate": {"annotations": {"berth.dev/config-hash": "0"}}})),
        beside_storage(ANNOTATIONS, json!({"podTemplate": {"annotations": {"container.apparmor.security.beta.kubernetes.io/registry": "unconfined"}}})),
        beside_storage(LABELS, json!({"podTemplate": {"labels": {"berth.dev/registry": "another"}}})),
        beside_storage(LABELS, json!({"podTemplate": {"labels": {"app.kubernetes.io/component": "x"}}})),
        beside_storage(LABELS, json!({"podTemplate": {"labels": {"pod-template-hash": "x"}}})),
        beside_storage(SERVICE_ANNOTATIONS, json!({"service": {"annotations": {"berth.dev/x": "y"}}})),
        beside_storage(BALANCER, json!({"service": {"loadBalancerClass": "example.com/lb"}})),
        beside_storage(BALANCER, json!({"service": {"type": "ClusterIP", "loadBalancerClass": "example.com/lb"}})),
        service(OTHER_BALANCER, json!({"type": "LoadBalancer", "loadBalancerClass": "a.example/lb"}), json!({"type": "LoadBalancer", "loadBalancerClass": "b.example/lb"})),
        service(OTHER_BALANCER, json!({"type": "LoadBalancer", "loadBalancerClass": "a.example/lb"}), json!({"type": "LoadBalancer"})),
        service(OTHER_BALANCER, json!({"type": "LoadBalancer"}), json!({"type": "LoadBalancer", "loadBalancerClass": "b.example/lb"})),
        new(SIZE, json!({"storage": {"persistentVolumeClaim": {"size": "0"}}})),
        new(SIZE, json!({"storage": {"persistentVolumeClaim": {"size": "0Gi"}}})),
        new(SIZE, json!({"storage": {"persistentVolumeClaim": {"size": "10GB"}}})),
        new(SIZE, json!({"storage": {"persistentVolumeClaim": {"size": "-1Gi"}}})),
        new(SIZE_OR_CLAIM, json!({"storage": {"persistentVolumeClaim": {}}})),
        new(SIZE_OR_CLAIM, json!({"storage": {"persistentVolumeClaim": {"size": "1Gi", "existingClaim": "mine"}}})),
        new(CLAIMS_OWN, json!({"storage": {"persistentVolumeClaim": {"existingClaim": "mine", "storageClassName": "fast"}}})),
        new(CLAIMS_OWN, json!({"storage": {"persistentVolumeClaim": {"existingClaim": "mine", "accessModes": ["ReadWriteMany"]}}})),
        new(ONE_KIND, json!({"storage": {}})),
        new(ONE_KIND, json!({"storage": {"emptyDir": {}, "persistentVolumeClaim": {"size": "1Gi"}}})),
        storage(KIND, json!({"emptyDir": {}}), json!({"persistentVolumeClaim": {"size": "1Gi"}})),
        storage(KIND, json!({"persistentVolumeClaim": {"size": "1Gi"}}), json!({"emptyDir": {}})),
        claim(CLAIM, json!({"existingClaim": "mine"}), json!({"existingClaim": "yours"})),
        claim(CLAIM, json!({"existingClaim": "mine"}), json!({"size": "1Gi"})),
        claim(CLAIM, json!({"size": "1Gi"}), json!({"existingClaim": "mine"})),
        claim(CLASS, json!({"size": "1Gi", "storageClassName": "fast"}), json!({"size": "1Gi", "storageClassName": "slow"})),
        claim(CLASS, json!({"size": "1Gi", "storageClassName": "fast"}), json!({"size": "1Gi"})),
        claim(CLASS, json!({"size": "1Gi"}), json!({"size": "1Gi", "storageClassName": "fast"})),
        claim(MODES, json!({"size": "1Gi", "accessModes": ["ReadWriteMany"]}), json!({"size": "1Gi", "accessModes": ["ReadWriteOnce"]})),
        claim(MODES, json!({"size": "1Gi", "accessModes": ["ReadWriteMany"]}), json!({"size": "1Gi"})),
        claim(MODES, json!({"size": "1Gi"}), json!({"size": "1Gi", "accessModes": ["ReadWriteMany"]})),
        claim(SHRINK, json!({"size": "2Gi"}), json!({"size": "1Gi"})),
        claim(SHRINK, json!({"size": "1Gi"}), json!({"size": "1G"})),
        new(ONE_KIND, json!({"storage": {"s3": {"bucket": "images"}, "persistentVolumeClaim": {"size": "1Gi"}}})),
        new(ONE_KIND, json!({"storage": {"s3": {"bucket": "images"}, "emptyDir": {}, "persistentVolumeClaim": {"size": "1Gi"}}})),
        storage(KIND, json!({"s3": {"bucket": "images"}}), json!({"persistentVolumeClaim": {"size": "1Gi"}})),
        storage(KIND, json!({"s3": {"bucket": "images"}}), json!({"emptyDir": {}})),
        storage(KIND, json!({"emptyDir": {}}), json!({"s3": {"bucket": "images"}})),
        bucket(BUCKET, json!({"bucket": "Images"})),
        bucket(BUCKET, json!({"bucket": "team_a"})),
        bucket(BUCKET, json!({"bucket": "-images"})),
        bucket(BUCKET, json!({"bucket": "images-"})),
        bucket(BUCKET, json!({"bucket": "team..images", "forcePathStyle": true})),
        bucket(BUCKET, json!({"bucket": "10.0.0.1", "forcePathStyle": true})),
        bucket(DIRECTORY_BUCKET, json!({"bucket": "images--use1-az4--x-s3"})),
        storage(OTHER_BUCKET, json!({"s3": {"bucket": "images"}}), json!({"s3": {"bucket": "others"}})),
        bucket(PREFIX, json!({"prefix": "/team-a"})),
        bucket(PREFIX, json!({"prefix": "team-a/"})),
        bucket(PREFIX, json!({"prefix": "team//a"})),
        bucket(PREFIX, json!({"prefix": "team a"})),
        bucket(PREFIX, json!({"prefix": "team/../a"})),
        storage(OTHER_PREFIX, json!({"s3": {"bucket": "images", "prefix": "a"}}), json!({"s3": {"bucket": "images", "prefix": "b"}})),
        storage(OTHER_PREFIX, json!({"s3": {"bucket": "images", "prefix": "a"}}), json!({"s3": {"bucket": "images"}})),
        storage(OTHER_PREFIX, json!({"s3": {"bucket": "images"}}), json!({"s3": {"bucket": "images", "prefix": "b"}})),
        bucket(ENDPOINT, json!({"endpoint": "minio.example:9000"})),
        bucket(ENDPOINT, json!({"endpoint": "ftp://minio.example"})),
        bucket(ENDPOINT, json!({"endpoint": "https://minio.example/"})),
        bucket(ENDPOINT, json!({"endpoint": "https://minio.example/images"})),
        bucket(ENDPOINT, json!({"endpoint": "https://key:secret@minio.example"})),
        bucket(ENDPOINT, json!({"endpoint": "https://minio.example?x=y"})),
        bucket(DOTS, json!({"bucket": "images.team-a"})),
        bucket(DOTS, json!({"bucket": "images.team-a", "endpoint": "https://s3.example", "forcePathStyle": false})),
        bucket(ADDRESS, json!({"endpoint": "http://10.0.0.1:9000", "forcePathStyle": false})),
        bucket(ADDRESS, json!({"endpoint": "https://[fd00::1]", "forcePathStyle": false})),
        bucket(ENCRYPTION, json!({"serverSideEncryption": {}})),
        bucket(ENCRYPTION, json!({"serverSideEncryption": {"aes256": {}, "kms": {"keyID": "alias/images"}}})),
        bucket(COLD, json!({"storageClass": "DEEP_ARCHIVE"})),
        bucket(COLD, json!({"storageClass": "GLACIER"})),
        bucket(COLD, json!({"storageClass": "standard"})),
        bucket(CA_BUNDLE, json!({"endpoint": "https://s3.example", "caBundle": {}})),
        bucket(CA_BUNDLE, json!({"endpoint": "https://s3.example", "caBundle": {"configMapKeyRef": {"name": "a"}, "secretKeyRef": {"name": "b"}}})),
        bucket(CA_WITHOUT_TLS, json!({"endpoint": "http://s3.example", "caBundle": {"configMapKeyRef": {"name": "a"}}})),
        bucket(CA_WITHOUT_TLS, json!({"caBundle": {"configMapKeyRef": {"name": "a"}}})),
        beside_storage(ACCOUNT_ANNOTATIONS, json!({"podTemplate": {"serviceAccountAnnotations": {"berth.dev/x": "y"}}})),
        beside_storage(ACCOUNT_ANNOTATIONS, json!({"podTemplate": {"serviceAccountAnnotations": {"kubernetes.io/enforce-mountable-secrets": "true"}}})),
        beside_storage(AUTHORITY, json!({"tls": {"privateCA": {"authorityDuration": "23h"}}})),
        beside_storage(AUTHORITY, json!({"tls": {"privateCA": {"authorityDuration": "175201h"}}})),
        beside_storage(CERTIFICATE, json!({"tls": {"privateCA": {"certificateDuration": "59m"}}})),
        beside_storage(CERTIFICATE, json!({"tls": {"privateCA": {"certificateDuration": "17521h"}}})),
        beside_storage(RENEW, json!({"tls": {"privateCA": {"renewBefore": "2160h"}}})),
        beside_storage(RENEW, json!({"tls": {"privateCA": {"certificateDuration": "2h", "renewBefore": "2h"}}})),
    ]
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
