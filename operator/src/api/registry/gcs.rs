//! `spec.storage.gcs`: a bucket of Google Cloud Storage.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{DATA_KEY, OBJECT_NAME, Redirect};

/// The key that a Secret holds a service account's key under, and the file that pods find it in.
pub const SERVICE_ACCOUNT_KEY: &str = "key.json";

/// A bucket. It must exist; Berth neither makes nor deletes it, nor what is in it when the Registry goes.
///
/// Bucket and prefix say which images these are, and cannot change ([`Storage`](super::Storage)'s rules).
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gcs {
    /// The bucket's name. It must exist, and cannot change.
    #[schemars(length(min = 3, max = 222))]
    #[x_kube(validation = Rule::new(
            "self.matches('^[a-z0-9]([-_a-z0-9]*[a-z0-9])?([.][a-z0-9]([-_a-z0-9]*[a-z0-9])?)*$') && !self.matches('^[0-9]+([.][0-9]+){3}$')")
        .message("storage.gcs.bucket: write lower-case letters, digits, '-', '_' and '.', beginning and ending with a letter or digit, and no IP address"))]
    pub bucket: String,
    /// What the names of all objects begin with, without slashes at its ends, such as `registries/team-a`. It cannot change.
    /// Registries that share bucket and prefix share their images, and must have the same `garbageCollection.grace`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new(
            "self.matches('^[-a-zA-Z0-9_.]+(/[-a-zA-Z0-9_.]+)*$') && !self.split('/').exists(part, part == '.' || part == '..')")
        .message("storage.gcs.prefix: write letters, digits, '-', '_', '.' and single slashes between them, such as registries/team-a; no part may be '.' or '..'"))]
    pub prefix: Option<String>,
    /// The Secret with the key of a service account. The pods get it, and the operator never reads it; a key that is replaced takes
    /// effect when a pod starts. Default: what the platform gives: on GKE the identity of the pods' ServiceAccount, which has the
    /// Registry's name, or that of the service account which the annotation `iam.gke.io/gcp-service-account` in
    /// `podTemplate.serviceAccountAnnotations` names; elsewhere that of their node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<ServiceAccountKeySecretRef>,
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
        .message("storage.gcs.redirectExcept: write networks as ADDRESS/LENGTH, such as 10.244.0.0/16"))]
    pub redirect_except: Option<Vec<String>>,
}

/// A Secret of the same namespace with the key of a service account, as Google gives it out: a file in JSON.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountKeySecretRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
    /// The key in it. Default: `key.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = DATA_KEY))]
    pub key: Option<String>,
}
