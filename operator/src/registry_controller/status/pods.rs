//! What the pods complain of, in words that say what to do.

use std::time::Duration;

use berth_contract::exit_code::UNFIT_STORAGE;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::{Problem, RECONCILING, STALLED, bucket};
use crate::api::condition::Finding;
use crate::registry_controller::build::HEALTH_PORT;
use crate::registry_controller::dereference::{Observed, ObservedPod};
use crate::registry_controller::validate::ValidatedRegistry;

/// Something that the Registry refers to is not there.
pub const REFERENCE_NOT_FOUND: &str = "ReferenceNotFound";
const IMAGE_PULL_FAILED: &str = "ImagePullFailed";
const REGISTRY_FAILS: &str = "RegistryFails";
/// The pods may not write to the volume.
pub const VOLUME_NOT_WRITABLE: &str = "VolumeNotWritable";
/// The pods cannot serve from the volume.
pub const VOLUME_UNUSABLE: &str = "VolumeUnusable";

/// The first complaint, of the newest pod first: it is the one that runs what was asked for last.
pub fn problem(
    observed: &Observed,
    validated: &ValidatedRegistry,
    before: &[Condition],
    now: Timestamp,
) -> Option<Problem> {
    let alive = observed.pods.iter().rev().filter(|pod| pod.pod.metadata.deletion_timestamp.is_none());
    let found = alive.clone().find_map(|pod| complaint(pod, validated, now))?;
    // What was said first of a failure stays, or the status would change with every attempt.
    let said = before.iter().find(|condition| {
        [STALLED, RECONCILING].contains(&condition.type_.as_str()) && condition.reason == found.reason
    });
    Some(match said {
        Some(said) if is_same_failure(&found, &said.message) => Problem { message: said.message.clone(), ..found },
        _ => found,
    })
}

/// Whether what was said tells of this failure too. The kubelet tells of one image in turns as an attempt and as the pause after
/// it; what a registry says when it ends is the same but for numbers; and more than one thing can be missing, one after the other.
fn is_same_failure(found: &Problem, said: &str) -> bool {
    let of_the_image = |message: &str| message.split(": ").next().map(ToOwned::to_owned);
    match found.reason.as_str() {
        IMAGE_PULL_FAILED => of_the_image(&found.message) == of_the_image(said),
        REFERENCE_NOT_FOUND => found.message == said,
        bucket::BUCKET_UNUSABLE => bucket::is_same_failure(&found.message, said),
        REGISTRY_FAILS | VOLUME_UNUSABLE => without_numbers(&found.message).eq(without_numbers(said)),
        _ => found.stalled,
    }
}

/// The words of a sentence without those that differ each time that it is said: the number of a request, a time, a port.
pub fn without_numbers(sentence: &str) -> impl Iterator<Item = &str> {
    sentence.split_whitespace().filter(|word| !word.contains(|letter: char| letter.is_ascii_digit()))
}

fn complaint(pod: &ObservedPod, validated: &ValidatedRegistry, now: Timestamp) -> Option<Problem> {
    let container = container(&pod.pod);
    container
        .and_then(|container| waiting(container, validated))
        .or_else(|| container.and_then(|container| terminated(pod, container, validated, now)))
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
                IMAGE_PULL_FAILED,
                format!(
                    "the image {} cannot be pulled; correct spec.image or its pullSecrets, or make the image available: {message}",
                    validated.image
                ),
            ))
        }
        reason @ ("CreateContainerConfigError" | "CreateContainerError" | "RunContainerError") => {
            let is_of_config = reason == "CreateContainerConfigError";
            let bucket = validated.bucket().filter(|_| is_of_config);
            let missing = bucket.and_then(|bucket| bucket::credentials_missing(&message, bucket));
            Some(missing.unwrap_or_else(|| {
                Problem::stalled("ContainerRefused", format!("the container cannot be created: {message}"))
            }))
        }
        _ => None,
    }
}

/// How often a container may be started again before a human is needed, and for how long its pod may not be ready: a kubelet may
/// be quick, and a pod that has served for long may have been started again at other times.
const PATIENCE: (i32, SignedDuration) = (3, SignedDuration::from_mins(1));

/// Whether what a start failed for has had the time to pass by itself: a store that is being restarted, a network policy that is
/// not in force yet, a file that comes a moment later. The kubelet begins the container again at once, and again.
fn is_out_of_patience(pod: &Pod, container: &ContainerStatus, now: Timestamp) -> bool {
    let (times, time) = PATIENCE;
    container.restart_count >= times && readiness_changed(pod).is_none_or(|since| now >= since + time)
}

/// Since when the pod is as ready as it is.
fn readiness_changed(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
    ready.last_transition_time.as_ref().map(|changed| changed.0)
}

/// How the container ended, unless it runs and has got further than that. One that runs and has not is at its next attempt: what
/// the last one failed for is still the news.
fn failed_start<'a>(pod: &ObservedPod, container: &'a ContainerStatus) -> Option<&'a ContainerStateTerminated> {
    let state = container.state.as_ref();
    if let Some(running) = state.and_then(|state| state.running.as_ref()) {
        let begun = running.started_at.as_ref().map(|begun| begun.0);
        let was_ready = begun.zip(readiness_changed(&pod.pod)).is_some_and(|(begun, changed)| changed > begun);
        let has_storage = pod.report.as_ref().is_some_and(|report| report.storage.is_some());
        if container.ready || was_ready || has_storage {
            return None;
        }
    }
    let now = state.and_then(|state| state.terminated.as_ref());
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    now.or(last).filter(|ended| ended.exit_code != 0)
}

/// A container that ended although nobody told it to.
fn terminated(
    pod: &ObservedPod,
    container: &ContainerStatus,
    validated: &ValidatedRegistry,
    now: Timestamp,
) -> Option<Problem> {
    let ended = failed_start(pod, container)?;
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
    let stalled = is_out_of_patience(&pod.pod, container, now);
    if let Some(problem) = bucket::unusable(ended, &said, validated) {
        return Some(Problem { stalled, ..problem });
    }
    Some(
        if ["Permission denied", "Read-only file system", "os error 13", "os error 30"]
            .iter()
            .any(|sign| log.contains(sign))
        {
            Problem::stalled(
                VOLUME_NOT_WRITABLE,
                format!(
                    "the registry may not write to its volume; it runs as user and group 65532, and the volume must let them write (a CSI driver with fsGroup support does): {said}"
                ),
            )
        } else if ended.exit_code == i32::from(UNFIT_STORAGE) {
            let said = said.strip_prefix("berth-registry: ").unwrap_or(&said);
            let message = format!("the registry cannot use its volume: {said}");
            Problem { stalled, ..Problem::passing(VOLUME_UNUSABLE, message) }
        } else {
            let message = format!("the registry does not start: {said}");
            Problem { stalled, ..Problem::passing(REGISTRY_FAILS, message) }
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
    let of_the_bucket =
        |bucket| bucket::authorities_missing(message, bucket).or_else(|| bucket::credentials_missing(message, bucket));
    if let Some(problem) = validated.bucket().and_then(of_the_bucket) {
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
