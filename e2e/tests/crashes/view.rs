//! How to ask a registry for what a key names, and what its answer means.

use anyhow::{Context as _, Result, bail, ensure};
use berth_e2e::http::Answer;
use berth_oci::{Algorithm, Digest};
use http::StatusCode;
use serde_json::Value as Json;

use crate::history::{Key, Value};

/// Where to ask.
pub(crate) fn path_of(key: &Key) -> String {
    match key {
        Key::Blob { repository, digest } => format!("/v2/{repository}/blobs/{digest}"),
        Key::Manifest { repository, digest } => format!("/v2/{repository}/manifests/{digest}"),
        Key::Tag { repository, tag } => format!("/v2/{repository}/manifests/{tag}"),
        Key::Referrer { repository, subject, .. } => format!("/v2/{repository}/referrers/{subject}"),
    }
}

/// What the bytes of an answer really are.
///
/// # Errors
/// When they are not what the answer says they are.
pub(crate) fn value_of(key: &Key, answer: &Answer) -> Result<Value> {
    match (key, answer.status) {
        (Key::Referrer { digest, .. }, StatusCode::OK) => {
            let index: Json = serde_json::from_slice(&answer.body)?;
            let entries = index["manifests"].as_array().context("an index without manifests")?;
            let named = entries.iter().any(|entry| entry["digest"] == digest.as_ref());
            Ok(named.then(|| digest.clone()))
        }
        (Key::Blob { .. } | Key::Manifest { .. } | Key::Tag { .. }, StatusCode::NOT_FOUND) => Ok(None),
        (_, StatusCode::OK) => {
            let digest = Digest::of(Algorithm::Sha256, &answer.body);
            let claimed = answer.header("docker-content-digest");
            ensure!(claimed == Some(digest.as_ref()), "{claimed:?} was sent with the bytes of {digest}");
            Ok(Some(digest))
        }
        (_, status) => bail!("{key:?}: {status} {:?}", answer.body),
    }
}
