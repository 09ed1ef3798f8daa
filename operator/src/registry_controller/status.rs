//! Step 5 (no client): what was found, as a status. Pure.

pub mod bucket;
pub mod garbage;
pub mod pods;
pub mod sharing;
pub mod storage;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::dereference::Observed;
use super::validate::{Refusal, ValidatedRegistry};
use crate::api::condition::{Finding, Truth, conditions};
use crate::api::registry::{
    AdminSecret, CertificateStatus, DeletionPolicy, NodeExample, NodesStatus, Registry, RegistryStatus, Retained,
};
use crate::keyring::Keyring;
use crate::nodes::NodesSeen;

/// It serves.
pub const READY: &str = "Ready";
/// The operator is at work, and waiting helps.
pub const RECONCILING: &str = "Reconciling";
/// A human is needed.
pub const STALLED: &str = "Stalled";

/// What nodes need could not be written.
pub const NODES_NOT_TOLD: &str = "NodesNotTold";
/// The Deployment's own word for having waited too long.
const PROGRESS_DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";

/// What a pass came to.
pub struct Pass<'a> {
    /// The Registry as it was read.
    pub registry: &'a Registry,
    /// The status as it was written last.
    pub before: &'a RegistryStatus,
    /// What was found.
    pub observed: &'a Observed,
    /// What was made of it, or why not.
    pub validated: Result<&'a ValidatedRegistry, &'a Refusal>,
    /// What could not be done.
    pub problem: Option<&'a Problem>,
    /// The keys.
    pub keyring: Option<&'a Keyring>,
    /// The workload.
    pub deployment: Option<Arc<Deployment>>,
    /// Whether there are node agents.
    pub agents: bool,
    /// What nodes make of it; none where there are no agents, or there is nothing yet that nodes could be told.
    pub nodes: Option<NodesSeen>,
    /// Why they could not be told what they need.
    pub nodes_untold: Option<&'a str>,
    /// The time.
    pub now: Timestamp,
}

/// Something that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// In one word.
    pub reason: String,
    /// In a sentence that says what to do where something can be done.
    pub message: String,
    /// Whether a human is needed.
    pub stalled: bool,
}

impl Problem {
    /// One that needs a human.
    pub fn stalled(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into(), stalled: true }
    }

    /// One that passes.
    pub fn passing(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into(), stalled: false }
    }
}

/// The status before anything was looked at.
pub fn first(registry: &Registry, now: Timestamp) -> RegistryStatus {
    let unknown = |type_| Finding::new(type_, Truth::Unknown, "Starting", "not looked at yet");
    let findings = vec![
        unknown(READY),
        Finding::new(RECONCILING, true, "Starting", "the operator begins"),
        unknown("StorageReady"),
        unknown("CertificateReady"),
        unknown("NodesReady"),
    ];
    let generation = registry.metadata.generation;
    RegistryStatus {
        observed_generation: generation,
        conditions: conditions(findings, &[], generation, now),
        ..Default::default()
    }
}

/// The status after a pass that failed: what was known before, and that.
pub fn failed(registry: &Registry, before: &RegistryStatus, problem: &Problem, now: Timestamp) -> RegistryStatus {
    let generation = registry.metadata.generation;
    let type_ = if problem.stalled { STALLED } else { RECONCILING };
    let said = before.conditions.iter().find(|said| said.type_ == type_ && said.reason == problem.reason);
    // What is wrong may be told in other words each time; the first stay, or every attempt would write.
    let message = said.map_or(&problem.message, |said| &said.message);
    let finding = vec![Finding::new(type_, true, &problem.reason, message)];
    let mut conditions = conditions(finding, &before.conditions, generation, now);
    let kept = before.conditions.iter().filter(|condition| ![STALLED, RECONCILING].contains(&condition.type_.as_str()));
    conditions.extend(kept.cloned());
    // This generation was not looked at, but what needs a human would go unnoticed under an older one.
    let observed_generation = if problem.stalled { generation } else { before.observed_generation };
    RegistryStatus { observed_generation, conditions, ..before.clone() }
}

/// The status after a pass.
pub fn status(pass: &Pass<'_>) -> RegistryStatus {
    let generation = pass.registry.metadata.generation;
    let problem = problem(pass);
    let (replicas, ready_replicas) = replicas(pass);
    let garbage_collection = garbage::status(pass);
    let mut findings = vec![ready(pass, problem.as_ref(), ready_replicas.unwrap_or(0))];
    findings.extend(activity(pass, problem.as_ref()));
    findings.push(storage::finding(pass));
    findings.extend(sharing::finding(pass));
    findings.push(certificate_finding(pass));
    findings.push(nodes_finding(pass));
    findings.extend(hosts_finding(pass));
    findings.extend(pods::heard_finding(pass.observed));
    findings.extend(garbage::finding(garbage_collection.as_ref()));
    findings.extend(suspended_finding(pass));
    RegistryStatus {
        observed_generation: generation,
        url: pass.validated.ok().map(ValidatedRegistry::url),
        ca_bundle: pass.keyring.map(Keyring::ca_bundle).or_else(|| pass.before.ca_bundle.clone()),
        admin_secret: admin_secret(pass),
        conditions: conditions(findings, &pass.before.conditions, generation, pass.now),
        replicas,
        ready_replicas,
        version: version(pass),
        storage: storage::status(pass),
        certificate: certificate(pass),
        garbage_collection,
        nodes: nodes(pass),
        retained: retained(pass),
    }
}

/// The first thing that stands in the way: what was refused, what failed, what pods and volumes complain of.
fn problem(pass: &Pass<'_>) -> Option<Problem> {
    match pass.validated {
        Err(refusal) => Some(Problem::stalled(refusal.reason, refusal.message.clone())),
        Ok(validated) => {
            pass.problem.cloned().or_else(|| storage::problem(pass)).or_else(|| pods_problem(pass, validated))
        }
    }
}

/// What pods complain of is worth more than what their Deployment does, unless it passes by itself and no pod may be made.
fn pods_problem(pass: &Pass<'_>, validated: &ValidatedRegistry) -> Option<Problem> {
    let complaint = pods::problem(pass.observed, validated, &pass.before.conditions, pass.now);
    let given_up = deployment_problem(pass.deployment.as_deref());
    match (complaint, given_up) {
        (Some(complaint), None) => Some(complaint),
        (Some(complaint), Some(given_up)) if complaint.stalled || given_up.reason == PROGRESS_DEADLINE_EXCEEDED => {
            Some(Problem { stalled: true, ..complaint })
        }
        (_, given_up) => given_up,
    }
}

fn ready(pass: &Pass<'_>, problem: Option<&Problem>, ready_replicas: i32) -> Finding {
    if ready_replicas > 0 {
        return Finding::new(READY, true, "Serving", "it serves");
    }
    if pass.registry.spec.replicas == Some(0) {
        return Finding::new(
            READY,
            false,
            "ScaledToZero",
            "spec.replicas is 0: nothing serves, and everything is kept",
        );
    }
    match problem {
        Some(problem) => Finding::new(READY, false, &problem.reason, &problem.message),
        None if pass.deployment.is_none() && pass.registry.spec.suspend == Some(true) => {
            Finding::new(READY, false, "Suspended", "spec.suspend is true, and nothing was made before")
        }
        None if pass.deployment.is_none() => {
            Finding::new(READY, false, "Starting", "waiting for the Service's address")
        }
        None => Finding::new(READY, false, "PodsNotReady", "no pod is ready yet"),
    }
}

/// `Stalled` or `Reconciling`, if either.
fn activity(pass: &Pass<'_>, problem: Option<&Problem>) -> Option<Finding> {
    if let Some(problem) = problem {
        let type_ = if problem.stalled { STALLED } else { RECONCILING };
        return Some(Finding::new(type_, true, &problem.reason, &problem.message));
    }
    if pass.registry.spec.suspend == Some(true) {
        return None;
    }
    let reconciling = |reason, message| Some(Finding::new(RECONCILING, true, reason, message));
    let Some(deployment) = pass.deployment.as_deref() else {
        return reconciling("Starting", "waiting for the Service's address");
    };
    if is_rolling_out(deployment) { reconciling("RollingOut", "pods are being replaced or started") } else { None }
}

/// Whether pods are being replaced or started.
pub fn is_rolling_out(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let Some(status) = &deployment.status else { return true };
    let behind = status.observed_generation < deployment.metadata.generation;
    let updated = status.updated_replicas.unwrap_or(0);
    behind || updated < wanted || status.ready_replicas.unwrap_or(0) < wanted || status.replicas.unwrap_or(0) > updated
}

fn deployment_problem(deployment: Option<&Deployment>) -> Option<Problem> {
    let conditions = deployment?.status.as_ref()?.conditions.as_ref()?;
    let find = |type_: &str, status: &str| {
        conditions
            .iter()
            .find(|condition: &&DeploymentCondition| condition.type_ == type_ && condition.status == status)
    };
    let message = |condition: &DeploymentCondition| condition.message.clone().unwrap_or_default();
    if let Some(failure) = find("ReplicaFailure", "True") {
        return Some(Problem::stalled("PodsRefused", format!("the API server refuses the pods: {}", message(failure))));
    }
    let stuck = find("Progressing", "False")?;
    Some(Problem::stalled(PROGRESS_DEADLINE_EXCEEDED, message(stuck)))
}

fn replicas(pass: &Pass<'_>) -> (Option<i32>, Option<i32>) {
    let status = pass.deployment.as_ref().and_then(|deployment| deployment.status.clone());
    match status {
        Some(status) => (Some(status.replicas.unwrap_or(0)), Some(status.ready_replicas.unwrap_or(0))),
        None => (pass.deployment.as_ref().map(|_| 0), pass.deployment.as_ref().map(|_| 0)),
    }
}

/// The version of the oldest ready pod; what it was before while none is ready.
fn version(pass: &Pass<'_>) -> Option<String> {
    let reported = pass.observed.ready_pods().find_map(|pod| pod.report.as_ref().map(|report| report.version.clone()));
    reported.filter(|version| !version.is_empty()).or_else(|| pass.before.version.clone())
}

fn admin_secret(pass: &Pass<'_>) -> Option<AdminSecret> {
    let keyring = pass.keyring?;
    let written = keyring.written.admin.as_ref().filter(|written| written.uid.is_some())?;
    Some(AdminSecret { name: written.name.clone(), handled_rotation: keyring.handled_password_rotation.clone() })
}

fn nodes(pass: &Pass<'_>) -> Option<NodesStatus> {
    let nodes = pass.nodes.as_ref()?.status.clone();
    let handled_credential_rotation = pass.keyring.and_then(|keyring| keyring.handled_node_rotation.clone());
    Some(NodesStatus { handled_credential_rotation, ..nodes })
}

fn certificate(pass: &Pass<'_>) -> Option<CertificateStatus> {
    let Some(keyring) = pass.keyring else { return pass.before.certificate.clone() };
    Some(CertificateStatus {
        ca_not_after: Some(to_second(keyring.ca_not_after())),
        not_after: keyring.leaf.as_ref().map(|leaf| to_second(leaf.not_after)),
        handled_certificate_rotation: keyring.handled_certificate_rotation.clone(),
        handled_authority_rotation: keyring.handled_authority_rotation.clone(),
    })
}

/// The API server keeps whole seconds; a status with more would differ from itself.
fn to_second(at: Timestamp) -> Time {
    Time::from(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

fn certificate_finding(pass: &Pass<'_>) -> Finding {
    let type_ = "CertificateReady";
    match pass.keyring {
        Some(keyring) if keyring.leaf.as_ref().is_some_and(|leaf| leaf.not_after <= pass.now) => Finding::new(
            type_,
            false,
            "Expired",
            "the serving certificate has ended, and nobody trusts it; a Registry with spec.suspend renews nothing",
        ),
        Some(keyring) if keyring.incoming.is_some() => Finding::new(
            type_,
            true,
            "AuthorityRotating",
            "a new authority is trusted beside the old one; it signs when every node has acknowledged it, after five minutes at the earliest and 24 hours at the latest",
        ),
        Some(keyring) if keyring.leaf.is_some() => {
            Finding::new(type_, true, "Issued", "pods have a certificate for every name and address of the Service")
        }
        Some(_) => Finding::new(type_, false, "WaitingForAddress", "the Service has no address yet"),
        None => Finding::new(type_, Truth::Unknown, "NotLookedAt", "see Ready"),
    }
}

fn nodes_finding(pass: &Pass<'_>) -> Finding {
    let type_ = "NodesReady";
    if !pass.agents {
        let why = "the node agent is not installed (chart value nodeAgent.enabled)";
        return Finding::new(type_, Truth::Unknown, "AgentDisabled", why);
    }
    let Some(nodes) = &pass.nodes else {
        return Finding::new(type_, Truth::Unknown, "NotLookedAt", "see Ready");
    };
    if let Some(why) = pass.nodes_untold {
        return Finding::new(type_, false, NODES_NOT_TOLD, format!("nodes have not heard what changed: {why}"));
    }
    let NodesStatus { desired, trusted, unsupported, unknown, .. } = nodes.status;
    if unsupported > 0 {
        let message =
            format!("pods of {unsupported} of {desired} nodes cannot pull from it; status.nodes.examples says why");
        Finding::new(type_, false, "NodesUnsupported", message)
    } else if unknown > 0 {
        Finding::new(
            type_,
            false,
            "NodesPending",
            format!("{unknown} of {desired} nodes have not said yet that they trust it; pods there may already pull"),
        )
    } else if pass.validated.is_ok_and(|validated| !validated.nodes_pull) {
        let message = format!("pods of all {trusted} nodes can pull from it with a Secret; spec.access.nodes is None");
        Finding::new(type_, true, "AllNodesTrusted", message)
    } else {
        Finding::new(type_, true, "AllNodesTrusted", format!("pods of all {trusted} nodes can pull from it"))
    }
}

/// That nothing is done, although all else may read as if it were.
fn suspended_finding(pass: &Pass<'_>) -> Option<Finding> {
    let message = "spec.suspend is true: nothing is changed and nothing rotates, whatever the spec says meanwhile";
    (pass.registry.spec.suspend == Some(true)).then(|| Finding::new("Suspended", true, "Suspended", message))
}

fn hosts_finding(pass: &Pass<'_>) -> Option<Finding> {
    let hosts = &pass.registry.spec.nodes.as_ref()?.hosts;
    let validated = pass.validated.ok()?;
    if hosts.is_empty() {
        return None;
    }
    let refused = pass.nodes.as_ref().and_then(|nodes| nodes.host_refused.as_ref());
    Some(if let Some(NodeExample { node, reason, message }) = refused.filter(|_| validated.refused_hosts.is_empty()) {
        let message =
            format!("the node {node}, and perhaps others, does not ask this Registry for every host: {message}");
        Finding::new("HostsGranted", false, reason, message)
    } else if validated.refused_hosts.is_empty() {
        Finding::new("HostsGranted", true, "HostsGranted", "nodes ask this Registry for every host in spec.nodes.hosts")
    } else {
        let message = format!(
            "no node asks this Registry for {}: an administrator has not granted it (chart value hostGrants); remove it from spec.nodes.hosts, or ask for {{host: {}, namespace: {}, registry: {}}}",
            validated.refused_hosts.join(", "),
            validated.refused_hosts[0],
            validated.owner.namespace,
            validated.owner.name
        );
        Finding::new("HostsGranted", false, "HostNotGranted", message)
    })
}

fn retained(pass: &Pass<'_>) -> Vec<Retained> {
    let Ok(validated) = pass.validated else { return pass.before.retained.clone() };
    let uid = pass.registry.metadata.uid.as_ref();
    // What counts is the object, not the wish: as long as it names the Registry as its owner it goes with it.
    let kept = pass.observed.claim.as_ref().filter(|claim| {
        let mut owners = claim.metadata.owner_references.iter().flatten();
        owners.all(|owner| Some(&owner.uid) != uid)
    });
    let mut retained = Vec::new();
    if let Some(bucket) = validated.bucket() {
        retained.push(Retained {
            kind: if bucket.is_container() { "Container" } else { "Bucket" }.into(),
            name: bucket.place(),
            survives: "the deletion of this Registry and of its namespace, whatever spec.deletionPolicy says".into(),
        });
    }
    if let Some(claim) = kept.and_then(|claim| claim.metadata.name.clone()) {
        retained.push(Retained {
            kind: "PersistentVolumeClaim".into(),
            name: claim,
            survives: "the deletion of this Registry; of its namespace, only the PersistentVolume survives, and only if its reclaim policy is Retain".into(),
        });
    }
    if pass.keyring.is_some() && validated.deletion_policy == DeletionPolicy::Retain {
        retained.push(Retained {
            kind: "Secret".into(),
            name: validated.owner.keyring_name(),
            survives: "the deletion of this Registry, not that of its namespace; it is in the operator's namespace"
                .into(),
        });
    }
    retained
}
