//! The port for probes, the operator and Prometheus.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use berth_contract::status_report::{StatusReport, StorageReport};
use berth_registry::access::Access;
use berth_registry::http::admin::{Admin, Readiness, router};
use berth_registry::http::{self, App, UploadKeys};
use berth_registry::metrics::Metrics;
use berth_registry::store::{Honoured, Store};
use tower::ServiceExt as _;

use crate::registry_under_test::{ALL_ON, access, request};

async fn get(router: &Router, path: &str) -> (u16, String) {
    let response = router.clone().oneshot(request(&format!("GET {path}")).body(Body::empty()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    (status, String::from_utf8(to_bytes(response.into_body(), usize::MAX).await.unwrap().into()).unwrap())
}

fn admin(access: Access) -> Admin {
    let (readiness, metrics) = (Readiness::not_yet("storage is being opened"), Arc::new(Metrics::default()));
    let upload_keys = Arc::new(UploadKeys::secret("secret"));
    Admin {
        readiness,
        metrics,
        access: Arc::new(access),
        upload_keys,
        certificate: None,
        honoured: Arc::default(),
        last_collection: Default::default(),
    }
}

#[tokio::test]
async fn readiness_comes_and_goes_and_life_goes_on() {
    let admin = admin(Access::new(None).unwrap());
    let readiness = admin.readiness.clone();
    let router = router(admin);
    assert_eq!(get(&router, "/readyz").await, (503, "storage is being opened\n".into()));
    readiness.ready();
    assert_eq!(get(&router, "/readyz").await, (200, "ok\n".into()));
    readiness.not_ready("stopping");
    assert_eq!(get(&router, "/readyz").await, (503, "stopping\n".into()));
    assert_eq!(get(&router, "/livez").await.0, 200);
    assert_eq!(get(&router, "/v2/").await.0, 404);
}

#[tokio::test]
async fn the_status_names_files_by_fingerprint_and_no_secret() {
    let router = router(admin(access()));
    let (status, body) = get(&router, "/status").await;
    let report: StatusReport = serde_json::from_str(&body).unwrap();
    assert_eq!((status, report.not_ready.as_deref()), (200, Some("storage is being opened")));
    assert_eq!(report.files.keys().collect::<Vec<_>>(), ["auth.htpasswd.path", "auth.nodes.path"]);
    assert!(report.files.values().all(|fingerprint| fingerprint.len() == 64));
    assert!(!body.contains("alice") && !body.contains("$2"));
}

#[tokio::test]
async fn the_status_tells_what_storage_honours_once_it_was_looked_at() {
    let admin = admin(Access::new(None).unwrap());
    let (honoured, router) = (Arc::clone(&admin.honoured), router(admin));
    let told = async || serde_json::from_str::<StatusReport>(&get(&router, "/status").await.1).unwrap().storage;
    assert_eq!(told().await, None);
    honoured.set(Honoured { conditional_create: true, conditional_overwrite: false }).unwrap();
    assert_eq!(told().await, Some(StorageReport { conditional_create: true, conditional_overwrite: false }));
}

/// S-37: a client chooses neither the names nor the number of the series.
#[tokio::test]
async fn metrics_count_requests_under_names_of_ours() {
    let admin = admin(Access::new(None).unwrap());
    let keys = Arc::new(UploadKeys::secret("secret"));
    let app = App::new(Store::in_memory(), Arc::clone(&admin.access), keys, Arc::clone(&admin.metrics), ALL_ON);
    let api = http::router(app);
    for n in 0..100 {
        get(&api, &format!("/v2/repository{n}/tags/list")).await;
        get(&api, &format!("/nothing/{n}")).await;
        let invented = request(&format!("M{n} /v2/")).body(Body::empty()).unwrap();
        drop(api.clone().oneshot(invented).await.unwrap());
    }
    let (_, text) = get(&router(admin), "/metrics").await;
    assert!(text.contains("registry_http_requests_total{endpoint=\"tags\",method=\"GET\",code=\"404\"} 100"), "{text}");
    assert!(
        text.contains("registry_http_requests_total{endpoint=\"none\",method=\"other\",code=\"405\"} 100"),
        "{text}"
    );
    assert!(text.contains("registry_http_requests_in_progress 0"), "{text}");
    assert!(text.contains("registry_blobs_arriving 0"), "{text}");
    assert!(text.lines().count() < 100 && !text.contains("repository1") && text.ends_with("# EOF\n"));
}
