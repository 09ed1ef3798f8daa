//! `spec.garbageCollection`: when what nothing refers to goes, and what stays.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DURATION;

/// Removal of what nothing refers to any more, inside the pods that serve, beside pulls, pushes and deletions.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GarbageCollection {
    /// Collect nothing until this is `false` again. Default: `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// When: a cron expression of five fields in UTC, as a CronJob takes it, or `@hourly`, `@daily`, `@weekly` or `@monthly`. A
    /// time at which no pod ran is made up for. Default: `0 3 * * *`, every day at three.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new(r"self.matches('^(@[a-z]+|[^ ]+( +[^ ]+){4})$')")
        .message("garbageCollection.schedule: write five fields, minute, hour, day of month, month and day of week, as in '0 3 * * *', or @daily"))]
    pub schedule: Option<String>,
    /// The age below which nothing goes: the time that a client has from its first blob to its manifest. One that takes longer is
    /// told that a blob is missing, and pushes it again. Default: `24h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = DURATION))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('5m') && duration(self) <= duration('8760h')")
        .message("garbageCollection.grace: write between 5m and 8760h"))]
    pub grace: Option<String>,
    /// What happens to manifests that no tag names, that no index holds and whose subject is not there. Default: `Keep`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untagged: Option<Untagged>,
    /// Log what would be deleted, and tell how much in `status.garbageCollection`, instead of deleting it. Default: `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

/// What happens to manifests that nothing names. Default: `Keep`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Untagged {
    /// They stay, and can be pulled by digest.
    #[default]
    Keep,
    /// They go. A Pod that names an image by a digest whose tag has moved on cannot pull it again then.
    Delete,
}
