//! Descriptors.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// Points at some content and says what it is: image-spec `descriptor.md`.
///
/// Fields that a registry neither checks nor copies (`urls`, `platform`) are left to the manifest's own bytes, which are
/// served as they came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The type of the content. Any text: what it means is between the clients.
    pub media_type: String,
    /// The name of the content.
    pub digest: Digest,
    /// The size of the content, in bytes.
    pub size: u64,
    /// The type of an artifact, when the content is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Arbitrary metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}
