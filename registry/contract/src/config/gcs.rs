//! `storage.gcs`: distribution's keys.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::given::given;

/// `storage.gcs`: a bucket of Google Cloud Storage.
///
/// Without `keyfile` the credentials are Google's application default: the file that `GOOGLE_APPLICATION_CREDENTIALS` names, else
/// the service account of the machine or, with Workload Identity Federation for GKE, of the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gcs {
    /// The bucket. It must exist.
    pub bucket: String,
    /// The key of a service account, a file in JSON.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub keyfile: Option<PathBuf>,
    /// What all object names begin with. Default: nothing.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub rootdirectory: Option<String>,
}

impl Gcs {
    /// What contradicts itself in it.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        self.bucket.is_empty().then_some("storage.gcs.bucket is empty: name the bucket")
    }
}
