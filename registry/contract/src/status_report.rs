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
}
