//! What is refused, row by row.

use serde_json::{Value, json};

use super::merge;

/// One thing that is refused.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    /// The message of the rule.
    pub(super) message: &'static str,
    /// The name, when that is what is wrong.
    pub(super) name: Option<&'static str>,
    /// What it was before; absent when it is new.
    pub(super) before: Option<Value>,
    /// What it shall be.
    pub(super) after: Value,
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

/// A new one on a container called `images`, with this beside or instead of its names.
fn azure(message: &'static str, more: Value) -> Refusal {
    let mut container = json!({"accountName": "berth", "container": "images"});
    merge(&mut container, more);
    new(message, json!({"storage": {"azure": container}}))
}

/// A new one on a bucket of Google's called `images`, with this beside or instead of its name.
fn gcs(message: &'static str, more: Value) -> Refusal {
    let mut bucket = json!({"bucket": "images"});
    merge(&mut bucket, more);
    new(message, json!({"storage": {"gcs": bucket}}))
}

/// A change of a Service into another.
#[expect(clippy::needless_pass_by_value, reason = "the rows of the table hold the values in place")]
fn service(message: &'static str, before: Value, after: Value) -> Refusal {
    let with = |service: &Value| json!({"storage": {"emptyDir": {}}, "service": service});
    Refusal { message, name: None, before: Some(with(&before)), after: with(&after) }
}

/// Every rule, and the ways around it that must be closed: a value that is set, unset and set again is refused at the
/// unsetting, and one that was unset at the setting.
#[rustfmt::skip]
pub(super) fn refusals() -> Vec<Refusal> {
    const NAME: &str = "metadata.name: write at most 40 lower-case letters, digits and '-', beginning with a letter and not ending with '-': the Service has this name";
    const REPLICAS: &str = "spec.replicas: more than one needs a bucket, or a volume that several nodes may mount; write spec.storage.s3, azure or gcs, or spec.storage.persistentVolumeClaim.accessModes: [ReadWriteMany], in a new Registry, or replicas: 1";
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
    const ONE_KIND: &str = "storage: write exactly one of persistentVolumeClaim, s3, azure, gcs and emptyDir";
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
    const S3_EXCEPT: &str = "storage.s3.redirectExcept: write networks as ADDRESS/LENGTH, such as 10.244.0.0/16";
    const AZURE_EXCEPT: &str = "storage.azure.redirectExcept: write networks as ADDRESS/LENGTH, such as 10.244.0.0/16";
    const GCS_EXCEPT: &str = "storage.gcs.redirectExcept: write networks as ADDRESS/LENGTH, such as 10.244.0.0/16";
    const COLD: &str = "storage.s3.storageClass: write a class in capitals whose objects can be read at once, such as STANDARD_IA or GLACIER_IR; those of GLACIER and DEEP_ARCHIVE cannot";
    const CA_BUNDLE: &str = "storage.s3.caBundle: write exactly one of configMapKeyRef and secretKeyRef";
    const CA_WITHOUT_TLS: &str = "storage.s3.caBundle: write an endpoint that begins with https:// beside it, or leave it out";
    const ACCOUNT: &str = "storage.azure.accountName: write the storage account's name, 3 to 24 lower-case letters and digits";
    const CONTAINER: &str = "storage.azure.container: write 3 to 63 lower-case letters, digits and single '-' between them";
    const AZURE_ENDPOINT: &str = "storage.azure.endpoint: write http:// or https://, a host, perhaps a port and, for an emulator, the account behind a slash, such as https://images.blob.core.usgovcloudapi.net";
    const AZURE_PREFIX: &str = "storage.azure.prefix: write letters, digits, '-', '_', '.' and single slashes between them, such as registries/team-a; no part may end with '.'";
    const OTHER_ACCOUNT: &str = "storage.azure.accountName cannot change, as the images would not come along; delete this Registry, which leaves the container and its images alone, and create it with the other accountName";
    const OTHER_CONTAINER: &str = "storage.azure.container cannot change, as the images would not come along; delete this Registry, which leaves the container and its images alone, and create it with the other container";
    const OTHER_AZURE_PREFIX: &str = "storage.azure.prefix cannot change, as the images would not come along; delete this Registry, which leaves the container and its images alone, and create it with the other prefix";
    const GCS_BUCKET: &str = "storage.gcs.bucket: write lower-case letters, digits, '-', '_' and '.', beginning and ending with a letter or digit, and no IP address";
    const GCS_PREFIX: &str = "storage.gcs.prefix: write letters, digits, '-', '_', '.' and single slashes between them, such as registries/team-a; no part may be '.' or '..'";
    const OTHER_GCS_BUCKET: &str = "storage.gcs.bucket cannot change, as the images would not come along; delete this Registry, which leaves the bucket and its images alone, and create it with the other bucket";
    const OTHER_GCS_PREFIX: &str = "storage.gcs.prefix cannot change, as the images would not come along; delete this Registry, which leaves the bucket and its images alone, and create it with the other prefix";
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
        bucket(S3_EXCEPT, json!({"redirectExcept": ["10.244.0.0/16", "10.0.0.1"]})),
        azure(AZURE_EXCEPT, json!({"redirectExcept": ["pods"]})),
        gcs(GCS_EXCEPT, json!({"redirectExcept": ["10.244.0.0/33"]})),
        bucket(CA_BUNDLE, json!({"endpoint": "https://s3.example", "caBundle": {}})),
        bucket(CA_BUNDLE, json!({"endpoint": "https://s3.example", "caBundle": {"configMapKeyRef": {"name": "a"}, "secretKeyRef": {"name": "b"}}})),
        bucket(CA_WITHOUT_TLS, json!({"endpoint": "http://s3.example", "caBundle": {"configMapKeyRef": {"name": "a"}}})),
        bucket(CA_WITHOUT_TLS, json!({"caBundle": {"configMapKeyRef": {"name": "a"}}})),
        new(ONE_KIND, json!({"storage": {"azure": {"accountName": "berth", "container": "images"}, "gcs": {"bucket": "images"}}})),
        storage(KIND, json!({"azure": {"accountName": "berth", "container": "images"}}), json!({"s3": {"bucket": "images"}})),
        storage(KIND, json!({"gcs": {"bucket": "images"}}), json!({"s3": {"bucket": "images"}})),
        azure(ACCOUNT, json!({"accountName": "Berth"})),
        azure(ACCOUNT, json!({"accountName": "team-a"})),
        azure(CONTAINER, json!({"container": "Images"})),
        azure(CONTAINER, json!({"container": "team--a"})),
        azure(CONTAINER, json!({"container": "-images"})),
        azure(AZURE_ENDPOINT, json!({"endpoint": "berth.blob.core.windows.net"})),
        azure(AZURE_ENDPOINT, json!({"endpoint": "https://berth.blob.core.windows.net/"})),
        azure(AZURE_ENDPOINT, json!({"endpoint": "https://berth.blob.core.windows.net/berth/images"})),
        azure(AZURE_ENDPOINT, json!({"endpoint": "https://berth.blob.core.windows.net?sv=x"})),
        azure(AZURE_PREFIX, json!({"prefix": "/team-a"})),
        azure(AZURE_PREFIX, json!({"prefix": "team/../a"})),
        azure(AZURE_PREFIX, json!({"prefix": "team./a"})),
        storage(OTHER_ACCOUNT, json!({"azure": {"accountName": "berth", "container": "images"}}), json!({"azure": {"accountName": "other", "container": "images"}})),
        storage(OTHER_CONTAINER, json!({"azure": {"accountName": "berth", "container": "images"}}), json!({"azure": {"accountName": "berth", "container": "others"}})),
        storage(OTHER_AZURE_PREFIX, json!({"azure": {"accountName": "berth", "container": "images", "prefix": "a"}}), json!({"azure": {"accountName": "berth", "container": "images"}})),
        storage(OTHER_AZURE_PREFIX, json!({"azure": {"accountName": "berth", "container": "images"}}), json!({"azure": {"accountName": "berth", "container": "images", "prefix": "b"}})),
        gcs(GCS_BUCKET, json!({"bucket": "Images"})),
        gcs(GCS_BUCKET, json!({"bucket": "images-"})),
        gcs(GCS_BUCKET, json!({"bucket": "10.0.0.1"})),
        gcs(GCS_PREFIX, json!({"prefix": "team-a/"})),
        gcs(GCS_PREFIX, json!({"prefix": "team/./a"})),
        storage(OTHER_GCS_BUCKET, json!({"gcs": {"bucket": "images"}}), json!({"gcs": {"bucket": "others"}})),
        storage(OTHER_GCS_PREFIX, json!({"gcs": {"bucket": "images", "prefix": "a"}}), json!({"gcs": {"bucket": "images", "prefix": "b"}})),
        storage(OTHER_GCS_PREFIX, json!({"gcs": {"bucket": "images", "prefix": "a"}}), json!({"gcs": {"bucket": "images"}})),
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
