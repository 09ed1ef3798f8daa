//! How often a store that fails is asked again, in all. One request that fails is worth several tries; when most do, the tries are
//! what keeps the store from getting up again, and every client waits for the last of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use http::StatusCode;
use http_body_util::{BodyExt as _, Collected};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};

/// Clients that have one budget together.
#[derive(Clone, Debug, Default)]
pub(super) struct Budgeted(Arc<Budget>);

impl HttpConnector for Budgeted {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Spender { client, budget: Arc::clone(&self.0) }))
    }
}

/// What there is to spend, as in the retry quota of Amazon's own clients
/// (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html>).
#[derive(Debug)]
struct Budget(AtomicU32);

const CAPACITY: u32 = 500;
/// So a hundred requests may fail in a row.
const FAILURE: u32 = 5;
const SUCCESS: u32 = 1;

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicU32::new(CAPACITY))
    }
}

impl Budget {
    fn earn(&self) {
        let earn = |left: u32| (left < CAPACITY).then_some(left + SUCCESS);
        // Nothing to do where it is full.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, earn);
    }

    /// Whether there was enough left.
    fn spend(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(FAILURE)).is_ok()
    }
}

/// What `object_store` would try again, while there is something to spend; then an error that it does not.
#[derive(Debug)]
struct Spender {
    client: HttpClient,
    budget: Arc<Budget>,
}

#[async_trait]
impl HttpService for Spender {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = self.client.execute(request).await;
        let has_failed = match &answer {
            Ok(answer) => answer.status().is_server_error() || answer.status() == StatusCode::TOO_MANY_REQUESTS,
            Err(_) => true,
        };
        if !has_failed {
            self.budget.earn();
            return answer;
        }
        if self.budget.spend() {
            return answer;
        }
        let said = match answer {
            Ok(answer) => {
                let status = answer.status();
                let document = answer.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
                format!("{status} {}", String::from_utf8_lossy(&document))
            }
            Err(error) => error.to_string(),
        };
        Err(HttpError::new(HttpErrorKind::Unknown, SpentError(said)))
    }
}

/// A failure after which the request is not sent again.
#[derive(Debug, thiserror::Error)]
#[error("so many requests fail that none is tried again: {0}")]
pub(super) struct SpentError(String);

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use object_store::aws::AmazonS3Builder;
    use object_store::path::Path;
    use object_store::{ObjectStoreExt as _, RetryConfig};

    use super::super::error::{broke_off, code, was_not_done};
    use super::*;

    /// A store that says that it is too busy, or has nothing.
    #[derive(Clone, Debug, Default)]
    struct Fake {
        asked: Arc<AtomicU32>,
        recovered: Arc<AtomicBool>,
    }

    #[async_trait]
    impl HttpService for Fake {
        async fn call(&self, _: HttpRequest) -> Result<HttpResponse, HttpError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let (status, code) =
                if self.recovered.load(Ordering::Relaxed) { (404, "NoSuchKey") } else { (503, "SlowDown") };
            let document = format!("<Error><Code>{code}</Code></Error>");
            Ok(http::Response::builder().status(status).body(document.into()).unwrap())
        }
    }

    #[derive(Debug)]
    struct ToFake(Fake, Arc<Budget>);

    impl HttpConnector for ToFake {
        fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
            Ok(HttpClient::new(Spender { client: HttpClient::new(self.0.clone()), budget: Arc::clone(&self.1) }))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_is_asked_a_hundred_times_more_and_then_once_by_each_until_it_recovers() {
        let (fake, budget) = (Fake::default(), Arc::default());
        let store = AmazonS3Builder::new()
            .with_bucket_name("b")
            .with_region("r")
            .with_access_key_id("k")
            .with_secret_access_key("s")
            .with_retry(RetryConfig { max_retries: 5, ..RetryConfig::default() })
            .with_http_connector(ToFake(fake.clone(), Arc::clone(&budget)))
            .build()
            .unwrap();
        let get = async || store.get(&Path::from("x")).await.unwrap_err();
        for _ in 0..500 {
            get().await;
        }
        // Of the hundred that it bought some were the last tries of their requests.
        let asked = fake.asked.swap(0, Ordering::Relaxed);
        assert!((580..=600).contains(&asked), "{asked}");
        let error = get().await;
        assert_eq!(fake.asked.swap(0, Ordering::Relaxed), 1);
        assert_eq!(code(&error).as_deref(), Some("SlowDown"), "what it said is not lost: {error}");
        assert!(!was_not_done(&error) && !broke_off(&error), "we would ask again ourselves");

        fake.recovered.store(true, Ordering::Relaxed);
        for _ in 0..10 {
            get().await;
        }
        fake.recovered.store(false, Ordering::Relaxed);
        fake.asked.store(0, Ordering::Relaxed);
        get().await;
        assert_eq!(fake.asked.load(Ordering::Relaxed), 3, "ten answers have bought two tries");
    }
}
