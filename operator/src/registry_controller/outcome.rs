//! What is made of a pass beyond its status: errors put into words, events, and whose turn it is to replace pods.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType};
use kube::{Resource, ResourceExt};

use super::status::bucket::BUCKET_UNUSABLE;
use super::status::garbage::GARBAGE_COLLECTED;
use super::status::pods::{REFERENCE_NOT_FOUND, VOLUME_UNUSABLE};
use super::status::sharing::STORAGE_SHARED;
use super::status::{NODES_NOT_TOLD, Problem, READY, RECONCILING, STALLED};
use super::{Error, dereference, keys};
use crate::api::registry::{Registry, RegistryStatus};
use crate::apply;
use crate::context::Context;
use crate::keyring::rotation::Step;

/// An error that a human can do something about, or that passes by itself, in words; any other is tried again.
pub(super) fn explain(error: Error) -> Result<Problem, Error> {
    match error {
        Error::Apply(error) | Error::Keys(keys::Error::Apply(error)) => explain_apply(error),
        Error::Keys(error @ keys::Error::SecretGone(_)) => Ok(Problem::passing("SecretGone", error.to_string())),
        error => Err(error),
    }
}

fn explain_apply(error: apply::Error) -> Result<Problem, Error> {
    match &error {
        apply::Error::AdoptionConflict { .. } => return Ok(Problem::stalled("AdoptionConflict", error.to_string())),
        apply::Error::BeingRemoved { .. } => return Ok(Problem::passing("BeingRemoved", error.to_string())),
        apply::Error::Api { .. } | apply::Error::Json(_) => {}
    }
    let Some(status) = error.status() else { return Err(error.into()) };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let terminating = causes.map(|cause| cause.reason.as_str()).any(|reason| reason == "NamespaceTerminating");
    match status.code {
        403 if terminating => Ok(Problem::passing("NamespaceTerminating", "the namespace is being deleted")),
        403 if status.message.contains("exceeded quota") => Ok(Problem::stalled(
            "QuotaExceeded",
            format!("a ResourceQuota of this namespace leaves no room: {}", status.message),
        )),
        403 if status.message.contains("per PersistentVolumeClaim is") => Ok(Problem::stalled(
            "QuotaExceeded",
            format!(
                "a LimitRange of this namespace does not allow such a volume; write another spec.storage.persistentVolumeClaim.size: {}",
                status.message
            ),
        )),
        403 if status.message.contains("persistentvolumeclaims") && status.message.contains("resize") => {
            Ok(Problem::stalled(
                "VolumeResizeRefused",
                format!(
                    "the volume cannot be enlarged; its StorageClass must have allowVolumeExpansion: {}",
                    status.message
                ),
            ))
        }
        403 => Ok(forbidden(status)),
        400 | 422 => Ok(Problem::stalled("Rejected", status.message.clone())),
        _ => Err(error.into()),
    }
}

/// What a pass that failed comes to. `before` is how many did in a row before it: what passes by itself is nobody's news.
pub(super) fn failure(error: &Error, before: u32) -> Option<Problem> {
    match error {
        Error::Dereference(error @ dereference::Error::Keyring { .. }) => {
            Some(Problem::stalled("KeyringUnreadable", error.to_string()))
        }
        Error::Dereference(dereference::Error::Api(kube::Error::Api(status))) if status.code == 403 => {
            Some(forbidden(status))
        }
        error if before + 1 >= TELLING => Some(Problem::passing("ReconcileFailed", error.to_string())),
        _ => None,
    }
}

/// After how many failures in a row the status tells of them.
const TELLING: u32 = 3;

fn forbidden(status: &kube::core::Status) -> Problem {
    Problem::stalled("Forbidden", format!("the operator may not do this; see the chart's roles: {}", status.message))
}

/// What a Registry is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    /// Nothing moves and nothing is missing.
    Resting,
    /// Something moves.
    Busy,
    /// It waits for a human.
    Stuck,
}

impl Activity {
    /// As its status says.
    pub(super) fn of(status: &RegistryStatus) -> Self {
        let is_true = |type_: &str| find(status, type_).is_some_and(|condition| condition.status == "True");
        if is_true(STALLED) {
            Self::Stuck
        } else if is_true(RECONCILING) || !(is_true(READY) || status.ready_replicas == Some(0)) {
            Self::Busy
        } else {
            Self::Resting
        }
    }
}

fn find<'a>(status: &'a RegistryStatus, type_: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == type_)
}

/// Tells a human what they must know: what changed for better or worse, and which keys did.
pub(super) async fn publish(
    registry: &Registry,
    before: &RegistryStatus,
    after: &RegistryStatus,
    steps: &[Step],
    context: &Context,
) {
    let mut events = Vec::new();
    let of = |status: &RegistryStatus, type_: &str| {
        find(status, type_)
            .map(|condition| (condition.status.clone(), condition.reason.clone(), condition.message.clone()))
    };
    if let Some((_, reason, message)) = of(after, STALLED)
        && of(before, STALLED).is_none_or(|(_, was, said)| was != reason || (said != message && is_told_anew(&reason)))
    {
        events.push((EventType::Warning, reason, message));
    }
    let is_ready = |status: &RegistryStatus| of(status, READY).is_some_and(|(truth, _, _)| truth == "True");
    match (is_ready(before), is_ready(after)) {
        (false, true) => events.push((EventType::Normal, "Ready".into(), "it serves".into())),
        (true, false) => {
            let (_, reason, message) = of(after, READY).unwrap_or_default();
            events.push((EventType::Warning, "NotReady".into(), format!("{reason}: {message}")));
        }
        _ => {}
    }
    if let Some((truth, reason, message)) = of(after, "HostsGranted")
        && truth == "False"
        && of(before, "HostsGranted").is_none_or(|(was, _, _)| was != truth)
    {
        events.push((EventType::Warning, reason, message));
    }
    if let Some((_, reason, message)) = of(after, "NodesReady")
        && reason == NODES_NOT_TOLD
        && of(before, "NodesReady").is_none_or(|(_, was, _)| was != reason)
    {
        events.push((EventType::Warning, reason, message));
    }
    if let Some((_, reason, message)) = of(after, STORAGE_SHARED)
        && of(before, STORAGE_SHARED).is_none_or(|(_, was, _)| was != reason)
    {
        events.push((EventType::Warning, reason, message));
    }
    events.extend(tell_of_garbage(before, after));
    events.extend(steps.iter().filter_map(|step| tell(*step)));
    for (type_, reason, note) in events {
        let note = Some(note.chars().take(1000).collect());
        let event = Event { type_, reason, note, action: "Reconcile".into(), secondary: None };
        if let Err(error) = context.recorder.publish(&event, &registry.object_ref(&())).await {
            tracing::debug!(%error, "an event was not published");
        }
    }
}

/// Whether each message under this reason is another obstacle's. Under others it may be the same one's in other words.
fn is_told_anew(reason: &str) -> bool {
    [REFERENCE_NOT_FOUND, BUCKET_UNUSABLE, VOLUME_UNUSABLE].contains(&reason)
}

/// A collection that deleted something is news, and one that could not is a warning.
fn tell_of_garbage(before: &RegistryStatus, after: &RegistryStatus) -> Vec<(EventType, String, String)> {
    let mut events = Vec::new();
    let (was, Some(is)) = (before.garbage_collection.as_ref(), after.garbage_collection.as_ref()) else {
        return events;
    };
    if let Some(condition) = find(after, GARBAGE_COLLECTED).filter(|condition| condition.status == "False")
        && find(before, GARBAGE_COLLECTED).is_none_or(|told| told.reason != condition.reason)
    {
        events.push((EventType::Warning, condition.reason.clone(), condition.message.clone()));
    }
    if was.is_none_or(|was| was.completion_time != is.completion_time) && is.manifests + is.blobs > 0 {
        let (reason, done) =
            if is.dry_run { ("GarbageFound", "would be deleted") } else { ("GarbageCollected", "were deleted") };
        let note = format!("{} manifests and {} blobs, {} bytes, {done}", is.manifests, is.blobs, is.bytes);
        events.push((EventType::Normal, reason.into(), note));
    }
    events
}

/// The change of node credentials and of the key of upload locations is no news: nobody sees them.
fn tell(step: Step) -> Option<(EventType, String, String)> {
    let (type_, reason, note) = match step {
        Step::CertificateIssued => (EventType::Normal, "CertificateIssued", "a new serving certificate was issued"),
        Step::AuthorityIncoming => {
            (EventType::Normal, "AuthorityIncoming", "a new private authority is trusted beside the old one")
        }
        Step::AuthoritySwitched => {
            (EventType::Normal, "AuthoritySwitched", "the new private authority signs; every node trusts it")
        }
        Step::AuthoritySwitchedLate => (
            EventType::Warning,
            "AuthoritySwitchedLate",
            "the new private authority signs after 24 hours, although not every node has said that it trusts it; see status.nodes",
        ),
        Step::AuthorityRetired => {
            (EventType::Normal, "AuthorityRetired", "the old private authority is no longer trusted")
        }
        Step::PasswordReplaced => (
            EventType::Normal,
            "PasswordReplaced",
            "the generated password was replaced; pods accept the new one, and no longer the old one",
        ),
        Step::NodeCredential(_) | Step::HttpSecret(_) => return None,
    };
    Some((type_, reason.into(), note.into()))
}

/// Whether this Deployment's pods have to wait until others have been replaced. A new one never waits, and one that is as it
/// was asked for needs no place, whatever others wrote into it. Who need not wait has its place kept until the watch shows it
/// in it.
pub(super) fn must_wait(wanted: &Deployment, live: Option<&Deployment>, context: &Context) -> bool {
    let Some(live) = live else { return false };
    if apply::was_applied(wanted, live) || !replaces_pods(wanted, live) || is_replacing(live) {
        return false;
    }
    let deployments = context.stores.deployments.all();
    let replacing = deployments.iter().filter(|other| is_replacing(other)).filter_map(|other| other.uid()).collect();
    !context.rollouts.admit(live.uid().unwrap_or_default(), &replacing, context.settings.max_rollouts)
}

/// Whether anything in it differs that pods are made of.
fn replaces_pods(wanted: &Deployment, live: &Deployment) -> bool {
    let template = |deployment: &Deployment| serde_json::to_value(deployment.spec.as_ref().map(|spec| &spec.template));
    let (Ok(wanted), Ok(live)) = (template(wanted), template(live)) else { return true };
    apply::drift::projection(&live, &wanted) != wanted
}

/// Whether pods are being replaced, and not stuck.
fn is_replacing(deployment: &Deployment) -> bool {
    let Some(status) = &deployment.status else { return true };
    let conditions = status.conditions.iter().flatten();
    let mut progressing = conditions.filter(|condition| condition.type_ == "Progressing");
    status.observed_generation < deployment.metadata.generation
        || progressing.any(|condition| {
            condition.status == "True" && condition.reason.as_deref() != Some("NewReplicaSetAvailable")
        })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn deployment(container: &Value) -> Deployment {
        let template =
            json!({"metadata": {"annotations": {"berth.dev/config-hash": "1"}}, "spec": {"containers": [container]}});
        serde_json::from_value(json!({"spec": {"replicas": 1, "selector": {}, "template": template}})).unwrap()
    }

    #[test]
    fn whatever_pods_are_made_of_replaces_them_and_what_the_api_server_adds_does_not() {
        let wanted = deployment(&json!({"name": "registry", "image": "r:1"}));
        let live = |container: Value| deployment(&container);
        let as_stored = json!({"name": "registry", "image": "r:1", "imagePullPolicy": "IfNotPresent"});
        assert!(!replaces_pods(&wanted, &live(as_stored)));
        assert!(replaces_pods(&wanted, &live(json!({"name": "registry", "image": "r:0"}))));
        let probed = deployment(&json!({"name": "registry", "image": "r:1", "livenessProbe": {"periodSeconds": 5}}));
        assert!(replaces_pods(&probed, &wanted), "a probe that the operator's next version wants");
        let mut scaled = wanted.clone();
        scaled.spec.as_mut().unwrap().replicas = Some(2);
        assert!(!replaces_pods(&scaled, &wanted), "more pods replace none");
    }
}
