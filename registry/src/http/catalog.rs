//! Repositories, listed. Not in the specification any more, but what mirrors and consoles begin with.

use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, header};
use serde_json::json;

use super::App;
use super::auth::Grant;
use super::blobs::put;
use super::error::ApiError;
use super::paging::Paging;
use super::query::Query;
use crate::access::Action;

/// The longest page. Names are 255 bytes at most.
const MOST: usize = 1000;

/// `GET /v2/_catalog`
pub(super) async fn list(app: &App, grant: &Grant, request: &Parts) -> Result<Response, ApiError> {
    let paging = Paging::of(&Query::of(&request.uri)?, MOST)?;
    let mut page = app.store.repositories(paging.after.as_deref(), paging.limit.max(1)).await?;
    page.items.truncate(paging.limit);
    let mut headers = HeaderMap::new();
    put(&mut headers, header::CONTENT_TYPE, "application/json");
    if let (true, Some(last)) = (page.more, page.items.last()) {
        put(&mut headers, header::LINK, &paging.next("/v2/_catalog", last.as_ref(), None));
    }
    // Names that the caller may not pull are nobody's business. Today a right holds everywhere or nowhere.
    page.items.retain(|_| grant.may(Action::Pull));
    Ok((headers, json!({ "repositories": page.items }).to_string()).into_response())
}
