//! `spec.storage.azure`: a container of Azure Blob Storage.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{DATA_KEY, OBJECT_NAME, Redirect};

/// The key that a Secret holds the account's key under, as Microsoft's own tools call it.
pub const STORAGE_KEY: &str = "AZURE_STORAGE_KEY";
/// The annotation of a ServiceAccount that names the identity which Azure gives to its pods.
pub const WORKLOAD_IDENTITY: &str = "azure.workload.identity/client-id";
/// The label by which a pod asks for it.
pub const USES_WORKLOAD_IDENTITY: &str = "azure.workload.identity/use";

/// A container. It must exist; Berth neither makes nor deletes it, nor what is in it when the Registry goes.
///
/// Account, container and prefix say which images these are, and cannot change ([`Storage`](super::Storage)'s rules). The endpoint
/// says how they are reached, and may.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Azure {
    /// The storage account's name. It cannot change. One with a hierarchical namespace (Data Lake) lists names in another order
    /// and cannot be used.
    #[schemars(length(min = 3, max = 24))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]+$')")
        .message("storage.azure.accountName: write the storage account's name, 3 to 24 lower-case letters and digits"))]
    pub account_name: String,
    /// The container's name. It must exist, and cannot change.
    #[schemars(length(min = 3, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9](-?[a-z0-9])*$')")
        .message("storage.azure.container: write 3 to 63 lower-case letters, digits and single '-' between them"))]
    pub container: String,
    /// Where the service is, if not at `https://ACCOUNT.blob.core.windows.net`, such as
    /// `https://images.blob.core.usgovcloudapi.net`. It is an address and may change, as long as the same container is behind it.
    /// Its certificate must be from an authority that systems know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new(
            "isURL(self) && self.matches('^https?://([a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?|[[][0-9a-fA-F:.]+[]])(:[0-9]{1,5})?(/[a-z0-9]{3,24})?$')")
        .message("storage.azure.endpoint: write http:// or https://, a host, perhaps a port and, for an emulator, the account behind a slash, such as https://images.blob.core.usgovcloudapi.net"))]
    pub endpoint: Option<String>,
    /// What the names of all blobs begin with, without slashes at its ends, such as `registries/team-a`. It cannot change.
    /// Registries that share container and prefix share their images, and must have the same `garbageCollection.grace`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new(
            "self.matches('^[-a-zA-Z0-9_.]+(/[-a-zA-Z0-9_.]+)*$') && !self.split('/').exists(part, part.endsWith('.'))")
        .message("storage.azure.prefix: write letters, digits, '-', '_', '.' and single slashes between them, such as registries/team-a; no part may end with '.'"))]
    pub prefix: Option<String>,
    /// The Secret with a key of the account. The pods get it, and the operator never reads it; a key that is replaced takes effect
    /// when a pod starts. Default: what the platform gives: a workload identity, with the annotation
    /// `azure.workload.identity/client-id` in `podTemplate.serviceAccountAnnotations` (the pods' label comes by itself), or the
    /// managed identity of their node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<AccountKeySecretRef>,
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
        .message("storage.azure.redirectExcept: write networks as ADDRESS/LENGTH, such as 10.244.0.0/16"))]
    pub redirect_except: Option<Vec<String>>,
}

/// A Secret of the same namespace with a key of the account.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountKeySecretRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
    /// The name of the key in the Secret that holds the account's key. Default: `AZURE_STORAGE_KEY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = DATA_KEY))]
    pub account_key_key: Option<String>,
}
