//! Referrers, listed: distribution-spec `spec.md`, Listing referrers.

use axum::response::{IntoResponse, Response};
use berth_oci::{Descriptor, Digest, ManifestKind, RepositoryName};
use http::request::Parts;
use http::{HeaderMap, header};
use serde_json::json;

use super::App;
use super::blobs::put;
use super::error::ApiError;
use super::header::OCI_FILTERS_APPLIED;
use super::paging::Paging;
use super::query::Query;
use crate::store::Page;

/// The most entries of a page.
const MOST: usize = 1000;
/// "Each response is an image index", and clients refuse indexes above 4 MiB. One entry is always given.
const LARGEST_PAGE: usize = 3 << 20;

/// `GET /v2/<name>/referrers/<digest>`: an index, empty when there is nothing, the repository included.
pub(super) async fn list(
    app: &App,
    repository: &RepositoryName,
    subject: &Digest,
    request: &Parts,
) -> Result<Response, ApiError> {
    let query = Query::of(&request.uri)?;
    let paging = Paging::of(&query, MOST)?;
    let artifact_type = query.get("artifactType").filter(|artifact_type| !artifact_type.is_empty());
    let page = page(app, repository, subject, artifact_type, &paging).await?;
    let mut headers = HeaderMap::new();
    put(&mut headers, header::CONTENT_TYPE, ManifestKind::OciIndex.as_str());
    if artifact_type.is_some() {
        put(&mut headers, OCI_FILTERS_APPLIED, "artifactType");
    }
    if let (true, Some(last)) = (page.more, page.items.last()) {
        let filter = artifact_type.map(|artifact_type| ("artifactType", artifact_type));
        let path = format!("/v2/{repository}/referrers/{subject}");
        put(&mut headers, header::LINK, &paging.next(&path, last.digest.as_ref(), filter));
    }
    let index = json!({ "schemaVersion": 2, "mediaType": ManifestKind::OciIndex.as_str(), "manifests": page.items });
    Ok((headers, index.to_string()).into_response())
}

/// As many entries as fit into one index.
async fn page(
    app: &App,
    repository: &RepositoryName,
    subject: &Digest,
    artifact_type: Option<&str>,
    paging: &Paging,
) -> Result<Page<Descriptor>, ApiError> {
    let mut referrers = app.store.referrers(repository, subject, artifact_type, paging.after.as_deref()).await?;
    let mut page = Page { items: Vec::new(), more: false };
    let mut size = 0;
    while let Some(descriptor) = referrers.next().await? {
        size += serde_json::to_vec(&descriptor).map_or(0, |bytes| bytes.len());
        let full = page.items.len() >= paging.limit || size > LARGEST_PAGE && !page.items.is_empty();
        if full {
            page.more = true;
            break;
        }
        page.items.push(descriptor);
    }
    Ok(page)
}
