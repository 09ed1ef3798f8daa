//! Blobs: pulled, whole or in part, and deleted.

use std::borrow::Cow;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use berth_oci::{Digest, RepositoryName};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::error::ApiError;
use super::header::CONTENT_DIGEST;
use super::range::{Selection, select};
use super::{App, conditional};
use crate::serve::Peer;

/// What a digest names never changes; but who may see it does, so only the client itself may keep it.
const FOREVER: &str = "private, max-age=31536000, immutable";

/// `GET` and `HEAD /v2/<name>/blobs/<digest>`
pub(super) async fn pull(
    app: &App,
    repository: &RepositoryName,
    digest: &Digest,
    request: &Parts,
) -> Result<Response, ApiError> {
    let is_known = conditional::is_known(&request.headers, digest);
    let is_body_wanted = request.method != Method::HEAD && !is_known;
    let selected = |size| select(conditional::range(&request.headers, digest), size);
    let wanted = |size| selected(size).range(size).filter(|_| is_body_wanted);
    let peer = request.extensions.get().map(|peer: &Peer| peer.0.ip());
    let store = peer.map_or(Cow::Borrowed(&app.store), |peer| app.store.for_client(peer));
    let blob = store.blob(repository, digest, wanted).await?;
    let blob = blob.ok_or_else(|| ApiError::BlobUnknown(digest.clone()))?;
    let mut headers = identity(digest, FOREVER);
    if is_known {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    if let Some(location) = blob.location() {
        // It ends soon, and is for this client alone.
        put(&mut headers, header::CACHE_CONTROL, "no-store");
        put(&mut headers, header::LOCATION, location);
        return Ok((StatusCode::TEMPORARY_REDIRECT, headers).into_response());
    }
    let size = blob.size();
    let selected = selected(size);
    let range = selected.range(size).ok_or(ApiError::Range { size })?;
    put(&mut headers, header::CONTENT_TYPE, "application/octet-stream");
    put(&mut headers, header::ACCEPT_RANGES, "bytes");
    put(&mut headers, header::CONTENT_LENGTH, &(range.end - range.start).to_string());
    let mut status = StatusCode::OK;
    if selected != Selection::Whole {
        put(&mut headers, header::CONTENT_RANGE, &format!("bytes {}-{}/{size}", range.start, range.end - 1));
        status = StatusCode::PARTIAL_CONTENT;
    }
    Ok((status, headers, blob.bytes().map_or_else(Body::empty, Body::from_stream)).into_response())
}

/// `DELETE /v2/<name>/blobs/<digest>`
pub(super) async fn delete(app: &App, repository: &RepositoryName, digest: &Digest) -> Result<Response, ApiError> {
    if app.store.delete_blob(repository, digest).await? {
        Ok(StatusCode::ACCEPTED.into_response())
    } else {
        Err(ApiError::BlobUnknown(digest.clone()))
    }
}

/// The answer to whoever has made or mounted a blob.
pub(super) fn created(repository: &RepositoryName, digest: &Digest) -> Response {
    let location = format!("/v2/{repository}/blobs/{digest}");
    (StatusCode::CREATED, [(header::LOCATION, location), (CONTENT_DIGEST, digest.to_string())]).into_response()
}

/// The headers that say which bytes these are and how long that holds.
pub(super) fn identity(digest: &Digest, cache_control: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    put(&mut headers, CONTENT_DIGEST, digest.as_ref());
    put(&mut headers, header::ETAG, &conditional::entity_tag(digest));
    put(&mut headers, header::CACHE_CONTROL, cache_control);
    headers
}

/// Sets a header to text that has no control characters: digests, numbers, media types.
pub(super) fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
