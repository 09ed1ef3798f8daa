//! Requests to S3 that `object_store` has no name for, but signs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::client::{HttpClient, HttpRequestBody, HttpResponse};
use object_store::path::Path;
use object_store::signer::{Method, SignedUrlOptions, Signer};

use super::error::failed;
use crate::store::error::{Result, StoreError};

/// Who signs requests, and who sends them.
#[derive(Clone, Debug)]
pub(super) struct Signed {
    pub(super) signer: Arc<dyn Signer>,
    pub(super) http: HttpClient,
}

/// Each request is signed for itself.
const SIGNATURE_LASTS: Duration = Duration::from_mins(5);

impl Signed {
    /// Asks, and gives the document that comes back.
    pub(super) async fn send(
        &self,
        doing: impl fmt::Display + Sync,
        method: Method,
        path: &Path,
        query: &[(&str, &str)],
    ) -> Result<Bytes> {
        let answer = self.ask(&doing, &method, path, query).await?;
        let status = answer.status();
        let body = answer.into_body().bytes().await.map_err(|error| StoreError::other(&doing, error))?;
        // One that is gone has ended meanwhile.
        let has_ended = method == Method::DELETE && status == http::StatusCode::NOT_FOUND;
        if status.is_success() || has_ended {
            Ok(body)
        } else {
            Err(StoreError::other(&doing, format!("{status}: {}", String::from_utf8_lossy(&body))))
        }
    }

    /// How the store says that it has encrypted an object
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html>). `None`: it does not say so.
    pub(super) async fn encryption(&self, path: &Path) -> Result<Option<String>> {
        let doing = "look at an object";
        let answer = self.ask(&doing, &Method::HEAD, path, &[]).await?;
        if !answer.status().is_success() {
            return Err(StoreError::other(doing, answer.status().to_string()));
        }
        let said = answer.headers().get("x-amz-server-side-encryption").and_then(|value| value.to_str().ok());
        Ok(said.map(str::to_owned))
    }

    async fn ask(
        &self,
        doing: &(dyn fmt::Display + Sync),
        method: &Method,
        path: &Path,
        query: &[(&str, &str)],
    ) -> Result<HttpResponse> {
        let options = SignedUrlOptions::new().with_query(query.iter().copied());
        let url = self.signer.signed_url_opts(method.clone(), path, SIGNATURE_LASTS, &options).await;
        let url = url.map_err(|error| failed(doing, error))?;
        let request =
            http::Request::builder().method(method.clone()).uri(String::from(url)).body(HttpRequestBody::empty());
        let request = request.map_err(|error| StoreError::other(doing, error))?;
        self.http.execute(request).await.map_err(|error| StoreError::other(doing, error))
    }
}
