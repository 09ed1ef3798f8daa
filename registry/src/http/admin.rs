//! Health, status and metrics, on a port of their own: it asks nobody who they are, and says nothing that is a secret.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use berth_contract::status_report::{StatusReport, StorageReport};
use http::{StatusCode, header};

use super::UploadKeys;
use crate::access::Access;
use crate::metrics::Metrics;
use crate::serve::Certificate;
use crate::store::{Honoured, LastCollection};

/// Whether requests should come, and why not.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Mutex<Option<&'static str>>>);

impl Readiness {
    /// Not yet, because of `reason`.
    pub fn not_yet(reason: &'static str) -> Self {
        Self(Arc::new(Mutex::new(Some(reason))))
    }

    /// From now on requests should come.
    pub fn ready(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// From now on they should not.
    pub fn not_ready(&self, reason: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    fn reason(&self) -> Option<&'static str> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the port tells of.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Whether requests should come.
    pub readiness: Readiness,
    /// What has been counted.
    pub metrics: Arc<Metrics>,
    /// The files of users and nodes in use.
    pub access: Arc<Access>,
    /// The file of keys in use.
    pub upload_keys: Arc<UploadKeys>,
    /// The certificate in use, with TLS.
    pub certificate: Option<Certificate>,
    /// What storage was seen to honour, once that is known.
    pub honoured: Arc<OnceLock<Honoured>>,
    /// What came of the last garbage collection.
    pub last_collection: LastCollection,
}

/// `/livez`, `/readyz`, `/status` and `/metrics`.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .with_state(admin)
}

async fn readyz(State(admin): State<Admin>) -> Response {
    match admin.readiness.reason() {
        None => "ok\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn status(State(admin): State<Admin>) -> Response {
    let mut files = admin.access.fingerprints();
    files.extend(admin.upload_keys.fingerprint().map(|fingerprint| ("http.secretfile".into(), fingerprint)));
    let report = StatusReport {
        version: env!("CARGO_PKG_VERSION").into(),
        certificate: admin.certificate.as_ref().map(Certificate::fingerprint),
        files,
        not_ready: admin.readiness.reason().map(Into::into),
        storage: admin.honoured.get().map(|honoured| {
            let Honoured { conditional_create, conditional_overwrite } = *honoured;
            StorageReport { conditional_create, conditional_overwrite }
        }),
        last_collection: admin.last_collection.get(),
    };
    // Text under text keys always has a JSON form.
    let json = serde_json::to_string(&report).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], json).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let not_after = admin.certificate.as_ref().map(Certificate::not_after);
    ([(header::CONTENT_TYPE, content_type)], admin.metrics.encode(not_after)).into_response()
}
