//! Uploads: begun, continued, asked about, finished, cancelled; and mounts, which are uploads that need no bytes.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use berth_oci::{Algorithm, Digest, RepositoryName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::auth::Grant;
use super::blobs::{created, put};
use super::content_range::ContentRange;
use super::error::ApiError;
use super::header::{OCI_CHUNK_MIN_LENGTH, UPLOAD_UUID};
use super::query::Query;
use super::slots::Slot;
use super::{App, client_body};
use crate::access::Action;
use crate::store::{UploadError, UploadState};

/// Chunks below this cost a request each and gain nothing; they are accepted all the same.
const SMALLEST_SENSIBLE_CHUNK: &str = "1";

/// `POST /v2/<name>/blobs/uploads/`
pub(super) async fn start(
    app: &App,
    grant: &Grant,
    repository: RepositoryName,
    request: &Parts,
    body: Body,
) -> Result<Response, ApiError> {
    let query = Query::of(&request.uri)?;
    if let Some(digest) = query.get("mount") {
        let digest = digest.parse().map_err(ApiError::Digest)?;
        if mount(app, grant, &repository, &digest, query.get("from")).await? {
            return Ok(created(&repository, &digest));
        }
    } else if let Some(digest) = query.get("digest") {
        let digest = digest.parse().map_err(ApiError::Digest)?;
        refuse_content_encoding(&request.headers)?;
        let _slot = slot(app, grant)?;
        let put = app.store.put_blob(&repository, &digest, client_body::stream(body)).await;
        put.map_err(|error| refusal(app, error))?;
        return Ok(created(&repository, &digest));
    }
    let algorithm = match query.get("digest-algorithm") {
        Some(algorithm) => algorithm.parse().map_err(ApiError::Digest)?,
        None => Algorithm::default(),
    };
    let state = app.store.start_upload(repository, grant.principal().to_string(), algorithm);
    Ok((StatusCode::ACCEPTED, standing(app, &state)).into_response())
}

/// Links a blob from where it is readable already. What cannot be mounted for any reason is uploaded, as if it were nowhere.
async fn mount(
    app: &App,
    grant: &Grant,
    to: &RepositoryName,
    digest: &Digest,
    from: Option<&str>,
) -> Result<bool, ApiError> {
    let sources = match from {
        Some(from) => vec![from.parse().map_err(ApiError::Name)?],
        None => app.store.repositories_hinting_at(digest).await?,
    };
    for source in sources {
        if grant.may(Action::Pull) && app.store.mount_blob(to, digest, &source).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `GET /v2/<name>/blobs/uploads/<token>`
pub(super) async fn status(
    app: &App,
    grant: &Grant,
    repository: &RepositoryName,
    token: &str,
) -> Result<Response, ApiError> {
    let state = open(app, grant, repository, token)?;
    let newest = app.store.upload_status(&state).await.map_err(|error| refusal(app, error))?;
    Ok((StatusCode::NO_CONTENT, standing(app, &newest)).into_response())
}

/// `PATCH /v2/<name>/blobs/uploads/<token>`
pub(super) async fn chunk(
    app: &App,
    grant: &Grant,
    repository: &RepositoryName,
    token: &str,
    request: &Parts,
    body: Body,
) -> Result<Response, ApiError> {
    let state = open(app, grant, repository, token)?;
    let start = place(&request.headers)?;
    let _slot = slot(app, grant)?;
    let appended = app.store.append(&state, start, client_body::stream(body)).await;
    let newest = appended.map_err(|error| refusal(app, error))?;
    Ok((StatusCode::ACCEPTED, standing(app, &newest)).into_response())
}

/// `PUT /v2/<name>/blobs/uploads/<token>?digest=<digest>`
pub(super) async fn finish(
    app: &App,
    grant: &Grant,
    repository: &RepositoryName,
    token: &str,
    request: &Parts,
    body: Body,
) -> Result<Response, ApiError> {
    let query = Query::of(&request.uri)?;
    let digest = query.get("digest").ok_or(ApiError::Query("an upload is finished with ?digest="))?;
    let digest = digest.parse().map_err(ApiError::Digest)?;
    let state = open(app, grant, repository, token)?;
    let start = place(&request.headers)?;
    let _slot = slot(app, grant)?;
    let finished = app.store.finish_upload(&state, start, client_body::stream(body), &digest).await;
    finished.map_err(|error| refusal(app, error))?;
    Ok(created(repository, &digest))
}

/// `DELETE /v2/<name>/blobs/uploads/<token>`
pub(super) async fn cancel(
    app: &App,
    grant: &Grant,
    repository: &RepositoryName,
    token: &str,
) -> Result<Response, ApiError> {
    let state = open(app, grant, repository, token)?;
    app.store.cancel_upload(&state).await.map_err(|error| refusal(app, error))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn open(app: &App, grant: &Grant, repository: &RepositoryName, token: &str) -> Result<UploadState, ApiError> {
    app.upload_keys.open(token, repository, grant.principal()).ok_or(ApiError::UploadUnknown)
}

/// Where a request's bytes belong, if it says so.
fn place(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    refuse_content_encoding(headers)?;
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default());
    let range =
        text(header::CONTENT_RANGE).map(str::parse::<ContentRange>).transpose().map_err(ApiError::ContentRange)?;
    let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    if let (Some(range), Some(length)) = (range, length)
        && !range.is_filled_by(length)
    {
        return Err(ApiError::ChunkLength);
    }
    Ok(range.map(|range| range.start))
}

/// Bytes are stored as they come; whoever compressed them on the way would find them stored compressed.
pub(super) fn refuse_content_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => Err(ApiError::ContentEncoding),
        _ => Ok(()),
    }
}

fn slot(app: &App, grant: &Grant) -> Result<(Slot, impl Drop), ApiError> {
    Ok((app.slots.blob(grant.holder())?, app.metrics.upload_begins()))
}

/// Where an upload stands, for its client: where to go on, and how much is there.
fn standing(app: &App, state: &UploadState) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let location = format!("/v2/{}/blobs/uploads/{}", state.repository(), app.upload_keys.seal(state));
    put(&mut headers, header::LOCATION, &location);
    // Nothing at all is `0-0` too; it has always been so.
    put(&mut headers, header::RANGE, &format!("0-{}", state.offset().saturating_sub(1)));
    put(&mut headers, UPLOAD_UUID, &state.id());
    put(&mut headers, OCI_CHUNK_MIN_LENGTH, SMALLEST_SENSIBLE_CHUNK);
    headers
}

fn refusal(app: &App, error: UploadError) -> ApiError {
    match error {
        UploadError::Unknown => ApiError::UploadUnknown,
        UploadError::OutOfOrder(newest) => ApiError::OutOfOrder(standing(app, &newest)),
        UploadError::DigestMismatch => ApiError::DigestMismatch,
        UploadError::Body(broken) => ApiError::Body(broken),
        UploadError::Store(error) => ApiError::Store(error),
    }
}
