//! `spec.podTemplate`: what the pods may be given. A list of what is allowed, never a merge: nothing in it can weaken what
//! the pods run as.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration, TopologySpreadConstraint};
use kube::KubeSchema;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What the pods may be given.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// What the pod asks for and may use. Default: requests of 50m CPU and 64Mi memory, a limit of 512Mi memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Labels that a node must have. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "label_map")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that are tolerated. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Which nodes are preferred or required. Default: with two replicas or more, pods prefer other zones and other nodes than
    /// each other's; what is written here stands instead of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How the pods are spread. Default: over nodes, then zones, where that is possible; what is written here stands instead of that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Annotations for the pods. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "short_map")]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('berth.dev/') && !key.startsWith('container.apparmor.security.beta.kubernetes.io/'))")
        .message("podTemplate.annotations: keys that begin with berth.dev/ or container.apparmor.security.beta.kubernetes.io/ are the operator's; write another key"))]
    pub annotations: BTreeMap<String, String>,
    /// Labels for the pods. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "label_map")]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('berth.dev/') && !key.startsWith('app.kubernetes.io/') && key != 'pod-template-hash')")
        .message("podTemplate.labels: keys that begin with berth.dev/ or app.kubernetes.io/ are the operator's; write another key"))]
    pub labels: BTreeMap<String, String>,
    /// Annotations for the pods' ServiceAccount, which has the Registry's name, such as `eks.amazonaws.com/role-arn`: clouds
    /// give credentials by them. A change replaces the pods, because they are given at a pod's creation. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "short_map")]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('berth.dev/') && !key.startsWith('kubernetes.io/'))")
        .message("podTemplate.serviceAccountAnnotations: keys that begin with berth.dev/ or kubernetes.io/ are the operator's and Kubernetes's; write another key"))]
    pub service_account_annotations: BTreeMap<String, String>,
    /// The priority of the pods. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = super::OBJECT_NAME))]
    pub priority_class_name: Option<String>,
}

/// What a pod asks for and may use: `cpu`, `memory` and `ephemeral-storage`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What is set aside for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub requests: BTreeMap<String, String>,
    /// What it may use at most.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub limits: BTreeMap<String, String>,
}

/// A bounded map of bounded strings.
pub(super) fn short_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {"type": "string", "maxLength": 1024},
    })
}

/// A bounded map of label values.
fn label_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {
            "type": "string",
            "maxLength": 63,
            "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
        },
    })
}

fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 8,
        "additionalProperties": {
            "type": "string",
            "maxLength": 32,
            "pattern": "^[0-9]+(\\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$",
        },
    })
}
