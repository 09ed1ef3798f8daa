//! The error codes of the distribution-spec.

use std::fmt;

/// A code from distribution-spec `spec.md`, Error Codes.
///
/// The HTTP status is not a function of the code (a chunk out of order "MUST" be 416 with `BLOB_UPLOAD_INVALID`), so
/// whoever answers picks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// `BLOB_UNKNOWN`
    BlobUnknown,
    /// `BLOB_UPLOAD_INVALID`
    BlobUploadInvalid,
    /// `BLOB_UPLOAD_UNKNOWN`
    BlobUploadUnknown,
    /// `DIGEST_INVALID`
    DigestInvalid,
    /// `MANIFEST_BLOB_UNKNOWN`
    ManifestBlobUnknown,
    /// `MANIFEST_INVALID`
    ManifestInvalid,
    /// `MANIFEST_UNKNOWN`
    ManifestUnknown,
    /// `NAME_INVALID`
    NameInvalid,
    /// `NAME_UNKNOWN`
    NameUnknown,
    /// `SIZE_INVALID`
    SizeInvalid,
    /// `UNAUTHORIZED`
    Unauthorized,
    /// `DENIED`
    Denied,
    /// `UNSUPPORTED`
    Unsupported,
    /// `TOOMANYREQUESTS`
    TooManyRequests,
}

impl ErrorCode {
    /// The identifier, as it stands in a response's `code`.
    pub const fn as_str(self) -> &'static str {
        self.entry().0
    }

    /// The specification's wording, as it stands in a response's `message`.
    pub const fn message(self) -> &'static str {
        self.entry().1
    }

    const fn entry(self) -> (&'static str, &'static str) {
        match self {
            Self::BlobUnknown => ("BLOB_UNKNOWN", "blob unknown to registry"),
            Self::BlobUploadInvalid => ("BLOB_UPLOAD_INVALID", "blob upload invalid"),
            Self::BlobUploadUnknown => ("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry"),
            Self::DigestInvalid => ("DIGEST_INVALID", "provided digest did not match uploaded content"),
            Self::ManifestBlobUnknown => {
                ("MANIFEST_BLOB_UNKNOWN", "manifest references a manifest or blob unknown to registry")
            }
            Self::ManifestInvalid => ("MANIFEST_INVALID", "manifest invalid"),
            Self::ManifestUnknown => ("MANIFEST_UNKNOWN", "manifest unknown to registry"),
            Self::NameInvalid => ("NAME_INVALID", "invalid repository name"),
            Self::NameUnknown => ("NAME_UNKNOWN", "repository name not known to registry"),
            Self::SizeInvalid => ("SIZE_INVALID", "provided length did not match content length"),
            Self::Unauthorized => ("UNAUTHORIZED", "authentication required"),
            Self::Denied => ("DENIED", "requested access to the resource is denied"),
            Self::Unsupported => ("UNSUPPORTED", "the operation is unsupported"),
            Self::TooManyRequests => ("TOOMANYREQUESTS", "too many requests"),
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
