//! `spec.storage`: where the bytes are kept.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Azure, Gcs, OBJECT_NAME, S3};

/// A size, as Kubernetes writes it.
const QUANTITY: &str = "^[0-9]+(\\.[0-9]+)?(k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?$";

/// Where the bytes are kept: exactly one of its fields.
///
/// The rules stand here and not on the fields, because this parent is always present: unsetting a field and setting it again
/// must not evade them.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.persistentVolumeClaim), has(self.s3), has(self.azure), has(self.gcs), has(self.emptyDir)].filter(is, is).size() == 1")
        .message("storage: write exactly one of persistentVolumeClaim, s3, azure, gcs and emptyDir"),
    validation = Rule::new(
        "has(self.persistentVolumeClaim) == has(oldSelf.persistentVolumeClaim) && has(self.s3) == has(oldSelf.s3) && \
         has(self.azure) == has(oldSelf.azure) && has(self.gcs) == has(oldSelf.gcs)")
        .message("storage: one kind cannot become another; create a second Registry with the storage you want, copy the images to it, then delete this one"),
    validation = Rule::new(
        "!has(self.persistentVolumeClaim) || !has(oldSelf.persistentVolumeClaim) || \
         (has(self.persistentVolumeClaim.existingClaim) == has(oldSelf.persistentVolumeClaim.existingClaim) && \
         (!has(self.persistentVolumeClaim.existingClaim) || \
         self.persistentVolumeClaim.existingClaim == oldSelf.persistentVolumeClaim.existingClaim))")
        .message("storage.persistentVolumeClaim.existingClaim cannot change; create a second Registry on the other claim, then delete this one"),
    validation = Rule::new(
        "!has(self.persistentVolumeClaim) || !has(oldSelf.persistentVolumeClaim) || \
         (has(self.persistentVolumeClaim.storageClassName) == has(oldSelf.persistentVolumeClaim.storageClassName) && \
         (!has(self.persistentVolumeClaim.storageClassName) || \
         self.persistentVolumeClaim.storageClassName == oldSelf.persistentVolumeClaim.storageClassName))")
        .message("storage.persistentVolumeClaim.storageClassName cannot change, as a volume's class cannot; create a second Registry with the class you want, copy the images, then delete this one"),
    validation = Rule::new(
        "!has(self.persistentVolumeClaim) || !has(oldSelf.persistentVolumeClaim) || \
         (has(self.persistentVolumeClaim.accessModes) == has(oldSelf.persistentVolumeClaim.accessModes) && \
         (!has(self.persistentVolumeClaim.accessModes) || \
         self.persistentVolumeClaim.accessModes == oldSelf.persistentVolumeClaim.accessModes))")
        .message("storage.persistentVolumeClaim.accessModes cannot change, as a volume's cannot; create a second Registry with the modes you want, copy the images, then delete this one"),
    validation = Rule::new(
        "!has(self.persistentVolumeClaim) || !has(oldSelf.persistentVolumeClaim) || \
         !has(self.persistentVolumeClaim.size) || !has(oldSelf.persistentVolumeClaim.size) || \
         quantity(self.persistentVolumeClaim.size).compareTo(quantity(oldSelf.persistentVolumeClaim.size)) >= 0")
        .message("storage.persistentVolumeClaim.size may grow but not shrink, as a volume cannot; write the old size or a larger one"),
    validation = Rule::new("!has(self.s3) || !has(oldSelf.s3) || self.s3.bucket == oldSelf.s3.bucket")
        .message("storage.s3.bucket cannot change, as the images would not come along; delete this Registry, which leaves the bucket and its images alone, and create it with the other bucket"),
    validation = Rule::new(
        "!has(self.s3) || !has(oldSelf.s3) || (has(self.s3.prefix) == has(oldSelf.s3.prefix) && \
         (!has(self.s3.prefix) || self.s3.prefix == oldSelf.s3.prefix))")
        .message("storage.s3.prefix cannot change, as the images would not come along; delete this Registry, which leaves the bucket and its images alone, and create it with the other prefix"),
    validation = Rule::new("!has(self.azure) || !has(oldSelf.azure) || self.azure.accountName == oldSelf.azure.accountName")
        .message("storage.azure.accountName cannot change, as the images would not come along; delete this Registry, which leaves the container and its images alone, and create it with the other accountName"),
    validation = Rule::new("!has(self.azure) || !has(oldSelf.azure) || self.azure.container == oldSelf.azure.container")
        .message("storage.azure.container cannot change, as the images would not come along; delete this Registry, which leaves the container and its images alone, and create it with the other container"),
    validation = Rule::new(
        "!has(self.azure) || !has(oldSelf.azure) || (has(self.azure.prefix) == has(oldSelf.azure.prefix) && \
         (!has(self.azure.prefix) || self.azure.prefix == oldSelf.azure.prefix))")
        .message("storage.azure.prefix cannot change, as the images would not come along; delete this Registry, which leaves the container and its images alone, and create it with the other prefix"),
    validation = Rule::new("!has(self.gcs) || !has(oldSelf.gcs) || self.gcs.bucket == oldSelf.gcs.bucket")
        .message("storage.gcs.bucket cannot change, as the images would not come along; delete this Registry, which leaves the bucket and its images alone, and create it with the other bucket"),
    validation = Rule::new(
        "!has(self.gcs) || !has(oldSelf.gcs) || (has(self.gcs.prefix) == has(oldSelf.gcs.prefix) && \
         (!has(self.gcs.prefix) || self.gcs.prefix == oldSelf.gcs.prefix))")
        .message("storage.gcs.prefix cannot change, as the images would not come along; delete this Registry, which leaves the bucket and its images alone, and create it with the other prefix")
)]
pub struct Storage {
    /// A volume. One that is `ReadWriteOnce`, which is the default, is served by one pod, and replacing that pod interrupts
    /// service for some seconds; one that is `ReadWriteMany` may be served by several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<PersistentVolumeClaim>,
    /// A bucket of Amazon S3, or of anything else that speaks its API. Any number of pods may serve it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3>,
    /// A container of Azure Blob Storage. Any number of pods may serve it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<Azure>,
    /// A bucket of Google Cloud Storage. Any number of pods may serve it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcs: Option<Gcs>,
    /// A directory that lives and dies with the pod: for trying things out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDir>,
}

/// A volume: a new one of some size, or one that exists.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.size) != has(self.existingClaim)")
        .message("storage.persistentVolumeClaim: write size to get a new volume, or existingClaim to use one you have; one of the two, not both"),
    validation = Rule::new("!has(self.existingClaim) || (!has(self.storageClassName) && !has(self.accessModes))")
        .message("storage.persistentVolumeClaim: storageClassName and accessModes are the existing claim's own; leave them out beside existingClaim")
)]
pub struct PersistentVolumeClaim {
    /// How large the new volume is, such as `10Gi`. It may grow later, where its class allows that, and never shrink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(
            "self.matches('^[0-9]+([.][0-9]+)?(k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?$') && isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))")
        .message("storage.persistentVolumeClaim.size: write a number above zero with Ki, Mi, Gi or Ti, such as 10Gi"))]
    pub size: Option<String>,
    /// The StorageClass of the new volume. Default: the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub storage_class_name: Option<String>,
    /// How the new volume may be mounted. Default: `[ReadWriteOnce]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 4))]
    pub access_modes: Vec<AccessMode>,
    /// A claim of this namespace to use instead of a new one. It is never resized, never owned and never deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub existing_claim: Option<String>,
}

/// How a volume may be mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AccessMode {
    /// By the pods of one node.
    ReadWriteOnce,
    /// By one pod.
    ReadWriteOncePod,
    /// By pods of several nodes.
    ReadWriteMany,
}

impl AccessMode {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadWriteOnce => "ReadWriteOnce",
            Self::ReadWriteOncePod => "ReadWriteOncePod",
            Self::ReadWriteMany => "ReadWriteMany",
        }
    }
}

/// A directory that lives and dies with the pod.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EmptyDir {
    /// How much it may hold, such as `1Gi`; a pod that exceeds it is evicted. Default: what the node has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = QUANTITY))]
    pub size_limit: Option<String>,
}
