//! `status`: what the operator observes. Nothing in it ticks; at rest it does not change.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator observes of a Registry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryStatus {
    /// The `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where clients inside the cluster reach it; image names begin with what follows `https://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The private authority's certificates, as PEM: what clients must trust. Two while the authority rotates. The same
    /// stands in the ConfigMap `<name>-ca` under `ca.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// The Secret with the generated user's name and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_secret: Option<AdminSecret>,
    /// Conditions. `Ready` tells whether it serves; `Reconciling` and `Stalled` are there only while they are true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
    /// How many pods there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// How many pods serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// The version that serves, as the pods report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Where the bytes are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageStatus>,
    /// The certificates in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateStatus>,
    /// What came of the last garbage collection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub garbage_collection: Option<GarbageCollectionStatus>,
    /// What nodes make of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodesStatus>,
    /// What would stay if this Registry were deleted now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub retained: Vec<Retained>,
}

/// The Secret with the generated user's name and password.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdminSecret {
    /// Its name, in the Registry's namespace. Its keys are `username` and `password`.
    pub name: String,
    /// The last value of the annotation `berth.dev/rotate-password` that was fulfilled: the password in the Secret
    /// is a new one, and pods accept no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled_rotation: Option<String>,
}

/// Where the bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageStatus {
    /// Which kind of storage is set.
    #[serde(rename = "type")]
    pub type_: StorageType,
    /// The claim in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_name: Option<String>,
    /// How large the volume is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<String>,
    /// The bucket in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// The storage account of the container in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_name: Option<String>,
    /// The container in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// What the names of its objects begin with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Whether the bucket was seen to keep the condition of an overwrite (`If-Match`) when the pods that serve started. Where
    /// it is `false`, a tag that is written in the moment in which the image is deleted that it named before may be lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditional_overwrite: Option<bool>,
}

/// A kind of storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StorageType {
    /// `spec.storage.persistentVolumeClaim`
    PersistentVolumeClaim,
    /// `spec.storage.s3`
    S3,
    /// `spec.storage.azure`
    Azure,
    /// `spec.storage.gcs`
    #[serde(rename = "GCS")]
    Gcs,
    /// `spec.storage.emptyDir`
    EmptyDir,
}

/// The certificates in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// When the newest private authority ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_not_after: Option<Time>,
    /// When the serving certificate ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
    /// The last value of the annotation `berth.dev/rotate-certificates` that was acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled_certificate_rotation: Option<String>,
    /// The last value of the annotation `berth.dev/rotate-authority` that was acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled_authority_rotation: Option<String>,
}

/// What came of the last garbage collection that ended. While one is under way, the pods' metrics and logs tell of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GarbageCollectionStatus {
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// Whether it only looked: the numbers say what would have gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Manifests that went.
    pub manifests: i64,
    /// Blobs that went.
    pub blobs: i64,
    /// The bytes of both.
    pub bytes: i64,
    /// Up to ten repositories of which nothing went, because they hold a damaged manifest and nobody knows what it names;
    /// `berth-registry check` names it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub left_alone: Vec<String>,
    /// Why it ended early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What nodes make of the Registry. It never feeds `Ready`, and changes at most every 30 seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodesStatus {
    /// The nodes that should be able to pull from it: those that run Linux.
    pub desired: i32,
    /// The nodes whose pods can.
    pub trusted: i32,
    /// The nodes whose pods cannot, and where waiting will not help.
    pub unsupported: i32,
    /// The nodes of which it is not known, or not yet.
    pub unknown: i32,
    /// Up to ten nodes that are not trusted, with reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub examples: Vec<NodeExample>,
    /// The last value of the annotation `berth.dev/rotate-node-credential` that was fulfilled: the old credential is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled_credential_rotation: Option<String>,
}

/// A node that is not trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeExample {
    /// Its name.
    pub node: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, in one sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// An object that would stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retained {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What it would survive.
    pub survives: String,
}
