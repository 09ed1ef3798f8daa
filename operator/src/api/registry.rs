//! `Registry`: one managed OCI registry.

mod access;
mod azure;
mod garbage_collection;
mod gcs;
mod pod_template;
mod s3;
mod service;
mod status;
mod storage;
mod tls;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use access::{Access, Htpasswd, NodeAccess, Nodes, SecretKeyRef};
pub use azure::{AccountKeySecretRef, Azure, STORAGE_KEY, USES_WORKLOAD_IDENTITY, WORKLOAD_IDENTITY};
pub use garbage_collection::{GarbageCollection, Untagged};
pub use gcs::{Gcs, SERVICE_ACCOUNT_KEY, ServiceAccountKeySecretRef};
pub use pod_template::{PodTemplate, Resources};
pub use s3::{
    ACCESS_KEY_ID, AccessKeySecretRef, Aes256, CA_CERTIFICATE, CaBundle, CaKeyRef, Kms, Redirect, S3,
    SECRET_ACCESS_KEY, ServerSideEncryption,
};
pub use service::{Service, ServiceType};
pub use status::{
    AdminSecret, CertificateStatus, GarbageCollectionStatus, NodeExample, NodesStatus, RegistryStatus, Retained,
    StorageStatus, StorageType,
};
pub use storage::{AccessMode, EmptyDir, PersistentVolumeClaim, Storage};
pub use tls::{PrivateCa, SecretRef, Tls};

/// A managed OCI registry.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "berth.dev",
    version = "v1alpha1",
    kind = "Registry",
    plural = "registries",
    shortname = "reg",
    category = "berth",
    namespaced,
    status = "RegistryStatus",
    derive = "PartialEq",
    doc = "An OCI registry: TLS-protected, authenticated, and one that the cluster's nodes pull from. \
           The shortest one names a size: `spec: {storage: {persistentVolumeClaim: {size: 10Gi}}}`.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether it serves"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        priority = 1,
        description = "Why, or why not"
    ),
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = ".status.version",
        description = "The version that serves"
    ),
    printcolumn(
        name = "URL",
        type_ = "string",
        json_path = ".status.url",
        description = "Where clients and image names find it"
    ),
    printcolumn(
        name = "Storage",
        type_ = "string",
        json_path = ".status.storage.type",
        description = "Where its bytes are"
    ),
    printcolumn(
        name = "Nodes",
        type_ = "integer",
        json_path = ".status.nodes.trusted",
        priority = 1,
        description = "Nodes whose pods can pull from it"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name: write at most 40 lower-case letters, digits and '-', beginning with a letter and not ending with '-': the Service has this name"),
    validation = Rule::new(
        "!has(self.spec.replicas) || self.spec.replicas <= 1 || has(self.spec.storage.s3) || \
         has(self.spec.storage.azure) || has(self.spec.storage.gcs) || \
         (has(self.spec.storage.persistentVolumeClaim) && \
         (has(self.spec.storage.persistentVolumeClaim.existingClaim) || \
         (has(self.spec.storage.persistentVolumeClaim.accessModes) && \
         'ReadWriteMany' in self.spec.storage.persistentVolumeClaim.accessModes)))")
        .message("spec.replicas: more than one needs a bucket, or a volume that several nodes may mount; write spec.storage.s3, azure or gcs, or spec.storage.persistentVolumeClaim.accessModes: [ReadWriteMany], in a new Registry, or replicas: 1")
)]
#[serde(rename_all = "camelCase")]
pub struct RegistrySpec {
    /// Where the bytes are kept. Exactly one kind of storage is set, and it cannot be changed for another.
    pub storage: Storage,

    /// How many pods serve. More than one needs a bucket, or a volume that several nodes may mount. `0` stops serving and keeps
    /// everything. Default: `1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 32))]
    pub replicas: Option<i32>,

    /// Leave every object of this Registry as it is, rotate nothing, and only keep the status up to date. Default: `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,

    /// What happens to the images, the certificate authority and the passwords when this Registry is deleted. `Retain`
    /// keeps them for a Registry of the same name in the same namespace; `Delete` deletes them, but never a bucket or what is
    /// in it. Default: `Retain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,

    /// Refuse every change to the content; pulls go on. Default: `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,

    /// When what nothing refers to any more is removed. Default: every day, what is a day old and nothing refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub garbage_collection: Option<GarbageCollection>,

    /// The image that serves. Default: the one the operator was released with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,

    /// Certificates beyond the ones that need no word: a private authority and a serving certificate always exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,

    /// How the Service is made. Default: a ClusterIP on port 443.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,

    /// Who may come in. Default: a generated user `admin` who may do everything, and nodes, which may pull.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,

    /// What nodes know this Registry by. Default: the names of its Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Nodes>,

    /// What the pods may be given. Default: small requests, a memory limit, and a preference for different nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,

    /// The least severe events that are logged. Default: `info`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,

    /// How long requests in progress may go on after a pod was told to stop, such as `60s` or `5m`. Default: `60s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = DURATION))]
    #[x_kube(validation = Rule::new("duration(self) <= duration('1h')").message("drainTimeout: write at most 1h"))]
    pub drain_timeout: Option<String>,
}

/// The form of an object's name: a DNS subdomain (RFC 1123).
const OBJECT_NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// The form of a key in a Secret or ConfigMap.
const DATA_KEY: &str = "^[-._a-zA-Z0-9]+$";

/// The form of a length of time: whole numbers with units, as Go and Kubernetes write it.
const DURATION: &str = "^([0-9]{1,9}(h|m|s|ms))+$";

/// What happens to the images, the certificate authority and the passwords when this Registry is deleted. `Retain` keeps
/// them for a Registry of the same name in the same namespace; `Delete` deletes them, but never a bucket or what is in it.
/// Default: `Retain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// It stays, labelled `berth.dev/retained-for`, for a Registry of the same name in the same namespace.
    #[default]
    Retain,
    /// It is deleted.
    Delete,
}

/// The image that serves.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!(has(self.tag) && has(self.digest))").message("image: write tag or digest, not both"))]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// The repository, without tag and digest. Default: the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255), regex(pattern = "^[a-z0-9][a-z0-9._:/-]*$"))]
    pub repository: Option<String>,
    /// The tag. Default: the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), regex(pattern = "^[a-zA-Z0-9_][a-zA-Z0-9._-]*$"))]
    pub tag: Option<String>,
    /// The digest, instead of a tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 135), regex(pattern = "^(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$"))]
    pub digest: Option<String>,
    /// When the kubelet pulls it. Default: `IfNotPresent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,
    /// Secrets of this namespace to pull it with. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub pull_secrets: Vec<SecretRef>,
}

/// When the kubelet pulls the image. Default: `IfNotPresent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// Before every start.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// Not at all.
    Never,
}

/// The least severe events that are logged. Default: `info`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what needs a human.
    Error,
    /// And what may soon.
    Warn,
    /// And one line for each request.
    #[default]
    Info,
    /// And why each answer was given.
    Debug,
    /// Everything.
    Trace,
}
