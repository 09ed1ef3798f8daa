//! `spec.access` and `spec.nodes`: who may come in, and under which names nodes know the Registry.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may come in.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// What the cluster's nodes may do. With `Pull`, every Pod of the cluster can run an image from this Registry without a
    /// pull Secret; with `None`, a Pod needs one. Default: `Pull`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeAccess>,
    /// Users of your own, who may do everything, instead of the generated `admin`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub htpasswd: Option<Htpasswd>,
}

/// What the cluster's nodes may do. With `Pull`, every Pod of the cluster can run an image from this Registry without a
/// pull Secret; with `None`, a Pod needs one. Default: `Pull`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NodeAccess {
    /// Pull, with a credential of their own that changes daily.
    #[default]
    Pull,
    /// Nothing: nodes trust the certificate, and pods bring their own credentials.
    None,
}

/// Users with passwords.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Htpasswd {
    /// The Secret that holds an htpasswd file with bcrypt hashes (`htpasswd -B`). It is read again when it changes.
    pub secret_ref: SecretKeyRef,
}

/// One key of a Secret of the same namespace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = super::OBJECT_NAME))]
    pub name: String,
    /// The key in it. Default: `htpasswd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-._a-zA-Z0-9]+$"))]
    pub key: Option<String>,
}

/// Under which names nodes know the Registry.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Nodes {
    /// Hosts, without a port, that nodes shall ask this Registry for beyond its own names, such as `images.example.com`.
    /// Each needs an administrator's grant (the chart's `hostGrants`); one that has none is left out, and the condition
    /// `HostsGranted` names it. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub hosts: Vec<String>,
}
