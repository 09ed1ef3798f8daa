//! What goes wrong, and the only place that picks a status for it.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use berth_oci::{
    Digest, ErrorCode, InvalidDigest, InvalidManifest, InvalidReference, InvalidRepositoryName, Reference,
    RepositoryName,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;

use super::client_body::TooSlow;
use super::content_range::InvalidContentRange;
use super::endpoint::NoEndpoint;
use crate::store::{BodyError, PutManifestError, StoreError, StoreErrorKind};

/// A request that is not answered with what it asked for.
#[derive(Debug)]
pub(super) enum ApiError {
    /// Method and path mean nothing.
    NoEndpoint(NoEndpoint),
    /// Nobody we know. The answer is the same whatever was asked for.
    Unauthenticated { realm: String },
    /// Two `Authorization` headers: whoever put a proxy between may read the other one.
    AmbiguousCredentials,
    /// Somebody, but without the right. Absence looks no different to them.
    Denied,
    /// Too much at once.
    Busy(&'static str),
    /// The configuration forbids changes.
    ReadOnly,
    /// The configuration forbids deletions.
    DeletionDisabled,
    /// A query that cannot be understood.
    Query(&'static str),
    /// A body in an encoding that nobody here will undo.
    ContentEncoding,
    /// A mount, an upload or a query names a repository that cannot exist.
    Name(InvalidRepositoryName),
    /// A query names a digest that cannot exist.
    Digest(InvalidDigest),
    /// A query names a tag that cannot exist.
    Tag(InvalidReference),
    /// No such blob in this repository.
    BlobUnknown(Digest),
    /// No such manifest in this repository.
    ManifestUnknown(Reference),
    /// No such repository.
    RepositoryUnknown(RepositoryName),
    /// No such upload, or not this client's.
    UploadUnknown,
    /// The range lies beyond the blob, which has this many bytes.
    Range { size: u64 },
    /// A chunk says where it belongs in a way that cannot be understood.
    ContentRange(InvalidContentRange),
    /// A chunk's length is not what its range says.
    ChunkLength,
    /// A chunk that does not follow the bytes that are there. The headers tell where the upload stands.
    OutOfOrder(HeaderMap),
    /// The bytes are not what the digest names.
    DigestMismatch,
    /// The manifest's `Content-Type` is none that this registry takes.
    ManifestType(String),
    /// The bytes are not such a manifest.
    Manifest(InvalidManifest),
    /// The manifest is larger than this many bytes.
    ManifestTooLarge(usize),
    /// The manifest points at something that is not in the repository.
    ManifestChildUnknown(Digest),
    /// The manifest says of something that it has another size than it has.
    ManifestChildSize(String),
    /// The body of a blob broke off or trickled.
    Body(BodyError),
    /// The body of a manifest did.
    ManifestBody(BodyError),
    /// Storage failed.
    Store(StoreError),
}

/// Why a request failed, for the log. In the response's extensions.
#[derive(Clone, Debug)]
pub(super) struct Cause(pub(super) Arc<str>);

/// What goes out.
struct Answer {
    status: StatusCode,
    code: &'static str,
    message: &'static str,
    detail: serde_json::Value,
    headers: HeaderMap,
}

impl Answer {
    fn new(status: StatusCode, code: ErrorCode, detail: impl fmt::Display) -> Self {
        let detail = detail.to_string().into();
        Self { status, code: code.as_str(), message: code.message(), detail, headers: HeaderMap::new() }
    }

    /// The specification has no code for a server that is at fault; these are distribution's.
    fn fault(status: StatusCode, code: &'static str, message: &'static str) -> Self {
        Self { status, code, message, detail: serde_json::Value::Null, headers: HeaderMap::new() }
    }

    fn with(mut self, name: HeaderName, value: impl TryInto<HeaderValue>) -> Self {
        if let Ok(value) = value.try_into() {
            self.headers.insert(name, value);
        }
        self
    }

    fn about(self, digest: &Digest) -> Self {
        Self { detail: json!({ "digest": digest }), ..self }
    }
}

impl ApiError {
    fn answer(&self) -> Answer {
        use ErrorCode::{
            BlobUnknown, BlobUploadInvalid, BlobUploadUnknown, Denied, DigestInvalid, ManifestBlobUnknown,
            ManifestInvalid, ManifestUnknown, NameInvalid, NameUnknown, SizeInvalid, TooManyRequests, Unauthorized,
            Unsupported,
        };
        match self {
            Self::NoEndpoint(NoEndpoint::Path) => Answer::new(StatusCode::NOT_FOUND, Unsupported, NoEndpoint::Path),
            Self::NoEndpoint(wrong @ NoEndpoint::Method(allowed)) => {
                Answer::new(StatusCode::METHOD_NOT_ALLOWED, Unsupported, wrong).with(header::ALLOW, *allowed)
            }
            Self::NoEndpoint(NoEndpoint::Name(name)) | Self::Name(name) => {
                Answer::new(StatusCode::BAD_REQUEST, NameInvalid, name)
            }
            Self::NoEndpoint(NoEndpoint::Digest(digest) | NoEndpoint::Reference(InvalidReference::Digest(digest)))
            | Self::Digest(digest)
            | Self::Tag(InvalidReference::Digest(digest)) => {
                Answer::new(StatusCode::BAD_REQUEST, DigestInvalid, digest)
            }
            Self::NoEndpoint(NoEndpoint::Reference(InvalidReference::Tag(tag)))
            | Self::Tag(InvalidReference::Tag(tag)) => Answer::new(StatusCode::BAD_REQUEST, ManifestInvalid, tag),
            Self::Unauthenticated { realm } => {
                let challenge = format!("Basic realm=\"{}\"", realm.replace(['"', '\\'], ""));
                Answer::new(StatusCode::UNAUTHORIZED, Unauthorized, "").with(header::WWW_AUTHENTICATE, challenge)
            }
            Self::AmbiguousCredentials => {
                Answer::new(StatusCode::BAD_REQUEST, Unauthorized, "there is more than one Authorization header")
            }
            Self::Denied => Answer::new(StatusCode::FORBIDDEN, Denied, ""),
            Self::Busy(what) => {
                Answer::new(StatusCode::TOO_MANY_REQUESTS, TooManyRequests, what).with(header::RETRY_AFTER, "1")
            }
            Self::ReadOnly => {
                Answer::new(StatusCode::METHOD_NOT_ALLOWED, Unsupported, "the registry is read-only for maintenance")
            }
            Self::DeletionDisabled => Answer::new(
                StatusCode::METHOD_NOT_ALLOWED,
                Unsupported,
                "deletion is disabled (storage.delete.enabled)",
            ),
            Self::Query(what) => Answer::new(StatusCode::BAD_REQUEST, Unsupported, what),
            Self::ContentEncoding => {
                Answer::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Unsupported, "Content-Encoding is not accepted")
            }
            Self::BlobUnknown(digest) => Answer::new(StatusCode::NOT_FOUND, BlobUnknown, "").about(digest),
            Self::ManifestUnknown(reference) => Answer::new(StatusCode::NOT_FOUND, ManifestUnknown, reference),
            Self::RepositoryUnknown(name) => Answer::new(StatusCode::NOT_FOUND, NameUnknown, name),
            Self::UploadUnknown => Answer::new(StatusCode::NOT_FOUND, BlobUploadUnknown, ""),
            Self::Range { size } => Answer::new(StatusCode::RANGE_NOT_SATISFIABLE, SizeInvalid, "")
                .with(header::CONTENT_RANGE, format!("bytes */{size}")),
            Self::ContentRange(range) => Answer::new(StatusCode::BAD_REQUEST, BlobUploadInvalid, range),
            Self::ChunkLength => {
                Answer::new(StatusCode::BAD_REQUEST, SizeInvalid, "Content-Range and Content-Length disagree")
            }
            Self::OutOfOrder(state) => {
                let detail = "the chunk does not follow the bytes received so far";
                let answer = Answer::new(StatusCode::RANGE_NOT_SATISFIABLE, BlobUploadInvalid, detail);
                Answer { headers: state.clone(), ..answer }
            }
            Self::DigestMismatch => Answer::new(StatusCode::BAD_REQUEST, DigestInvalid, ""),
            Self::ManifestType(sent) => Answer::new(
                StatusCode::BAD_REQUEST,
                ManifestInvalid,
                format_args!("no manifest has Content-Type {sent:?}"),
            ),
            Self::Manifest(invalid) => Answer::new(StatusCode::BAD_REQUEST, ManifestInvalid, invalid),
            Self::ManifestTooLarge(limit) => {
                let detail = format_args!("a manifest has at most {limit} bytes");
                Answer::new(StatusCode::PAYLOAD_TOO_LARGE, SizeInvalid, detail)
            }
            Self::ManifestChildUnknown(digest) => {
                Answer::new(StatusCode::BAD_REQUEST, ManifestBlobUnknown, "").about(digest)
            }
            Self::ManifestChildSize(what) => Answer::new(StatusCode::BAD_REQUEST, ManifestInvalid, what),
            Self::Body(broken) => broken_off(broken, BlobUploadInvalid),
            Self::ManifestBody(broken) => broken_off(broken, ManifestInvalid),
            Self::Store(error) => fault(error.kind()),
        }
    }

    /// What the log says. It names what the answer must not.
    fn cause(&self) -> String {
        match self {
            Self::Store(error) => chain(error),
            Self::Body(error) | Self::ManifestBody(error) => chain(error),
            other => format!("{other:?}"),
        }
    }
}

fn broken_off(broken: &BodyError, code: ErrorCode) -> Answer {
    if broken.0.is::<TooSlow>() {
        Answer::new(StatusCode::REQUEST_TIMEOUT, code, TooSlow).with(header::CONNECTION, "close")
    } else {
        Answer::new(StatusCode::BAD_REQUEST, code, "the body broke off")
    }
}

fn fault(kind: StoreErrorKind) -> Answer {
    match kind {
        StoreErrorKind::Full => Answer::fault(StatusCode::INSUFFICIENT_STORAGE, "UNAVAILABLE", "storage is full"),
        StoreErrorKind::ReadOnly => {
            Answer::fault(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "storage takes no writes")
                .with(header::RETRY_AFTER, "60")
        }
        StoreErrorKind::Overloaded => {
            Answer::fault(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "storage is overloaded")
                .with(header::RETRY_AFTER, "5")
        }
        StoreErrorKind::Unreachable => {
            Answer::fault(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "storage does not answer")
                .with(header::RETRY_AFTER, "5")
        }
        StoreErrorKind::Corrupt | StoreErrorKind::Other => {
            Answer::fault(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "unknown error")
        }
    }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        // Many errors already repeat what caused them.
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Answer { status, code, message, detail, headers } = self.answer();
        let mut error = json!({ "code": code, "message": message });
        if detail.as_str() != Some("") && !detail.is_null() {
            error["detail"] = detail;
        }
        let body = json!({ "errors": [error] }).to_string();
        let mut response = (status, headers, [(header::CONTENT_TYPE, "application/json")], body).into_response();
        response.extensions_mut().insert(Cause(self.cause().into()));
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<PutManifestError> for ApiError {
    fn from(error: PutManifestError) -> Self {
        match error {
            PutManifestError::ChildUnknown(digest) => Self::ManifestChildUnknown(digest),
            PutManifestError::ChildSize { .. } => Self::ManifestChildSize(error.to_string()),
            PutManifestError::Store(error) => Self::Store(error),
        }
    }
}
