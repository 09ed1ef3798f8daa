//! `storage.s3`: distribution's keys, and `cabundle`, which is ours.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::given::given;

/// `storage.s3`: a bucket of Amazon S3, or of anything else that speaks its API.
///
/// Without `accesskey` and `secretkey` the credentials are those that the platform gives: `AWS_ACCESS_KEY_ID` and
/// `AWS_SECRET_ACCESS_KEY`, a web identity (IAM roles for service accounts), EKS Pod Identity, a task's or an instance's role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// The bucket. It must exist.
    pub bucket: String,
    /// Its region. Default: `AWS_REGION`, else `us-east-1`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Where the API is, if not at Amazon: `https://HOST[:PORT]`, or without a scheme, which `secure` gives then.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub regionendpoint: Option<String>,
    /// Where pullers reach the API, if not at `regionendpoint`, in the same form.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub redirectendpoint: Option<String>,
    /// Whether the bucket stands in the path and not in the host name, as MinIO and others want it. Default: no.
    #[serde(default)]
    pub forcepathstyle: bool,
    /// The access key, with `secretkey`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub accesskey: Option<String>,
    /// Its secret.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub secretkey: Option<Secret>,
    /// Whether a `regionendpoint` without a scheme is spoken to over TLS. Default: yes.
    #[serde(default = "yes")]
    pub secure: bool,
    /// A PEM file with the authorities that the endpoint's certificate may be from, besides those of the system. Ours.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub cabundle: Option<PathBuf>,
    /// Whether objects are encrypted at rest with keys of S3's (SSE-S3), or of KMS where `keyid` is given. Default: as the
    /// bucket has it.
    #[serde(default)]
    pub encrypt: bool,
    /// The KMS key for `encrypt`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub keyid: Option<String>,
    /// The storage class of blobs, for example `INTELLIGENT_TIERING`. Default: the bucket's.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub storageclass: Option<String>,
    /// What all object names begin with. Default: nothing.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub rootdirectory: Option<String>,
}

const fn yes() -> bool {
    true
}

/// A value that no log and no error shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// Classes whose objects cannot be read at once
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/archived-objects.html>).
const ARCHIVES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

impl S3 {
    /// Where the bucket is, if not at Amazon: `regionendpoint` with its scheme and, unless the bucket stands in the path, with
    /// the bucket before its host.
    pub fn endpoint(&self) -> Option<String> {
        let endpoint = self.regionendpoint.as_deref()?.trim_end_matches('/');
        let (scheme, host) =
            endpoint.split_once("://").unwrap_or((if self.secure { "https" } else { "http" }, endpoint));
        let bucket = if self.forcepathstyle { String::new() } else { format!("{}.", self.bucket) };
        Some(format!("{scheme}://{bucket}{host}"))
    }

    /// What contradicts itself in it.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        if self.bucket.is_empty() {
            Some("storage.s3.bucket is empty: name the bucket")
        } else if self.accesskey.is_some() != self.secretkey.is_some() {
            Some(
                "storage.s3.accesskey and storage.s3.secretkey go together: give both, or neither for the platform's credentials",
            )
        } else if self.keyid.is_some() && !self.encrypt {
            Some("storage.s3.keyid is the key that storage.s3.encrypt uses: set storage.s3.encrypt to true")
        } else if self.storageclass.as_deref().is_some_and(|class| ARCHIVES.contains(&class)) {
            Some(
                "storage.s3.storageclass: objects of GLACIER and DEEP_ARCHIVE cannot be read until somebody restores them: set another \
                 class, such as GLACIER_IR, or leave it out for the bucket's",
            )
        } else {
            None
        }
    }
}
