//! What nodes make of each Registry: the agents' reports, counted.
//!
//! Reports are looked at every half minute and not as they come, so that a thousand nodes that learn of a new Registry do
//! not make a thousand status writes. Nothing here decides whether a Registry is ready.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::ResourceExt;

use crate::api::registry::{NodeExample, NodesStatus};
use crate::node_entry::{NodeReport, REPORT_KEY, RegistryReport, TrustState};

/// How many nodes that are not trusted a status names.
const EXAMPLES: usize = 10;

/// The last look at the reports.
#[derive(Clone, Default)]
pub struct NodesView(Arc<RwLock<Arc<Look>>>);

/// One look at the nodes and their reports.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    /// Nodes that run Linux, and whether they are ready.
    nodes: BTreeMap<String, bool>,
    /// Their reports.
    reports: BTreeMap<String, NodeReport>,
}

/// What nodes make of one Registry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodesSeen {
    /// The counts, for the status.
    pub status: NodesStatus,
    /// Whether every ready node trusts the bundle; unknown when none reports.
    pub trust_bundle: Option<bool>,
    /// Whether every ready node uses the credential; unknown when none reports.
    pub use_credential: Option<bool>,
    /// A node that trusts the Registry but does not ask it for every host that was granted to it, and why.
    pub host_refused: Option<NodeExample>,
}

impl NodesView {
    /// The last look.
    pub fn look(&self) -> Arc<Look> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks again. Returns the uids of Registries about which something changed; `None` when nodes came, went or changed
    /// their readiness, which concerns every Registry.
    pub fn refresh(&self, nodes: &[Arc<Node>], reports: &[Arc<ConfigMap>]) -> Option<BTreeSet<String>> {
        let new = Look {
            nodes: nodes.iter().filter(|node| is_linux(node)).map(|node| (node.name_any(), is_ready(node))).collect(),
            reports: reports.iter().filter_map(|map| report(map)).map(|report| (report.node.clone(), report)).collect(),
        };
        let old =
            std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), Arc::new(new.clone()));
        if old.nodes != new.nodes {
            return None;
        }
        let mut changed = BTreeSet::new();
        for node in old.reports.keys().chain(new.reports.keys()) {
            let registries =
                |look: &Look| look.reports.get(node).map(|report| report.registries.clone()).unwrap_or_default();
            let (old, new) = (registries(&old), registries(&new));
            let uids = old.keys().chain(new.keys()).filter(|uid| old.get(*uid) != new.get(*uid));
            changed.extend(uids.cloned());
        }
        Some(changed)
    }
}

impl Look {
    /// What nodes make of the Registry with this uid.
    pub fn of(&self, uid: &str, ca_bundle: &str, credential: Option<&str>) -> NodesSeen {
        let mut seen = NodesSeen::default();
        for (node, ready) in &self.nodes {
            let report = self.reports.get(node);
            let found = report.and_then(|report| report.registries.get(uid));
            count(&mut seen.status, node, report.is_some(), found);
            seen.host_refused = seen.host_refused.take().or_else(|| host_refused(node, found?));
            // A node that is down cannot answer, and one whose runtime cannot be taught never will.
            if let Some(found) = found.filter(|found| *ready && found.state != TrustState::Unsupported) {
                let trusts = found.ca_bundle_sha256.as_deref() == Some(ca_bundle);
                let uses = found.credential_sha256.as_deref() == credential;
                seen.trust_bundle = Some(seen.trust_bundle.unwrap_or(true) && trusts);
                seen.use_credential = Some(seen.use_credential.unwrap_or(true) && uses);
            } else if *ready && found.is_none() && !self.reports.is_empty() {
                // Its agent is late or down, and what it wrote before is still in force.
                (seen.trust_bundle, seen.use_credential) = (Some(false), Some(false));
            }
        }
        seen
    }
}

/// Why a node that trusts the Registry does not ask it for a host that was granted to it.
fn host_refused(node: &str, found: &RegistryReport) -> Option<NodeExample> {
    let is_refused =
        found.state == TrustState::Trusted && !["", "Verified", "HostNotGranted"].contains(&found.reason.as_str());
    is_refused.then(|| NodeExample {
        node: node.into(),
        reason: cut(&found.reason, LONGEST_REASON),
        message: cut(&found.message, LONGEST_MESSAGE),
    })
}

fn count(status: &mut NodesStatus, node: &str, reports: bool, found: Option<&RegistryReport>) {
    status.desired += 1;
    match found.map_or(TrustState::Unknown, |found| found.state) {
        TrustState::Trusted => {
            status.trusted += 1;
            return;
        }
        TrustState::Unsupported => status.unsupported += 1,
        TrustState::Unknown => status.unknown += 1,
    }
    if status.examples.len() < EXAMPLES {
        let (reason, message) = match found {
            // A report may be a mebibyte of anything; every Registry's status repeats it.
            Some(found) => (cut(&found.reason, LONGEST_REASON), cut(&found.message, LONGEST_MESSAGE)),
            None if reports => (
                "NotYetReported".into(),
                "the node's agent has not reported on this Registry yet; reports are counted within half a minute"
                    .into(),
            ),
            None => ("NoAgent".into(), "no agent of this node has reported; see the agent's pod there".into()),
        };
        status.examples.push(NodeExample { node: node.into(), reason, message });
    }
}

/// Characters of a node's reason that status repeats, and of its message.
const LONGEST_REASON: usize = 64;
const LONGEST_MESSAGE: usize = 512;

fn cut(text: &str, longest: usize) -> String {
    text.chars().take(longest).collect()
}

fn report(map: &ConfigMap) -> Option<NodeReport> {
    let report: NodeReport = serde_json::from_str(map.data.as_ref()?.get(REPORT_KEY)?).ok()?;
    // An agent may write only the report of its own node; the name says whose this is.
    (map.name_any() == crate::node_entry::report_name(&report.node)).then_some(report)
}

fn is_linux(node: &Node) -> bool {
    node.labels().get("kubernetes.io/os").is_none_or(|system| system == "linux")
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|conditions| {
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, ready: &str) -> Arc<Node> {
        let node = serde_json::json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/os": "linux"}},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        });
        Arc::new(serde_json::from_value(node).unwrap())
    }

    fn report(node: &str, state: &str, bundle: &str) -> Arc<ConfigMap> {
        let report = serde_json::json!({"node": node, "registries": {
            "u": {"state": state, "reason": "Because", "caBundleSha256": bundle, "credentialSha256": "c"}}});
        let map = serde_json::json!({"metadata": {"name": format!("report-{node}")}, "data": {REPORT_KEY: report.to_string()}});
        Arc::new(serde_json::from_value(map).unwrap())
    }

    #[test]
    fn nodes_are_counted_and_those_not_trusted_named() {
        let view = NodesView::default();
        let nodes = [node("a", "True"), node("b", "True"), node("c", "False")];
        assert_eq!(view.refresh(&nodes, &[]), None, "nodes came");
        let reports = [report("a", "Trusted", "1"), report("b", "Unsupported", "")];
        assert_eq!(view.refresh(&nodes, &reports), Some(BTreeSet::from(["u".into()])));
        assert_eq!(view.refresh(&nodes, &reports), Some(BTreeSet::new()));
        let seen = view.look().of("u", "1", Some("c"));
        assert_eq!(
            (seen.status.desired, seen.status.trusted, seen.status.unsupported, seen.status.unknown),
            (3, 1, 1, 1)
        );
        assert_eq!(
            seen.status.examples.iter().map(|example| example.reason.as_str()).collect::<Vec<_>>(),
            ["Because", "NoAgent"]
        );
        assert_eq!((seen.trust_bundle, seen.use_credential), (Some(true), Some(true)));
        let refused = seen.host_refused.unwrap();
        assert_eq!((refused.node.as_str(), refused.reason.as_str()), ("a", "Because"));
        assert_eq!(view.look().of("u", "2", Some("c")).trust_bundle, Some(false));
        assert_eq!(
            view.look().of("other", "1", None).trust_bundle,
            Some(false),
            "agents report, but not on this one yet"
        );
    }

    #[test]
    fn without_agents_nothing_is_known() {
        let view = NodesView::default();
        view.refresh(&[node("a", "True")], &[]);
        assert_eq!(view.look().of("u", "1", None).trust_bundle, None);
    }

    #[test]
    fn a_report_in_anothers_name_does_not_count() {
        let view = NodesView::default();
        let mut forged = (*report("a", "Trusted", "1")).clone();
        forged.metadata.name = Some("report-b".into());
        view.refresh(&[node("a", "True")], &[Arc::new(forged)]);
        assert_eq!(view.look().of("u", "1", None).status.trusted, 0);
    }
}
