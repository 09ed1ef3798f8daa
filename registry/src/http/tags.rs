//! Tags, listed.

use axum::response::{IntoResponse, Response};
use berth_oci::{RepositoryName, Tag};
use http::request::Parts;
use http::{HeaderMap, header};
use serde_json::json;

use super::App;
use super::blobs::put;
use super::error::ApiError;
use super::paging::Paging;
use super::query::Query;

/// The longest page. Tags are 128 bytes at most, so it stays near a megabyte.
const MOST: usize = 10_000;

/// `GET /v2/<name>/tags/list`
pub(super) async fn list(app: &App, repository: &RepositoryName, request: &Parts) -> Result<Response, ApiError> {
    let paging = Paging::of(&Query::of(&request.uri)?, MOST)?;
    // Whether there is such a repository must be asked for even when no tag is.
    let page = app.store.tags(repository, paging.after.as_deref(), paging.limit.max(1)).await?;
    let mut page = page.ok_or_else(|| ApiError::RepositoryUnknown(repository.clone()))?;
    page.items.truncate(paging.limit);
    let mut headers = HeaderMap::new();
    put(&mut headers, header::CONTENT_TYPE, "application/json");
    if let (true, Some(last)) = (page.more, page.items.last()) {
        put(&mut headers, header::LINK, &paging.next(&format!("/v2/{repository}/tags/list"), last.as_ref(), None));
    }
    let tags: Vec<&str> = page.items.iter().map(Tag::as_ref).collect();
    Ok((headers, json!({ "name": repository, "tags": tags }).to_string()).into_response())
}
