//! What the pods complain of, in words that say what to do.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::{Problem, STALLED, bucket};
use crate::api::condition::Finding;
use crate::registry_controller::build::HEALTH_PORT;
use crate::registry_controller::dereference::{Observed, ObservedPod};
use crate::registry_controller::validate::ValidatedRegistry;

/// Something that the Registry refers to is not there.
pub const REFERENCE_NOT_FOUND: &str = "ReferenceNotFound";

/// The first complaint, of the newest pod first: it is the one that runs what was asked for last.
pub fn problem(
    observed: &Observed,
    validated: &ValidatedRegistry,
    before: &[Condition],
    now: Timestamp,
) -> Option<Problem> {
    let alive = observed.pods.iter().rev().filter(|pod| pod.pod.metadata.deletion_timestamp.is_none());
    let found = alive.clone().find_map(|pod| complaint(pod, validated, now))?;
    // The kubelet tells the same failure in turns as an attempt and as the pause after it. What was said first stays, or
    // the status would change with every attempt.
    let said = before.iter().find(|condition| condition.type_ == STALLED && condition.reason == found.reason);
    Some(match said {
        Some(said) if found.stalled && is_same_failure(&found, said) => {
            Problem { message: said.message.clone(), ..found }
        }
        _ => found,
    })
}

/// Whether what was said tells of this failure too. What the kubelet says of one image is said in turns; more than one thing can
/// be missing, one after the other; and of a bucket the end of the sentence may hold the number of a request or the like.
fn is_same_failure(found: &Problem, said: &Condition) -> bool {
    let parts = match found.reason.as_str() {
        REFERENCE_NOT_FOUND => usize::MAX,
        bucket::BUCKET_UNUSABLE => 3,
        _ => 0,
    };
    said.message.split(": ").take(parts).eq(found.message.split(": ").take(parts))
}

fn complaint(pod: &ObservedPod, validated: &ValidatedRegistry, now: Timestamp) -> Option<Problem> {
    let container = container(&pod.pod);
    container
        .and_then(|container| waiting(container, validated))
        .or_else(|| container.and_then(|container| terminated(container, validated)))
        .or_else(|| pod.mount_failure.as_deref().and_then(|message| mount(message, validated)))
        .or_else(|| not_ready(pod))
        .or_else(|| unschedulable(&pod.pod, now))
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == "registry")
}

fn waiting(container: &ContainerStatus, validated: &ValidatedRegistry) -> Option<Problem> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let message = waiting.message.clone().unwrap_or_default();
    match waiting.reason.as_deref()? {
        reason @ ("ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull") => {
            let message = if message.is_empty() { reason.to_owned() } else { message };
            Some(Problem::stalled(
                "ImagePullFailed",
                format!(
                    "the image {} cannot be pulled; correct spec.image or its pullSecrets, or make the image available: {message}",
                    validated.image
                ),
            ))
        }
        reason @ ("CreateContainerConfigError" | "CreateContainerError" | "RunContainerError") => {
            let is_of_config = reason == "CreateContainerConfigError";
            let bucket = validated.bucket().filter(|_| is_of_config);
            let access_key = bucket.and_then(|bucket| bucket::access_key_missing(&message, bucket));
            Some(access_key.unwrap_or_else(|| {
                Problem::stalled("ContainerRefused", format!("the container cannot be created: {message}"))
            }))
        }
        _ => None,
    }
}

/// How often a container may be started again before a human is needed.
const PATIENCE: i32 = 3;

/// A container that ended although nobody told it to.
fn terminated(container: &ContainerStatus, validated: &ValidatedRegistry) -> Option<Problem> {
    if container.ready {
        return None;
    }
    let state = container.state.as_ref();
    let now = state.and_then(|state| state.terminated.as_ref());
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let ended = now.or(last).filter(|ended| ended.exit_code != 0)?;
    let log = ended.message.clone().unwrap_or_default();
    let said = log
        .lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty())
        .map_or_else(|| format!("it ended with code {} and said nothing", ended.exit_code), ToOwned::to_owned);
    if ended.reason.as_deref() == Some("OOMKilled") {
        return Some(Problem::stalled(
            "OutOfMemory",
            "the registry was killed for using more memory than it may; raise spec.podTemplate.resources.limits.memory",
        ));
    }
    if let Some(problem) = bucket::unusable(ended, &said, validated) {
        return Some(problem);
    }
    Some(
        if ["Permission denied", "Read-only file system", "os error 13", "os error 30"]
            .iter()
            .any(|sign| log.contains(sign))
        {
            Problem::stalled(
                "VolumeNotWritable",
                format!(
                    "the registry may not write to its volume; it runs as user and group 65532, and the volume must let them write (a CSI driver with fsGroup support does): {said}"
                ),
            )
        } else {
            let message = format!("the registry does not start: {said}");
            // It may have begun before what it reads was there. The kubelet begins it again at once, and again.
            Problem { stalled: container.restart_count >= PATIENCE, ..Problem::passing("RegistryFails", message) }
        },
    )
}

fn mount(message: &str, validated: &ValidatedRegistry) -> Option<Problem> {
    let missing = |name: &str| message.contains(&format!("\"{name}\" not found"));
    let absent = |field: &str, name: &str, what: &str| {
        Problem::stalled(
            REFERENCE_NOT_FOUND,
            format!("{field}: there is no Secret {name} in this namespace; create it {what}"),
        )
    };
    if let Some(problem) = validated.bucket().and_then(|bucket| bucket::authorities_missing(message, bucket)) {
        return Some(problem);
    }
    if let Some((name, key)) = &validated.htpasswd {
        if missing(name) {
            return Some(absent(
                "spec.access.htpasswd.secretRef",
                name,
                &format!("with the key {key}, an htpasswd file with bcrypt hashes"),
            ));
        }
        if message.contains("references non-existent secret key") {
            return Some(Problem::stalled(
                REFERENCE_NOT_FOUND,
                format!(
                    "spec.access.htpasswd.secretRef: the Secret {name} has no key {key}; add it, or write another key"
                ),
            ));
        }
    }
    match &validated.tls_secret {
        Some(name) if missing(name) => Some(absent("spec.tls.secretRef", name, "with the keys tls.crt and tls.key")),
        _ => None,
    }
}

fn not_ready(pod: &ObservedPod) -> Option<Problem> {
    let why = pod.report.as_ref()?.not_ready.as_ref()?;
    let storage = why.to_lowercase();
    let reason = if ["storage", "volume", "directory", "disk"].iter().any(|word| storage.contains(word)) {
        "StorageNotReady"
    } else {
        "RegistryNotReady"
    };
    Some(Problem::passing(reason, format!("the registry says: {why}")))
}

/// For how long a pod must not answer before it is news.
const SILENCE: Duration = Duration::from_secs(30);

/// That a pod which serves does not answer the operator; nothing when all do. Keys are replaced all the same, but later.
pub fn heard_finding(observed: &Observed) -> Option<Finding> {
    let silent = observed.ready_pods().find(|pod| pod.silence.is_some_and(|silence| silence >= SILENCE))?;
    let message = format!(
        "the pod {} serves, but does not answer the operator on port {HEALTH_PORT}, so that keys are replaced an hour late; let the operator's namespace reach that port (NetworkPolicy)",
        silent.pod.name_any()
    );
    Some(Finding::new("PodsHeard", false, "PodsNotHeard", message))
}

/// How long a pod may wait for a node before a human is needed: as long as a Deployment waits for its pods.
const SCHEDULING: SignedDuration = SignedDuration::from_mins(10);

fn unschedulable(pod: &Pod, now: Timestamp) -> Option<Problem> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let refused = conditions.iter().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    })?;
    let since = refused.last_transition_time.as_ref().map(|since| since.0);
    let message = format!("no node takes the pod: {}", refused.message.clone().unwrap_or_default());
    let stalled = since.is_some_and(|since| now >= since + SCHEDULING);
    Some(Problem { stalled, ..Problem::passing("Unschedulable", message) })
}
