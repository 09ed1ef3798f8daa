//! From request to response.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};

use super::endpoint::Endpoint;
use super::error::ApiError;
use super::request_log::Record;
use super::{App, auth, blobs, catalog, header as oci_header, manifests, referrers, tags, uploads};

/// The whole API, as a service. axum takes wildcards only at the end of a route, so every path comes to one handler, and
/// [`Endpoint`] tells them apart.
pub fn router(app: App) -> Router {
    Router::new().fallback(handle).with_state(Arc::new(app))
}

async fn handle(State(app): State<Arc<App>>, request: Request) -> Response {
    let endpoint = Endpoint::parse(request.method(), request.uri().path());
    let mut record = Record::begin(Arc::clone(&app.metrics), &request, endpoint.as_ref().ok());
    let request = record.count_body(request);
    let answer = match endpoint {
        Ok(Endpoint::Root) => Ok(axum::body::Body::empty().into_response()),
        endpoint => answer(&app, endpoint.map_err(ApiError::NoEndpoint), request, &mut record).await,
    };
    let mut response = answer.unwrap_or_else(IntoResponse::into_response);
    let headers = response.headers_mut();
    headers.insert(oci_header::API_VERSION, HeaderValue::from_static("registry/2.0"));
    // Whoever pushes chooses the bytes; a browser must neither guess a type for them nor run them.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    record.answered(response)
}

/// Who asks comes before what is asked for, so that nobody learns anything from how a request is refused.
async fn answer(
    app: &App,
    endpoint: Result<Endpoint, ApiError>,
    request: Request,
    record: &mut Record,
) -> Result<Response, ApiError> {
    // A body cannot be looked at from two threads, and only what takes it needs it.
    let (parts, body) = request.into_parts();
    let principal = auth::authenticate(&app.access, &parts).await?;
    record.principal(&principal);
    let endpoint = endpoint?;
    let grant = auth::authorize(app, principal, &parts, endpoint.operation())?;
    match endpoint {
        Endpoint::Root | Endpoint::Ping => Ok(ping()),
        Endpoint::Catalog => catalog::list(app, &grant, &parts).await,
        Endpoint::Tags(repository) => tags::list(app, &repository, &parts).await,
        Endpoint::Referrers(repository, subject) => referrers::list(app, &repository, &subject, &parts).await,
        Endpoint::PullManifest(repository, reference) => manifests::pull(app, &repository, &reference, &parts).await,
        Endpoint::PushManifest(repository, reference) => {
            manifests::push(app, &grant, &repository, reference, &parts, body).await
        }
        Endpoint::DeleteManifest(repository, reference) => manifests::delete(app, &repository, reference).await,
        Endpoint::PullBlob(repository, digest) => blobs::pull(app, &repository, &digest, &parts).await,
        Endpoint::DeleteBlob(repository, digest) => blobs::delete(app, &repository, &digest).await,
        Endpoint::StartUpload(repository) => uploads::start(app, &grant, repository, &parts, body).await,
        Endpoint::UploadStatus(repository, token) => uploads::status(app, &grant, &repository, &token).await,
        Endpoint::UploadChunk(repository, token) => {
            uploads::chunk(app, &grant, &repository, &token, &parts, body).await
        }
        Endpoint::FinishUpload(repository, token) => {
            uploads::finish(app, &grant, &repository, &token, &parts, body).await
        }
        Endpoint::CancelUpload(repository, token) => uploads::cancel(app, &grant, &repository, &token).await,
    }
}

fn ping() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], "{}").into_response()
}
