//! This node's report: what is in it (pure), and the one object that the agent writes to the API server.

use k8s_openapi::api::core::v1::{ConfigMap, Node};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};

use super::effective_config::{Lookup, Why};
use super::placement::Trouble;
use super::verification::Verification;
use super::wanted::{Known, Wanted, Wish};
use crate::fingerprint;
use crate::node_entry::{NODE_REPORT_LABEL, NodeReport, REPORT_KEY, RegistryReport, TrustState, report_name};

const FIELD_MANAGER: &str = "berth-node-agent";

/// What the agent found, as the operator reads it. `None` while a first handshake is on its way: its verdict is worth a
/// moment's wait, and saves a write.
pub(super) fn compose(
    node: &str,
    runtime: &str,
    lookup: &Lookup,
    wanted: &Wanted,
    trouble: &Trouble,
    verification: &Verification,
) -> Option<NodeReport> {
    let mut report = NodeReport { node: node.into(), runtime: runtime.into(), ..NodeReport::default() };
    if let Lookup::Directories(directories) = lookup {
        report.config_path.clone_from(directories);
    }
    for (uid, wish) in wanted {
        let found = match (lookup, wish) {
            (Lookup::Unsupported(why), _) => untrusted(TrustState::Unsupported, why),
            (Lookup::Unknown(why), _) => untrusted(TrustState::Unknown, why),
            (_, Wish::Malformed(message)) => untrusted(TrustState::Unknown, &Why::new("EntryMalformed", message)),
            (Lookup::Directories(_), Wish::Known(known)) => judge(uid, known, trouble, verification)?,
        };
        report.registries.insert(uid.clone(), found);
    }
    Some(report)
}

fn judge(uid: &str, known: &Known, trouble: &Trouble, verification: &Verification) -> Option<RegistryReport> {
    if let Some(why) = trouble.own.get(uid) {
        let ours = why.reason == "HostDirectoryNotOurs";
        return Some(untrusted(if ours { TrustState::Unsupported } else { TrustState::Unknown }, why));
    }
    let report = match verification.verdict(&known.endpoint)? {
        Err(why) => untrusted(TrustState::Unknown, why),
        // The Registry's own names work, which is what the state speaks of. Hosts that it does not get are the reason.
        Ok(()) => match trouble.granted.get(uid).or(known.refused.first()) {
            Some(why) => untrusted(TrustState::Trusted, why),
            None => untrusted(TrustState::Trusted, &Why::new("Verified", "")),
        },
    };
    Some(RegistryReport {
        ca_bundle_sha256: Some(fingerprint::of(&known.endpoint.ca_bundle)),
        credential_sha256: known.endpoint.authorization.as_ref().map(fingerprint::of),
        ..report
    })
}

fn untrusted(state: TrustState, why: &Why) -> RegistryReport {
    RegistryReport {
        state,
        reason: why.reason.into(),
        message: why.message.clone(),
        ca_bundle_sha256: None,
        credential_sha256: None,
    }
}

/// The object with the report.
pub(super) struct Publisher {
    api: Api<ConfigMap>,
    name: String,
    published: Option<NodeReport>,
}

impl Publisher {
    pub(super) fn new(api: Api<ConfigMap>, node: &str) -> Self {
        Self { api, name: report_name(node), published: None }
    }

    /// Looks at what the API server has, so that the next [`publish`](Self::publish) writes only a difference.
    pub(super) async fn read(&mut self) -> kube::Result<()> {
        let object = self.api.get_opt(&self.name).await?;
        let text = object.as_ref().and_then(|object| object.data.as_ref()?.get(REPORT_KEY));
        self.published = text.and_then(|text| serde_json::from_str(text).ok());
        Ok(())
    }

    /// Writes the report, unless that is what the API server has.
    pub(super) async fn publish(&mut self, node: &Node, report: NodeReport) -> anyhow::Result<()> {
        if self.published.as_ref() == Some(&report) {
            return Ok(());
        }
        let object = self.object(node, &report)?;
        self.api.patch(&self.name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&object)).await?;
        tracing::info!(registries = report.registries.len(), "reported");
        self.published = Some(report);
        Ok(())
    }

    fn object(&self, node: &Node, report: &NodeReport) -> serde_json::Result<ConfigMap> {
        // With the node goes its report.
        let owner = node.uid().map(|uid| OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: node.name_any(),
            uid,
            ..OwnerReference::default()
        });
        let labels = [
            (NODE_REPORT_LABEL.to_owned(), "true".to_owned()),
            ("app.kubernetes.io/part-of".to_owned(), "berth".to_owned()),
            ("app.kubernetes.io/managed-by".to_owned(), FIELD_MANAGER.to_owned()),
        ];
        Ok(ConfigMap {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(labels.into()),
                owner_references: owner.map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            data: Some([(REPORT_KEY.to_owned(), serde_json::to_string(report)?)].into()),
            ..ConfigMap::default()
        })
    }
}

#[cfg(test)]
mod tests;
