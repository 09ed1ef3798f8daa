//! Manifests: pulled by tag or digest, pushed under either with any number of further tags, deleted.

use axum::body::{Body, to_bytes};
use axum::response::{IntoResponse, Response};
use berth_oci::{Algorithm, Digest, Manifest, ManifestKind, MediaType, Reference, RepositoryName, Tag};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::LengthLimitError;

use super::auth::Grant;
use super::blobs::{identity, put};
use super::error::ApiError;
use super::header::{OCI_SUBJECT, OCI_TAG};
use super::query::Query;
use super::uploads::refuse_content_encoding;
use super::{App, LARGEST_MANIFEST, conditional};
use crate::store::{BodyError, ManifestInfo};

// By digest it never changes; by tag it may have changed a moment later.
const FOREVER: &str = "private, max-age=31536000, immutable";
const FOR_NOW: &str = "private, no-cache";

/// A tag costs a durable write each. The specification wants at least 10 in one request.
const MOST_TAGS: usize = 100;

/// `GET` and `HEAD /v2/<name>/manifests/<reference>`
///
/// The stored document is served whatever `Accept` says: a digest names these bytes and no others, nothing is converted
/// here, and clients that cannot read it say so better than a 404 does.
pub(super) async fn pull(
    app: &App,
    repository: &RepositoryName,
    reference: &Reference,
    request: &Parts,
) -> Result<Response, ApiError> {
    let unknown = || ApiError::ManifestUnknown(reference.clone());
    let (info, bytes) = if request.method == Method::HEAD {
        (app.store.manifest_info(repository, reference).await?.ok_or_else(unknown)?, Bytes::new())
    } else {
        let stored = app.store.manifest(repository, reference).await?.ok_or_else(unknown)?;
        let size = stored.bytes.len() as u64;
        (ManifestInfo { digest: stored.digest, kind: stored.kind, size }, stored.bytes)
    };
    let cache_control = if matches!(reference, Reference::Tag(_)) { FOR_NOW } else { FOREVER };
    let mut headers = identity(&info.digest, cache_control);
    if conditional::is_known(&request.headers, &info.digest) {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    put(&mut headers, header::CONTENT_TYPE, info.kind.as_str());
    put(&mut headers, header::CONTENT_LENGTH, &info.size.to_string());
    Ok((headers, bytes).into_response())
}

/// `PUT /v2/<name>/manifests/<reference>`
pub(super) async fn push(
    app: &App,
    grant: &Grant,
    repository: &RepositoryName,
    reference: Reference,
    request: &Parts,
    body: Body,
) -> Result<Response, ApiError> {
    let more_tags = tags(&Query::of(&request.uri)?)?;
    let kind = kind(&request.headers)?;
    // Held until it is answered: storage may be slow, and each waits with up to four mebibytes.
    let _slot = app.slots.manifest(grant.holder()).await?;
    let bytes = read(&request.headers, body).await?;
    let (digest, mut tags) = match reference {
        Reference::Digest(digest) if digest.names(&bytes) => (digest, vec![]),
        Reference::Digest(_) => return Err(ApiError::DigestMismatch),
        Reference::Tag(tag) => (Digest::of(Algorithm::Sha256, &bytes), vec![tag]),
    };
    tags.extend(more_tags.iter().filter(|tag| !tags.contains(tag)).cloned().collect::<Vec<_>>());
    let manifest = Manifest::parse(kind, &bytes).map_err(ApiError::Manifest)?;
    app.store.put_manifest(repository, &digest, &manifest, bytes, &tags).await?;

    let mut headers = identity(&digest, FOR_NOW);
    put(&mut headers, header::LOCATION, &format!("/v2/{repository}/manifests/{digest}"));
    if let Some(subject) = manifest.subject() {
        put(&mut headers, OCI_SUBJECT, subject.digest.as_ref());
    }
    let tagged = more_tags.iter().filter_map(|tag| tag.as_ref().parse().ok()).map(|tag| (OCI_TAG, tag));
    headers.extend(tagged.collect::<HeaderMap>());
    Ok((StatusCode::CREATED, headers).into_response())
}

/// `DELETE /v2/<name>/manifests/<reference>`: a digest with all its tags, or a tag alone.
pub(super) async fn delete(app: &App, repository: &RepositoryName, reference: Reference) -> Result<Response, ApiError> {
    let deleted = match &reference {
        Reference::Tag(tag) => app.store.delete_tag(repository, tag).await?,
        Reference::Digest(digest) => app.store.delete_manifest(repository, digest).await?,
    };
    if deleted { Ok(StatusCode::ACCEPTED.into_response()) } else { Err(ApiError::ManifestUnknown(reference)) }
}

/// The tags of `?tag=a&tag=b`, each once.
fn tags(query: &Query) -> Result<Vec<Tag>, ApiError> {
    let mut tags: Vec<Tag> = Vec::new();
    for tag in query.all("tag") {
        let tag = tag.parse().map_err(|invalid: berth_oci::InvalidTag| ApiError::Tag(invalid.into()))?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    if tags.len() > MOST_TAGS {
        Err(ApiError::Query("a manifest is pushed with at most 100 tags at once"))
    } else {
        Ok(tags)
    }
}

fn kind(headers: &HeaderMap) -> Result<ManifestKind, ApiError> {
    refuse_content_encoding(headers)?;
    let sent = headers.get(header::CONTENT_TYPE).map_or("", |value| value.to_str().unwrap_or_default());
    let media_type = MediaType::from_content_type(sent).ok();
    let kind = media_type.and_then(|media_type| ManifestKind::of_media_type(media_type.as_ref()));
    kind.ok_or_else(|| ApiError::ManifestType(sent.chars().take(255).collect()))
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > LARGEST_MANIFEST as u64) {
        return Err(ApiError::ManifestTooLarge(LARGEST_MANIFEST));
    }
    to_bytes(body, LARGEST_MANIFEST).await.map_err(|error| {
        let error = error.into_inner();
        let too_large = error.is::<LengthLimitError>();
        if too_large { ApiError::ManifestTooLarge(LARGEST_MANIFEST) } else { ApiError::ManifestBody(BodyError(error)) }
    })
}
