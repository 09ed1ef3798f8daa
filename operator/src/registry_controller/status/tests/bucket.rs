//! Of Registries on a bucket.

use serde_json::{Value, json};

use super::super::*;
use super::{ObservedPod, at, became_unready, container, find, pair, pod, run, said};
use crate::registry_controller::sharing::Elder;

fn on_a_bucket() -> Value {
    json!({"storage": {"s3": {"bucket": "images", "prefix": "a", "credentialsSecretRef": {"name": "key"}, "endpoint": "https://s3.example", "caBundle": {"configMapKeyRef": {"name": "authority"}}}}})
}

fn without_claim(pods: Vec<ObservedPod>) -> Observed {
    Observed { pods, ..Default::default() }
}

#[test]
fn what_the_registry_says_of_its_bucket_is_what_the_conditions_say_until_it_says_something_else() {
    let ended = |code: i32, sentence: &str| {
        let log = format!("{{\"level\":\"INFO\"}}\nberth-registry: {sentence}\n");
        without_claim(vec![container(&json!({"terminated": {"exitCode": code, "message": log}}))])
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

/// One whose container ended because of the bucket.
fn unusable(times: i32, state: &Value, why: &str) -> ObservedPod {
    let message = format!("berth-registry: {why}\n");
    let status = json!({
        "name": "registry", "image": "", "imageID": "", "ready": false, "restartCount": times, "state": state,
        "lastState": {"terminated": {"exitCode": 74, "message": message}},
    });
    pod(&json!({"containerStatuses": [status]}))
}

#[test]
fn a_bucket_that_is_away_for_a_moment_needs_no_human() {
    let away = |times| {
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let mut pod = unusable(times, &waiting, "the store of the bucket images cannot be asked to write: refused");
        became_unready(&mut pod, -120);
        run(&on_a_bucket(), &without_claim(vec![pod]), 0, &RegistryStatus::default())
    };
    for times in 0..3 {
        let status = away(times);
        assert_eq!((find(&status, RECONCILING), find(&status, STALLED)), (pair("True", "BucketUnusable"), None));
        assert_eq!(find(&status, READY), pair("False", "BucketUnusable"));
        assert_eq!(find(&status, "StorageReady"), pair("False", "BucketUnusable"));
    }
    assert_eq!((find(&away(3), RECONCILING), find(&away(3), STALLED)), (None, pair("True", "BucketUnusable")));
}

#[test]
fn an_attempt_that_is_under_way_changes_nothing_and_one_that_got_further_does() {
    let running = |seconds: i64| json!({"running": {"startedAt": at(seconds)}});
    let away = "the store of the bucket images cannot be asked to write: refused";
    let run = |pod: &ObservedPod| run(&on_a_bucket(), &without_claim(vec![pod.clone()]), 0, &RegistryStatus::default());
    let mut pod = unusable(3, &running(-10), away);
    became_unready(&mut pod, -100);
    assert_eq!(find(&run(&pod), STALLED), pair("True", "BucketUnusable"), "it has not been ready since");
    became_unready(&mut pod, -5);
    assert_eq!(find(&run(&pod), READY), pair("False", "PodsNotReady"), "it was ready meanwhile");
    became_unready(&mut pod, -100);
    pod.report = Some(serde_json::from_value(json!({"storage": {}})).unwrap());
    assert_eq!(find(&run(&pod), READY), pair("False", "PodsNotReady"), "it has its bucket");
}

#[test]
fn another_obstacle_is_told_whatever_it_shares_with_the_one_before() {
    let given = "the platform gives no credentials: give some, or let the platform know who this is";
    let ended = |why: &str| without_claim(vec![unusable(3, &json!({}), &format!("{given}: {why}"))]);
    let mut spec = on_a_bucket();
    let first = run(&spec, &ended("no answer from 169.254.169.254 in 3 s"), 0, &RegistryStatus::default());
    assert_eq!(run(&spec, &ended("no answer from 169.254.169.254 in 4 s"), 0, &first), first);
    let second = run(&spec, &ended("AccessDenied: not to assume the role"), 0, &first);
    assert!(said(&second, STALLED).contains(": AccessDenied: "), "{}", said(&second, STALLED));
    spec["storage"]["s3"]["credentialsSecretRef"]["name"] = json!("key2");
    let third = run(&spec, &ended("AccessDenied: not to assume the role"), 0, &second);
    assert!(said(&third, STALLED).contains("the Secret key2;"), "{}", said(&third, STALLED));
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

fn on_azure() -> Value {
    let container = json!({"accountName": "berth", "container": "images", "credentialsSecretRef": {"name": "key"}});
    json!({"storage": {"azure": container}})
}

fn on_google() -> Value {
    json!({"storage": {"gcs": {"bucket": "images", "prefix": "a", "credentialsSecretRef": {"name": "key"}}}})
}

#[test]
fn where_the_bytes_are_is_told_in_the_words_of_each_provider() {
    let storage = |spec: &Value| {
        let status = run(spec, &without_claim(Vec::new()), 0, &RegistryStatus::default());
        let retained = status.retained.first().map(|kept| format!("{} {}", kept.kind, kept.name)).unwrap();
        (serde_json::to_value(status.storage).unwrap(), retained)
    };
    let azure = json!({"type": "Azure", "accountName": "berth", "container": "images"});
    assert_eq!(storage(&on_azure()), (azure, "Container berth/images".into()));
    let google = json!({"type": "GCS", "bucket": "images", "prefix": "a"});
    assert_eq!(storage(&on_google()), (google, "Bucket images/a".into()));
}

#[test]
fn credentials_of_any_provider_that_are_missing_or_wrong_are_named_by_their_field() {
    let no_key =
        |message: &str| container(&json!({"waiting": {"reason": "CreateContainerConfigError", "message": message}}));
    let no_file = |message: &str| ObservedPod {
        mount_failure: Some(format!("MountVolume.SetUp failed for volume \"bucket-key\" : {message}")),
        ..pod(&json!({}))
    };
    for (spec, pod, sentence) in [
        (
            on_azure(),
            no_key("secret \"key\" not found"),
            "spec.storage.azure.credentialsSecretRef: the pods need the Secret key of this namespace with the key AZURE_STORAGE_KEY; ",
        ),
        (
            on_azure(),
            no_key("couldn't find key AZURE_STORAGE_KEY in Secret team-a/key"),
            "spec.storage.azure.credentialsSecretRef: ",
        ),
        (
            on_google(),
            no_file("secret \"key\" not found"),
            "spec.storage.gcs.credentialsSecretRef: the pods need the Secret key of this namespace with the key key.json; ",
        ),
        (
            on_google(),
            no_file("references non-existent secret key: key.json"),
            "spec.storage.gcs.credentialsSecretRef: ",
        ),
    ] {
        let status = run(&spec, &without_claim(vec![pod]), 0, &RegistryStatus::default());
        assert_eq!(find(&status, STALLED), pair("True", "ReferenceNotFound"));
        assert!(said(&status, STALLED).starts_with(sentence), "{}", said(&status, STALLED));
    }
    for (spec, whose) in [(on_azure(), "fields of spec.storage.azure, "), (on_google(), "fields of spec.storage.gcs, ")]
    {
        let status = run(&spec, &without_claim(vec![unusable(3, &json!({}), "why")]), 0, &RegistryStatus::default());
        assert!(said(&status, STALLED).contains(whose), "{}", said(&status, STALLED));
    }
}

#[test]
fn an_older_registry_in_the_same_place_is_told_of_to_whoever_has_shown_that_the_bucket_is_theirs() {
    let elder = |hours: u64| {
        let elder = Elder {
            namespace: "team-b".into(),
            name: "old".into(),
            grace: Some(berth_contract::Duration::from_hours(hours)),
        };
        Observed { elder: Some(elder), ..without_claim(Vec::new()) }
    };
    let run = |observed: &Observed, before: &RegistryStatus| run(&on_google(), observed, 1, before);
    let stranger = run(&elder(24), &RegistryStatus::default());
    assert_eq!(find(&stranger, "StorageShared"), None);
    let report = serde_json::from_value(json!({"storage": {}})).unwrap();
    let serves = ObservedPod { report: Some(report), ..pod(&json!({})) };
    let found = run(&Observed { pods: vec![serves], ..elder(24) }, &stranger);
    assert_eq!(find(&found, "StorageShared"), pair("True", "SamePlace"));
    let message = said(&found, "StorageShared");
    assert!(
        message.starts_with("a Registry of another namespace is older") && !message.contains("team-b"),
        "{message}"
    );
    assert_eq!((find(&found, READY), find(&found, STALLED)), (pair("True", "Serving"), None));
    assert_eq!(find(&run(&elder(48), &found), "StorageShared"), pair("True", "GraceDiffers"));
    assert_eq!(find(&run(&without_claim(Vec::new()), &found), "StorageShared"), None);
}
