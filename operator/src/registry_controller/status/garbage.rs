//! What a status says of garbage collections.

use berth_contract::status_report::CollectionReport;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Pass;
use crate::api::condition::Finding;
use crate::api::registry::GarbageCollectionStatus;

/// That the last collection ended well, or not. Before the first there is nothing to say.
pub const GARBAGE_COLLECTED: &str = "GarbageCollected";

/// Repositories that are named.
const NAMED: usize = 10;

/// What came of the last one that any pod tells of. Pods that have not heard of it tell of an earlier one.
pub fn status(pass: &Pass<'_>) -> Option<GarbageCollectionStatus> {
    let reports = pass.observed.pods.iter().filter_map(|pod| pod.report.as_ref()?.last_collection.as_ref());
    let newest = reports.max_by_key(|report| report.ended).map(of_report);
    let before = pass.before.garbage_collection.as_ref();
    match (newest, before) {
        (Some(newest), Some(before)) if newest.completion_time < before.completion_time => Some(before.clone()),
        (Some(newest), _) => Some(newest),
        (None, before) => before.cloned(),
    }
}

fn of_report(report: &CollectionReport) -> GarbageCollectionStatus {
    let time = |seconds: u64| {
        let seconds = i64::try_from(seconds).ok()?;
        Timestamp::from_second(seconds).ok().map(Time::from)
    };
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    GarbageCollectionStatus {
        start_time: time(report.began),
        completion_time: time(report.ended),
        dry_run: report.dry_run,
        manifests: number(report.manifests),
        blobs: number(report.blobs),
        bytes: number(report.bytes),
        left_alone: report.left_alone.iter().take(NAMED).cloned().collect(),
        error: report.error.clone(),
    }
}

/// [`GARBAGE_COLLECTED`].
pub fn finding(status: Option<&GarbageCollectionStatus>) -> Option<Finding> {
    let status = status?;
    Some(if let Some(error) = &status.error {
        let message = format!(
            "the last garbage collection ended early; what it deleted is gone, and the next one goes on where there is one: {error}"
        );
        Finding::new(GARBAGE_COLLECTED, false, "CollectionFailed", message)
    } else if let Some(damaged) = status.left_alone.first() {
        let message = format!(
            "nothing is collected of {damaged}, and perhaps others, because it holds a damaged manifest; `berth-registry check` names it, and when it is pushed again or deleted, collection goes on"
        );
        Finding::new(GARBAGE_COLLECTED, false, "ManifestsDamaged", message)
    } else if status.dry_run {
        Finding::new(GARBAGE_COLLECTED, true, "DryRun", "the last garbage collection only looked; see the pods' logs")
    } else {
        Finding::new(GARBAGE_COLLECTED, true, "Collected", "the last garbage collection ended well")
    })
}
