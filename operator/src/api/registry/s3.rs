//! `spec.storage.s3`: a bucket of Amazon S3, or of anything else that speaks its API.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DATA_KEY, OBJECT_NAME};

/// The key that a Secret holds an access key under, as Amazon's tools, Rook and NooBaa call it.
pub const ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
/// The key that a Secret holds the secret of an access key under.
pub const SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";
/// The key that authorities' certificates are under.
pub const CA_CERTIFICATE: &str = "ca.crt";

/// A bucket. It must exist; Berth neither makes nor deletes it, nor what is in it when the Registry goes.
///
/// Bucket and prefix say which images these are, and cannot change ([`Storage`](super::Storage)'s rules). The endpoint says how
/// they are reached, and may: names move and TLS comes, and pods that do not find the bucket there replace none that serve.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "!self.bucket.contains('.') || (has(self.forcePathStyle) ? self.forcePathStyle : has(self.endpoint))")
        .message("storage.s3.forcePathStyle: write true for a bucket whose name has dots, because no certificate is for such a host name"),
    validation = Rule::new(
        "!has(self.endpoint) || !has(self.forcePathStyle) || self.forcePathStyle || !isURL(self.endpoint) || \
         !self.endpoint.matches('^https?://([[]|[0-9.]+(:[0-9]+)?$)')")
        .message("storage.s3.forcePathStyle: write true, or leave it out, beside an endpoint that is an address: no bucket's name can stand before it"),
    validation = Rule::new("!has(self.caBundle) || (has(self.endpoint) && self.endpoint.startsWith('https://'))")
        .message("storage.s3.caBundle: write an endpoint that begins with https:// beside it, or leave it out")
)]
pub struct S3 {
    /// The bucket's name. It must exist, and cannot change. Directory buckets (S3 Express) are not ordered and cannot be used.
    #[schemars(length(min = 3, max = 63))]
    #[x_kube(
        validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$') && !self.matches('^[0-9]+([.][0-9]+){3}$')")
            .message("storage.s3.bucket: write 3 to 63 lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit, and no IP address"),
        validation = Rule::new("!self.endsWith('--x-s3')")
            .message("storage.s3.bucket: write a general purpose bucket; one whose name ends with --x-s3 is a directory bucket, which keeps no order")
    )]
    pub bucket: String,
    /// Its region, such as `eu-central-1`. Default: the one that the platform tells the pods (`AWS_REGION`), else `us-east-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[a-zA-Z0-9][-a-zA-Z0-9]*$"))]
    pub region: Option<String>,
    /// Where the API is, if not at Amazon, such as `https://minio.example:9000`: a URL without a path. It is an address and may
    /// change, as long as the same bucket is behind it. Default: Amazon's, in the region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new(
            "isURL(self) && self.matches('^https?://([a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?|[[][0-9a-fA-F:.]+[]])(:[0-9]{1,5})?$')")
        .message("storage.s3.endpoint: write http:// or https://, a host and perhaps a port, and nothing behind them, such as https://minio.example:9000"))]
    pub endpoint: Option<String>,
    /// Whether the bucket stands in the path and not in the host name. Default: `true` beside `endpoint`, as MinIO, Ceph and
    /// others want it, else `false`, as Amazon does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_path_style: Option<bool>,
    /// What the names of all objects begin with, without slashes at its ends, such as `registries/team-a`. It cannot change.
    /// Registries that share bucket and prefix share their images, and must have the same `garbageCollection.grace`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new(
            "self.matches('^[-a-zA-Z0-9_.]+(/[-a-zA-Z0-9_.]+)*$') && !self.split('/').exists(part, part == '.' || part == '..')")
        .message("storage.s3.prefix: write letters, digits, '-', '_', '.' and single slashes between them, such as registries/team-a; no part may be '.' or '..'"))]
    pub prefix: Option<String>,
    /// The Secret with an access key. The pods get it, and the operator never reads it; a key that is replaced takes effect when
    /// a pod starts. Default: what the platform gives to the pods' ServiceAccount, which has the Registry's name (EKS Pod
    /// Identity, or IRSA with `podTemplate.serviceAccountAnnotations`), or to their node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<AccessKeySecretRef>,
    /// How objects are encrypted at rest. Default: as the bucket has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_side_encryption: Option<ServerSideEncryption>,
    /// The storage class of blobs, such as `INTELLIGENT_TIERING`. With one, an upload in chunks passes through the pods twice: a
    /// copy on the server would lose it. Default: the bucket's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Z0-9_]+$') && !(self in ['GLACIER', 'DEEP_ARCHIVE'])")
        .message("storage.s3.storageClass: write a class in capitals whose objects can be read at once, such as STANDARD_IA or GLACIER_IR; those of GLACIER and DEEP_ARCHIVE cannot"))]
    pub storage_class: Option<String>,
    /// Authorities that the endpoint's certificate may be from, besides those of the system. It is read when a pod starts.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<CaBundle>,
    /// Whether who pulls a blob of 1 MiB or more is sent to the bucket for its bytes, by an address that is good for 20 minutes
    /// and for that blob. Nodes and clients must reach the bucket then, and trust its certificate. Default: `Always` for
    /// Amazon, which is S3 without `endpoint`, because everybody reaches it, else `Never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// Networks (CIDR) whose clients get every byte from the pods all the same, because they do not reach the bucket: those of Pods
    /// that build and push, say. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(max = 43)))]
    #[x_kube(validation = Rule::new("self.all(network, isCIDR(network))")
        .message("storage.s3.redirectExcept: write networks as ADDRESS/LENGTH, such as 10.244.0.0/16"))]
    pub redirect_except: Option<Vec<String>>,
}

/// Whether who pulls a blob of 1 MiB or more is sent to the bucket for its bytes, by an address that is good for 20 minutes and
/// for that blob. Nodes and clients must reach the bucket then, and trust its certificate. Default: `Always` for Amazon, which
/// is S3 without `endpoint`, because everybody reaches it, else `Never`.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Redirect {
    /// For each large blob.
    Always,
    /// All bytes pass through the pods.
    Never,
}

/// A Secret of the same namespace with an access key.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessKeySecretRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
    /// The name of the key in the Secret that holds the access key's id. Default: `AWS_ACCESS_KEY_ID`.
    #[serde(default, rename = "accessKeyIDKey", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = DATA_KEY))]
    pub access_key_id_key: Option<String>,
    /// The name of the key in the Secret that holds its secret. Default: `AWS_SECRET_ACCESS_KEY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = DATA_KEY))]
    pub secret_access_key_key: Option<String>,
}

/// How objects are encrypted at rest: exactly one of its fields. What was written before a change stays as it is.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.aes256) != has(self.kms)")
    .message("storage.s3.serverSideEncryption: write exactly one of aes256 and kms"))]
pub struct ServerSideEncryption {
    /// With keys that the store keeps (SSE-S3, AES-256).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aes256: Option<Aes256>,
    /// With a key of a key management service (SSE-KMS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms: Option<Kms>,
}

/// Encryption with keys that the store keeps. It has no fields.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aes256 {}

/// Encryption with a key of a key management service.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kms {
    /// The key: its id, its ARN, or an alias. The credentials need `kms:GenerateDataKey` and `kms:Decrypt` for it.
    #[serde(rename = "keyID")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^[-a-zA-Z0-9:/_]+$"))]
    pub key_id: String,
}

/// Where authorities' certificates are, as PEM: exactly one of its fields.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.configMapKeyRef) != has(self.secretKeyRef)")
    .message("storage.s3.caBundle: write exactly one of configMapKeyRef and secretKeyRef"))]
pub struct CaBundle {
    /// In a ConfigMap of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<CaKeyRef>,
    /// In a Secret of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<CaKeyRef>,
}

/// One key of a ConfigMap or Secret of the same namespace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaKeyRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
    /// The key in it. Default: `ca.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = DATA_KEY))]
    pub key: Option<String>,
}
