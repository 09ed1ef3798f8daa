//! What the operator and the node agent say to each other, through objects in the agent's namespace.
//!
//! | object | name | key | written by | read by |
//! |---|---|---|---|---|
//! | ConfigMap | `registry-<uid of the Registry>` | `entry.json`: [`NodeEntry`] | operator | agents |
//! | Secret | `registry-<uid of the Registry>` | `authorization`: a whole `Basic …` header value | operator | agents |
//! | ConfigMap | `report-<node>` | `report.json`: [`NodeReport`] | that node's agent | operator |
//! | ConfigMap | `host-grants` | `grants.yaml`: [`HostGrants`] | the administrator, through the chart | both |
//!
//! Entries carry [`NODE_ENTRY_LABEL`], reports [`NODE_REPORT_LABEL`]. A Registry whose nodes may not pull has an entry (they
//! still trust it) and no Secret. This room holds the words and the two rules that both sides must apply alike: which hosts
//! are a Registry's own ([`own_hosts`]) and which are granted ([`HostGrants::permit`]). It reads and writes nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// On the ConfigMap and the Secret of every Registry in the agent's namespace, with the value `true`.
pub const NODE_ENTRY_LABEL: &str = "berth.dev/node-entry";
/// On every node's report, with the value `true`.
pub const NODE_REPORT_LABEL: &str = "berth.dev/node-report";
/// The key of a [`NodeEntry`] in its ConfigMap.
pub const ENTRY_KEY: &str = "entry.json";
/// The key of the `Authorization` header's value in an entry's Secret.
pub const AUTHORIZATION_KEY: &str = "authorization";
/// The key of a [`NodeReport`] in its ConfigMap.
pub const REPORT_KEY: &str = "report.json";
/// The ConfigMap of the [`HostGrants`].
pub const HOST_GRANTS_NAME: &str = "host-grants";
/// The key of the [`HostGrants`] in their ConfigMap.
pub const HOST_GRANTS_KEY: &str = "grants.yaml";

/// The name of the ConfigMap and of the Secret that tell nodes about the Registry with this uid.
pub fn entry_name(registry_uid: &str) -> String {
    format!("registry-{registry_uid}")
}

/// The name of the ConfigMap in which this node's agent reports.
pub fn report_name(node: &str) -> String {
    format!("report-{node}")
}

/// One Registry, as nodes need to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeEntry {
    /// Whose entry this is.
    pub registry: RegistryName,
    /// The hosts that image names begin with, without a port: the Registry's [own](own_hosts) and those granted to it.
    pub hosts: Vec<String>,
    /// The addresses of the Registry's Service, in the cluster's order of preference.
    pub addresses: Vec<String>,
    /// The port of the Registry's Service.
    pub port: u16,
    /// The certificate authorities to trust for it, as PEM; two while the authority rotates.
    pub ca_bundle: String,
}

/// Which Registry is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid: a Registry that was deleted and made again is another one.
    pub uid: String,
}

/// What one node's agent found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeReport {
    /// The node's name.
    pub node: String,
    /// The container runtime as the node names it, such as `containerd://2.2.1`.
    pub runtime: String,
    /// The directories that the runtime reads `hosts.toml` from; empty when it reads none.
    pub config_path: Vec<String>,
    /// What it found of each Registry, by uid.
    pub registries: BTreeMap<String, RegistryReport>,
}

/// What one node's agent found of one Registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryReport {
    /// Whether pods of this node can pull from it.
    pub state: TrustState,
    /// Why, in one CamelCase word that tests and alerts may rely on.
    pub reason: String,
    /// Why, in one sentence.
    #[serde(default)]
    pub message: String,
    /// SHA-256, in lower-case hexadecimal, of the [`NodeEntry::ca_bundle`] in use on the node; absent when none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle_sha256: Option<String>,
    /// SHA-256, in lower-case hexadecimal, of the authorization value in use on the node; absent when none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_sha256: Option<String>,
}

/// Whether a node's pods can pull from a Registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TrustState {
    /// They can: the runtime reads what the agent wrote, and a TLS handshake from the host's network succeeded.
    Trusted,
    /// They cannot, and waiting will not help.
    Unsupported,
    /// Not known, or not yet.
    Unknown,
}

/// Which Registries may answer for which hosts beyond their [own](own_hosts).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostGrants(pub Vec<HostGrant>);

/// One host, granted to one Registry, or to every Registry of one namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostGrant {
    /// The host as image names write it, without a port.
    pub host: String,
    /// The namespace of the Registry.
    pub namespace: String,
    /// The name of the Registry. Default: every Registry of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
}

impl HostGrants {
    /// Whether this Registry may answer for `host`: the host is its own, or an administrator granted it.
    pub fn permit(&self, host: &str, registry: &RegistryName, cluster_domain: &str) -> bool {
        own_hosts(&registry.namespace, &registry.name, cluster_domain).iter().any(|own| own == host)
            || self.0.iter().any(|grant| {
                grant.host == host
                    && grant.namespace == registry.namespace
                    && grant.registry.as_ref().is_none_or(|name| *name == registry.name)
            })
    }
}

/// The hosts that belong to a Registry without being asked for: the names of its Service, the canonical one first.
pub fn own_hosts(namespace: &str, name: &str, cluster_domain: &str) -> Vec<String> {
    vec![format!("{name}.{namespace}.svc"), format!("{name}.{namespace}.svc.{cluster_domain}")]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(namespace: &str, name: &str) -> RegistryName {
        RegistryName { namespace: namespace.into(), name: name.into(), uid: "u".into() }
    }

    #[test]
    fn a_host_is_permitted_when_it_is_the_registrys_own_or_granted() {
        let grants: HostGrants = serde_yaml::from_str(
            "[{host: docker.io, namespace: infra, registry: mirror}, {host: r.corp, namespace: a}]",
        )
        .unwrap();
        for (host, namespace, name, permitted) in [
            ("images.a.svc", "a", "images", true),
            ("images.a.svc.cluster.local", "a", "images", true),
            ("images.a.svc", "b", "images", false),
            ("docker.io", "infra", "mirror", true),
            ("docker.io", "infra", "other", false),
            ("docker.io", "a", "mirror", false),
            ("r.corp", "a", "anything", true),
            ("evil.r.corp", "a", "anything", false),
        ] {
            assert_eq!(
                grants.permit(host, &registry(namespace, name), "cluster.local"),
                permitted,
                "{host} {namespace}/{name}"
            );
        }
    }

    #[test]
    fn entries_and_reports_are_camel_case() {
        let entry = NodeEntry {
            registry: registry("a", "images"),
            hosts: own_hosts("a", "images", "cluster.local"),
            addresses: vec!["10.0.0.1".into()],
            port: 443,
            ca_bundle: "PEM".into(),
        };
        let json = serde_json::to_value(&entry).unwrap();
        assert_eq!(json["caBundle"], "PEM");
        let report: NodeReport = serde_json::from_value(serde_json::json!({
            "node": "n1", "runtime": "containerd://2.2.1", "configPath": ["/etc/containerd/certs.d"],
            "registries": {"u": {"state": "Trusted", "reason": "Verified", "caBundleSha256": "00"}},
        }))
        .unwrap();
        assert_eq!(report.registries["u"].state, TrustState::Trusted);
    }
}
