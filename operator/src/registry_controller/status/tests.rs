//! What is found is what the status says, and the same finding twice says the same.

use serde_json::{Value, json};

use super::*;
use crate::registry_controller::build::tests::{registry, settings};
use crate::registry_controller::dereference::{ObservedPod, StorageClassState};
use crate::registry_controller::validate;

fn pod(status: &Value) -> ObservedPod {
    let pod = json!({"metadata": {"name": "p", "uid": "p"}, "status": status});
    ObservedPod {
        pod: Arc::new(serde_json::from_value(pod).unwrap()),
        report: None,
        silence: None,
        mount_failure: None,
    }
}

fn container(state: &Value) -> ObservedPod {
    started_again(3, state)
}

fn started_again(times: i32, state: &Value) -> ObservedPod {
    let status =
        json!({"name": "registry", "image": "", "imageID": "", "ready": false, "restartCount": times, "state": state});
    pod(&json!({"containerStatuses": [status]}))
}

fn deployment(ready: i32) -> Option<Arc<Deployment>> {
    let deployment = json!({
        "metadata": {"generation": 1}, "spec": {"replicas": 1, "selector": {}, "template": {}},
        "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": ready},
    });
    Some(Arc::new(serde_json::from_value(deployment).unwrap()))
}

fn observed(pods: Vec<ObservedPod>, claim: &str) -> Observed {
    let claim = json!({"metadata": {"name": "images-data"}, "status": {"phase": claim}});
    Observed { claim: Some(Arc::new(serde_json::from_value(claim).unwrap())), pods, ..Default::default() }
}

fn run(spec: &Value, observed: &Observed, ready: i32, before: &RegistryStatus) -> RegistryStatus {
    run_with(spec, observed, deployment(ready), before)
}

fn run_with(
    spec: &Value,
    observed: &Observed,
    deployment: Option<Arc<Deployment>>,
    before: &RegistryStatus,
) -> RegistryStatus {
    let registry = registry(spec);
    let validated = validate::validate(&registry, observed, &settings());
    status(&Pass {
        registry: &registry,
        before,
        observed,
        validated: validated.as_ref(),
        problem: None,
        keyring: None,
        deployment,
        agents: true,
        nodes: None,
        nodes_untold: None,
        now: Timestamp::UNIX_EPOCH,
    })
}

fn minimal() -> Value {
    json!({"storage": {"persistentVolumeClaim": {"size": "1Gi"}}})
}

fn find(status: &RegistryStatus, type_: &str) -> Option<(String, String)> {
    let condition = status.conditions.iter().find(|condition| condition.type_ == type_)?;
    Some((condition.status.clone(), condition.reason.clone()))
}

fn pair(truth: &str, reason: &str) -> Option<(String, String)> {
    Some((truth.into(), reason.into()))
}

#[test]
fn at_rest_there_is_nothing_but_ready() {
    let status = run(&minimal(), &observed(Vec::new(), "Bound"), 1, &RegistryStatus::default());
    assert_eq!(find(&status, READY), pair("True", "Serving"));
    assert_eq!((find(&status, RECONCILING), find(&status, STALLED)), (None, None));
    let again = run(&minimal(), &observed(Vec::new(), "Bound"), 1, &status);
    assert_eq!(status, again, "nothing ticks");
}

#[test]
fn each_complaint_has_its_reason() {
    let ended = |text: &str| json!({"terminated": {"exitCode": 1, "message": text}});
    for (state, reason) in [
        (json!({"waiting": {"reason": "ErrImagePull", "message": "no such host"}}), "ImagePullFailed"),
        (json!({"waiting": {"reason": "CreateContainerConfigError", "message": "m"}}), "ContainerRefused"),
        (ended("{}\nerror: /var/lib/registry: Permission denied (os error 13)"), "VolumeNotWritable"),
        (ended("unknown key"), "RegistryFails"),
        (json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}), "OutOfMemory"),
    ] {
        let status = run(&minimal(), &observed(vec![container(&state)], "Bound"), 0, &RegistryStatus::default());
        assert_eq!(find(&status, STALLED), pair("True", reason), "{state}");
        assert_eq!(find(&status, READY), pair("False", reason));
        assert_eq!(find(&status, RECONCILING), None);
    }
}

#[test]
fn a_registry_that_fails_at_its_start_needs_a_human_after_the_third_time() {
    let failed = json!({"terminated": {"exitCode": 1, "message": "no such file"}});
    for (times, type_, other) in [(0, RECONCILING, STALLED), (2, RECONCILING, STALLED), (3, STALLED, RECONCILING)] {
        let observed = observed(vec![started_again(times, &failed)], "Bound");
        let status = run(&minimal(), &observed, 0, &RegistryStatus::default());
        assert_eq!(find(&status, type_), pair("True", "RegistryFails"), "{times}");
        assert_eq!(find(&status, other), None, "{times}");
    }
}

#[test]
fn what_waits_for_longer_than_a_deployment_does_needs_a_human() {
    let unscheduled = |since: i64| {
        let since = Timestamp::from_second(since).unwrap();
        let refused =
            json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": since});
        observed(vec![pod(&json!({"conditions": [refused]}))], "Bound")
    };
    let observed = unscheduled(-60);
    let progressing = |progressing: &str| {
        let mut deployment = serde_json::to_value(deployment(0).unwrap().as_ref()).unwrap();
        deployment["status"]["conditions"] = json!([{"type": "Progressing", "status": progressing, "message": "late"}]);
        Some(Arc::new(serde_json::from_value(deployment).unwrap()))
    };
    let status = run_with(&minimal(), &observed, progressing("True"), &RegistryStatus::default());
    assert_eq!(find(&status, RECONCILING), pair("True", "Unschedulable"));
    let status = run_with(&minimal(), &observed, progressing("False"), &RegistryStatus::default());
    assert_eq!(find(&status, STALLED), pair("True", "Unschedulable"), "the pod says more than the Deployment");
    let status = run_with(&minimal(), &unscheduled(-600), deployment(0), &RegistryStatus::default());
    assert_eq!(
        find(&status, STALLED),
        pair("True", "Unschedulable"),
        "a Deployment that was complete once never gives up"
    );
}

#[test]
fn a_pass_that_failed_is_told_beside_what_was_known() {
    let before = run(&minimal(), &observed(Vec::new(), "Bound"), 1, &RegistryStatus::default());
    let problem = Problem::passing("ReconcileFailed", "no answer");
    let after = failed(&registry(&minimal()), &before, &problem, Timestamp::UNIX_EPOCH);
    assert_eq!(find(&after, READY), pair("True", "Serving"), "pods go on serving");
    assert_eq!(find(&after, RECONCILING), pair("True", "ReconcileFailed"));
    assert_eq!(failed(&registry(&minimal()), &after, &problem, Timestamp::UNIX_EPOCH), after, "once");
    let next = run(&minimal(), &observed(Vec::new(), "Bound"), 1, &after);
    assert_eq!(next, before, "and forgotten");
}

#[test]
fn a_pod_that_serves_and_does_not_answer_is_named() {
    let silent = |seconds: Option<u64>| ObservedPod {
        silence: seconds.map(std::time::Duration::from_secs),
        ..pod(&json!({"conditions": [{"type": "Ready", "status": "True"}]}))
    };
    let run = |pod| run(&minimal(), &observed(vec![pod], "Bound"), 1, &RegistryStatus::default());
    assert_eq!(find(&run(silent(Some(60))), "PodsHeard"), pair("False", "PodsNotHeard"));
    assert_eq!(find(&run(silent(Some(0))), "PodsHeard"), None, "one question missed is no news");
    assert_eq!(find(&run(silent(None)), "PodsHeard"), None);
}

#[test]
fn an_image_that_cannot_be_pulled_says_the_same_between_attempts() {
    let waiting = |reason: &str, message: &str| container(&json!({"waiting": {"reason": reason, "message": message}}));
    let first = observed(vec![waiting("ErrImagePull", "dial tcp")], "Bound");
    let first = run(&minimal(), &first, 0, &RegistryStatus::default());
    let second = run(&minimal(), &observed(vec![waiting("ImagePullBackOff", "Back-off")], "Bound"), 0, &first);
    assert_eq!(first, second);
}

#[test]
fn a_secret_that_is_missing_is_named_by_the_field_that_refers_to_it() {
    let mut pod = pod(&json!({}));
    pod.mount_failure = Some("MountVolume.SetUp failed for volume \"users\" : secret \"people\" not found".into());
    let mut spec = minimal();
    spec["access"] = json!({"htpasswd": {"secretRef": {"name": "people"}}});
    let status = run(&spec, &observed(vec![pod], "Bound"), 0, &RegistryStatus::default());
    assert_eq!(find(&status, STALLED), pair("True", "ReferenceNotFound"));
    let stalled = status.conditions.iter().find(|condition| condition.type_ == STALLED).unwrap();
    assert!(stalled.message.contains("spec.access.htpasswd.secretRef"), "{}", stalled.message);
}

#[test]
fn a_volume_that_does_not_come_says_why() {
    for (class, reason) in
        [(StorageClassState::NoDefault, "NoDefaultStorageClass"), (StorageClassState::NotFound, "StorageClassNotFound")]
    {
        let observed = Observed { storage_class: class, ..observed(Vec::new(), "Pending") };
        let status = run(&minimal(), &observed, 0, &RegistryStatus::default());
        assert_eq!(find(&status, STALLED), pair("True", reason));
        assert_eq!(find(&status, "StorageReady"), pair("False", reason));
    }
    let status = run(&minimal(), &observed(Vec::new(), "Pending"), 0, &RegistryStatus::default());
    assert_eq!(find(&status, "StorageReady"), pair("False", "ClaimPending"));
}

#[test]
fn a_suspended_registry_says_so_whether_it_serves_or_was_never_made() {
    let mut spec = minimal();
    spec["suspend"] = json!(true);
    let serving = run(&spec, &observed(Vec::new(), "Bound"), 1, &RegistryStatus::default());
    assert_eq!(
        (find(&serving, "Suspended"), find(&serving, READY)),
        (pair("True", "Suspended"), pair("True", "Serving"))
    );
    let never = run_with(&spec, &Observed::default(), None, &RegistryStatus::default());
    assert_eq!(find(&never, READY), pair("False", "Suspended"));
    assert_eq!(find(&never, "NodesReady"), pair("Unknown", "NotLookedAt"), "there are agents");
    assert_eq!((find(&never, RECONCILING), find(&never, STALLED)), (None, None));
}

#[test]
fn a_refusal_stalls_and_serving_pods_stay_ready() {
    let mut spec = minimal();
    spec["replicas"] = json!(2);
    let status = run(&spec, &observed(Vec::new(), "Bound"), 1, &RegistryStatus::default());
    assert_eq!(find(&status, STALLED), pair("True", "VolumeNotShared"));
    assert_eq!(find(&status, READY), pair("True", "Serving"));
}

fn told(report: &Value) -> ObservedPod {
    let report = serde_json::from_value(json!({"lastCollection": report})).unwrap();
    ObservedPod { report: Some(report), ..pod(&json!({})) }
}

#[test]
fn the_newest_collection_that_any_pod_tells_of_is_told_and_stays() {
    let pods = vec![
        told(&json!({"began": 50, "ended": 60, "blobs": 1})),
        told(&json!({"began": 100, "ended": 110, "blobs": 2})),
    ];
    let status = run(&minimal(), &observed(pods, "Bound"), 1, &RegistryStatus::default());
    assert_eq!(find(&status, "GarbageCollected"), pair("True", "Collected"));
    let collection = status.garbage_collection.clone().unwrap();
    assert_eq!((collection.blobs, collection.completion_time.unwrap().0.as_second()), (2, 110));
    for pods in [Vec::new(), vec![told(&json!({"began": 50, "ended": 60, "blobs": 1}))]] {
        let again = run(&minimal(), &observed(pods, "Bound"), 1, &status);
        assert_eq!(again.garbage_collection, status.garbage_collection, "who knows less changes nothing");
    }
    let none = run(&minimal(), &observed(Vec::new(), "Bound"), 1, &RegistryStatus::default());
    assert_eq!((&none.garbage_collection, find(&none, "GarbageCollected")), (&None, None));
}

#[test]
fn a_collection_that_failed_or_left_something_alone_is_a_condition_and_no_obstacle() {
    for (report, reason) in [
        (json!({"ended": 1, "error": "cannot list"}), "CollectionFailed"),
        (json!({"ended": 1, "leftAlone": ["a", "b"]}), "ManifestsDamaged"),
    ] {
        let status = run(&minimal(), &observed(vec![told(&report)], "Bound"), 1, &RegistryStatus::default());
        assert_eq!(find(&status, "GarbageCollected"), pair("False", reason));
        assert_eq!((find(&status, READY), find(&status, STALLED)), (pair("True", "Serving"), None));
    }
}

fn on_a_bucket() -> Value {
    json!({"storage": {"s3": {"bucket": "images", "prefix": "a", "credentialsSecretRef": {"name": "key"}, "endpoint": "https://s3.example", "caBundle": {"configMapKeyRef": {"name": "authority"}}}}})
}

fn without_claim(pods: Vec<ObservedPod>) -> Observed {
    Observed { pods, ..Default::default() }
}

fn said(status: &RegistryStatus, type_: &str) -> String {
    status.conditions.iter().find(|condition| condition.type_ == type_).unwrap().message.clone()
}

#[test]
fn what_the_registry_says_of_its_bucket_is_what_the_conditions_say_until_it_says_something_else() {
    let ended = |code: i32, sentence: &str| {
        let log = format!("{{\"level\":\"INFO\"}}\nberth-registry: {sentence}\n");
        without_claim(vec![started_again(0, &json!({"terminated": {"exitCode": code, "message": log}}))])
    };
    let run = |observed: &Observed, before: &RegistryStatus| run(&on_a_bucket(), observed, 0, before);
    let refuses = |id: u32| ended(74, &format!("the store refuses to write in the bucket images: Odd: request {id}"));
    let first = run(&refuses(1), &RegistryStatus::default());
    for type_ in [READY, "StorageReady"] {
        assert_eq!(find(&first, type_), pair("False", "BucketUnusable"));
    }
    assert_eq!(find(&first, STALLED), pair("True", "BucketUnusable"));
    let says = "the registry cannot use its bucket: the store refuses to write in the bucket images: Odd: request 1. In the Registry";
    assert!(said(&first, STALLED).starts_with(says), "{}", said(&first, STALLED));
    assert!(said(&first, STALLED).contains("the Secret key;"), "{}", said(&first, STALLED));
    assert_eq!(run(&refuses(2), &first), first, "the same but for the request's number is no news");
    let other = run(&ended(74, "there is no bucket images: create it, or correct storage.s3.bucket"), &first);
    assert!(said(&other, STALLED).contains("there is no bucket images: create it"), "{}", said(&other, STALLED));
    assert_eq!(said(&other, STALLED), said(&other, "StorageReady"));
    let silent = |how: &str| ended(74, &format!("the store of the bucket images cannot be asked to write: {how}"));
    let unheard = run(&silent("deadline has elapsed"), &other);
    assert!(said(&unheard, STALLED).contains("asked to write: no answer in time."), "{}", said(&unheard, STALLED));
    assert_eq!(run(&silent("operation timed out"), &unheard), unheard);
    let elsewhere = run(&ended(1, "http.addr: cannot listen"), &other);
    assert_eq!(find(&elsewhere, READY), pair("False", "RegistryFails"), "it ended for another reason");
}

#[test]
fn what_the_pods_found_in_the_bucket_is_told_and_stays_while_none_tells() {
    let told = |conditional: bool| {
        let report = json!({"storage": {"conditionalOverwrite": conditional}});
        ObservedPod { report: Some(serde_json::from_value(report).unwrap()), ..pod(&json!({})) }
    };
    let run = |pods, before: &RegistryStatus| run(&on_a_bucket(), &without_claim(pods), 1, before);
    let unknown = run(vec![pod(&json!({}))], &RegistryStatus::default());
    assert_eq!(find(&unknown, "StorageReady"), pair("Unknown", "NotLookedAt"));
    let kept = run(vec![told(true), pod(&json!({}))], &unknown);
    assert_eq!(find(&kept, "StorageReady"), pair("True", "Probed"));
    let storage = kept.storage.clone().unwrap();
    assert_eq!((storage.type_, storage.bucket.as_deref()), (crate::api::registry::StorageType::S3, Some("images")));
    assert_eq!((storage.prefix.as_deref(), storage.conditional_overwrite), (Some("a"), Some(true)));
    assert_eq!(run(Vec::new(), &kept), kept);
    let broken = run(vec![told(true), told(false)], &kept);
    assert_eq!(find(&broken, "StorageReady"), pair("True", "OverwritesUnconditional"));
    assert_eq!(broken.storage.unwrap().conditional_overwrite, Some(false), "one that saw otherwise is believed");
    let retained: Vec<_> = kept.retained.iter().map(|kept| (kept.kind.as_str(), kept.name.as_str())).collect();
    assert_eq!(retained, [("Bucket", "images/a")]);
}

#[test]
fn a_key_or_an_authority_of_the_bucket_that_is_missing_is_named_by_its_field() {
    let mut unmounted = pod(&json!({}));
    unmounted.mount_failure =
        Some("MountVolume.SetUp failed for volume \"bucket\" : configmap \"authority\" not found".into());
    let no_secret = json!({"waiting": {"reason": "CreateContainerConfigError", "message": "secret \"key\" not found"}});
    let mut before = RegistryStatus::default();
    for (pod, field) in [
        (unmounted, "spec.storage.s3.caBundle.configMapKeyRef: "),
        (container(&no_secret), "spec.storage.s3.credentialsSecretRef: "),
    ] {
        before = run(&on_a_bucket(), &without_claim(vec![pod]), 0, &before);
        assert_eq!(find(&before, STALLED), pair("True", "ReferenceNotFound"));
        assert!(said(&before, STALLED).starts_with(field), "{}", said(&before, STALLED));
    }
}
