//! What is found is what the status says, and the same finding twice says the same.

mod bucket;

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

/// At this second its readiness changed last.
fn became_unready(pod: &mut ObservedPod, second: i64) {
    let conditions = json!([{"type": "Ready", "status": "False", "lastTransitionTime": at(second)}]);
    let status = Arc::make_mut(&mut pod.pod).status.get_or_insert_default();
    status.conditions = serde_json::from_value(conditions).unwrap();
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
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

fn said(status: &RegistryStatus, type_: &str) -> String {
    status.conditions.iter().find(|condition| condition.type_ == type_).unwrap().message.clone()
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
fn a_volume_that_cannot_be_used_says_why() {
    let last =
        "berth-registry: storage.filesystem.rootdirectory: several registries are to write to it, and: mount it so";
    let failed = json!({"terminated": {"exitCode": 74, "message": format!("{{}}\n{last}")}});
    let status = run(&minimal(), &observed(vec![started_again(3, &failed)], "Bound"), 0, &RegistryStatus::default());
    for (type_, truth) in [(STALLED, "True"), (READY, "False"), ("StorageReady", "False")] {
        assert_eq!(find(&status, type_), pair(truth, "VolumeUnusable"));
    }
    let said = &status.conditions.iter().find(|condition| condition.type_ == STALLED).unwrap().message;
    assert!(said.contains("cannot use its volume: storage.filesystem.rootdirectory: several"), "{said}");
}

#[test]
fn a_pod_that_was_ready_a_moment_ago_is_waited_for_however_often_it_was_started_again() {
    let mut failed = container(&json!({"terminated": {"exitCode": 1, "message": "no such file"}}));
    for (seconds, type_) in [(-59, RECONCILING), (-60, STALLED)] {
        became_unready(&mut failed, seconds);
        let status = run(&minimal(), &observed(vec![failed.clone()], "Bound"), 0, &RegistryStatus::default());
        assert_eq!(find(&status, type_), pair("True", "RegistryFails"), "{seconds}");
    }
}

#[test]
fn another_failure_of_the_same_kind_is_told_and_the_same_one_with_another_number_is_not() {
    let ends = |line: &str| container(&json!({"terminated": {"exitCode": 1, "message": line}}));
    let run = |pod, before: &RegistryStatus| run(&minimal(), &observed(vec![pod], "Bound"), 0, before);
    let first = run(ends("cannot open the file a after 12 ms"), &RegistryStatus::default());
    assert_eq!(run(ends("cannot open the file a after 9 ms"), &first), first);
    let other = run(ends("cannot open the file b after 9 ms"), &first);
    assert!(said(&other, STALLED).contains("the file b"), "{}", said(&other, STALLED));
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
    let mut spec = minimal();
    spec["image"] = json!({"tag": "another"});
    let another = run(&spec, &observed(vec![waiting("ErrImagePull", "not found")], "Bound"), 0, &second);
    assert!(said(&another, STALLED).starts_with("the image berth-registry:another "), "{}", said(&another, STALLED));
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
