//! What a status says of the bucket: what the pods found in it when they started, or why they did not.

use berth_contract::exit_code::UNFIT_STORAGE;
use k8s_openapi::api::core::v1::ContainerStateTerminated;

use super::{Pass, Problem, pods};
use crate::api::condition::{Finding, Truth};
use crate::registry_controller::validate::{Authorities, Credentials, Given, ValidatedBucket, ValidatedRegistry};

/// The pods cannot serve from the bucket.
pub const BUCKET_UNUSABLE: &str = "BucketUnusable";

/// Stands between what the registry says and what the operator adds.
const IN_THE_REGISTRY: &str = ". In the Registry ";

/// What clients say of one and the same silence, now so, now so.
const TIMEOUTS: [&str; 2] = ["deadline has elapsed", "operation timed out"];

/// Whether overwrites are conditional, as every pod that told says: one that saw otherwise is believed. What was known before
/// stays while none tells.
pub fn conditional_overwrite(pass: &Pass<'_>) -> Option<bool> {
    let told = pass.observed.pods.iter().filter_map(|pod| pod.report.as_ref()?.storage);
    told.map(|storage| storage.conditional_overwrite)
        .min()
        .or_else(|| pass.before.storage.as_ref().and_then(|storage| storage.conditional_overwrite))
}

/// `StorageReady`, where the bytes are in a bucket.
pub fn finding(pass: &Pass<'_>, validated: &ValidatedRegistry) -> Finding {
    let type_ = "StorageReady";
    let problem = pods::problem(pass.observed, validated, &pass.before.conditions, pass.now);
    if let Some(problem) = problem.filter(|problem| problem.reason == BUCKET_UNUSABLE) {
        return Finding::new(type_, false, &problem.reason, problem.message);
    }
    match conditional_overwrite(pass) {
        None => Finding::new(type_, Truth::Unknown, "NotLookedAt", "no pod has looked at the bucket yet"),
        Some(true) => Finding::new(
            type_,
            true,
            "Probed",
            "the bucket keeps what a registry relies on, as far as trying can show: writes, reads, lists, deletions, uploads in parts, writes on a condition",
        ),
        Some(false) => Finding::new(
            type_,
            true,
            "OverwritesUnconditional",
            "the store ignores the condition of a write (If-Match), or looks first and writes afterwards: a tag that is written in the moment in which the image is deleted that it named before may be lost; all else holds",
        ),
    }
}

/// Why a container that ended could not use the bucket. The registry's last line says it; its exit code, that it is about that.
pub fn unusable(ended: &ContainerStateTerminated, said: &str, validated: &ValidatedRegistry) -> Option<Problem> {
    let bucket = validated.bucket().filter(|_| ended.exit_code == i32::from(UNFIT_STORAGE))?;
    let said = said.strip_prefix("berth-registry: ").unwrap_or(said);
    let said = TIMEOUTS.iter().fold(said.to_owned(), |said, timeout| said.replace(timeout, "no answer in time"));
    let field = bucket.field();
    let whose = match &bucket.credentials {
        Some(credentials) => format!("the credentials are those of the Secret {}", credentials.secret),
        None => {
            "without credentialsSecretRef the platform must give pods credentials, or asking it is what fails".into()
        }
    };
    Some(Problem::passing(
        BUCKET_UNUSABLE,
        format!(
            "the registry cannot use its bucket: {said}{IN_THE_REGISTRY}these are fields of {field}, and {whose}; the pods try again by themselves, every five minutes at the latest"
        ),
    ))
}

/// Whether two messages tell of the same: of what the store says, the numbers may be those of one request.
pub fn is_same_failure(found: &str, said: &str) -> bool {
    let parts = |message| str::split_once(message, IN_THE_REGISTRY).unwrap_or((message, ""));
    let ((found, ours), (said, before)) = (parts(found), parts(said));
    ours == before && pods::without_numbers(found).eq(pods::without_numbers(said))
}

/// That the Secret with the credentials, or a key in it, is not there: the kubelet cannot make the container's environment, or
/// cannot mount the file.
pub fn credentials_missing(kubelet_says: &str, bucket: &ValidatedBucket) -> Option<Problem> {
    let credentials = bucket.credentials.as_ref()?;
    let Credentials { secret, given } = credentials;
    let is_missing = match given {
        Given::Variables(_) => [format!("secret \"{secret}\" not found"), format!("/{secret}")]
            .iter()
            .any(|sign| kubelet_says.contains(sign)),
        Given::File(_) => is_not_mounted(kubelet_says, "bucket-key"),
    };
    let (field, keys) = (bucket.field(), credentials.keys());
    let what = if keys.len() == 1 { "the key" } else { "the keys" };
    is_missing.then(|| {
        Problem::stalled(
            pods::REFERENCE_NOT_FOUND,
            format!(
                "{field}.credentialsSecretRef: the pods need the Secret {secret} of this namespace with {what} {}; create it, or add what is missing: {kubelet_says}",
                keys.join(" and ")
            ),
        )
    })
}

/// Whether the kubelet says that what a volume is made of is not there. A cache that is not filled yet says other things, and gets
/// over it.
fn is_not_mounted(kubelet_says: &str, volume: &str) -> bool {
    let is_missing = kubelet_says.contains("not found") || kubelet_says.contains("references non-existent");
    is_missing && kubelet_says.contains(&format!("volume \"{volume}\""))
}

/// That the authorities for the bucket's certificate are not there: the kubelet cannot mount them.
pub fn authorities_missing(kubelet_says: &str, bucket: &ValidatedBucket) -> Option<Problem> {
    if !is_not_mounted(kubelet_says, "bucket") {
        return None;
    }
    let (field, kind, name, key) = match bucket.authorities.as_ref()? {
        Authorities::ConfigMap(name, key) => ("configMapKeyRef", "ConfigMap", name, key),
        Authorities::Secret(name, key) => ("secretKeyRef", "Secret", name, key),
    };
    Some(Problem::stalled(
        pods::REFERENCE_NOT_FOUND,
        format!(
            "{}.caBundle.{field}: the pods need the {kind} {name} of this namespace with the key {key}, certificates as PEM; create it, or add the key: {kubelet_says}",
            bucket.field()
        ),
    ))
}
