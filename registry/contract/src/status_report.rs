//! What a registry pod says of itself: `GET /status` on the health port, as JSON.

use serde::{Deserialize, Serialize};

/// The state of one registry process. It names no secret, only fingerprints by which the operator sees that what it wrote
/// has arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StatusReport {
    /// The version of the program, as in `berth-registry --version`.
    pub version: String,
    /// SHA-256 of the serving certificate's DER, in lower-case hexadecimal; absent without TLS.
    pub certificate: Option<String>,
    /// SHA-256 of each file of secrets in use, in lower-case hexadecimal, by the configuration key that names the file
    /// (`auth.htpasswd.path`, `auth.nodes.path`, `http.secretfile`).
    pub files: std::collections::BTreeMap<String, String>,
    /// Why the registry is not ready, in one sentence; absent when it is.
    pub not_ready: Option<String>,
    /// What storage was seen to honour at the start; absent until it was looked at.
    pub storage: Option<StorageReport>,
    /// What came of the last garbage collection that ended, by whichever replica; absent before the first.
    pub last_collection: Option<CollectionReport>,
}

/// What storage was seen to honour beyond what it must.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StorageReport {
    /// A write on the condition that there is nothing yet. Nothing relies on it.
    pub conditional_create: bool,
    /// A write on the condition that nobody else wrote since. Without it a tag that is written in the moment in which the image
    /// is deleted that it named before may be lost.
    pub conditional_overwrite: bool,
}

/// What came of a garbage collection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CollectionReport {
    /// Whether it only looked: the numbers say what would have been deleted.
    pub dry_run: bool,
    /// When it began, in seconds since 1970.
    pub began: u64,
    /// When it ended, in seconds since 1970.
    pub ended: u64,
    /// Manifests that were deleted.
    pub manifests: u64,
    /// Blobs that were deleted.
    pub blobs: u64,
    /// The bytes of both.
    pub bytes: u64,
    /// What was referred to again before it was deleted.
    pub spared: u64,
    /// Repositories of which nothing was taken, because they hold a damaged manifest and nobody knows what it names.
    pub left_alone: Vec<String>,
    /// Why it ended early, in one sentence.
    pub error: Option<String>,
}
