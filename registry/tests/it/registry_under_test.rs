//! A registry in memory, and words for asking it things.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::body::{Body, to_bytes};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use berth_contract::config::{Auth, Htpasswd, Nodes};
use berth_contract::node_credentials::NodeCredential;
use berth_oci::{Algorithm, Digest, ErrorCode};
use berth_registry::access::Access;
use berth_registry::http::{App, Switches, UploadKeys, router};
use berth_registry::metrics::Metrics;
use berth_registry::store::Store;
use bytes::Bytes;
use http::request::Builder;
use http::{HeaderMap, Request, StatusCode, header};
use serde_json::{Value, json};
use tower::ServiceExt as _;

pub(crate) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A registry that answers without a socket.
#[derive(Clone)]
pub(crate) struct RegistryUnderTest {
    pub(crate) store: Store,
    pub(crate) router: Router,
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

pub(crate) const ALL_ON: Switches = Switches { read_only: false, delete: true };

impl RegistryUnderTest {
    /// Open to everyone, with everything switched on.
    pub(crate) fn open() -> Self {
        Self::on(Store::in_memory())
    }

    /// The same, with what another replica stored.
    pub(crate) fn on(store: Store) -> Self {
        Self::new(store, Arc::new(Access::new(None).unwrap()), ALL_ON)
    }

    /// With the users `alice` and `bob`, whose password is `secret`, and the node `node`, whose password is `node-secret`.
    pub(crate) fn guarded(store: Store, switches: Switches) -> Self {
        // One door for all tests: a password is hashed in slow motion, and more so without optimization.
        static DOOR: LazyLock<Arc<Access>> = LazyLock::new(|| Arc::new(access()));
        Self::new(store, Arc::clone(&DOOR), switches)
    }

    pub(crate) fn new(store: Store, access: Arc<Access>, switches: Switches) -> Self {
        let keys = UploadKeys::secret("the key of every registry in these tests");
        let app = App::new(store.clone(), access, Arc::new(keys), Arc::new(Metrics::default()), switches);
        Self { store, router: router(app) }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// `METHOD PATH`, without a body.
    pub(crate) async fn ask(&self, line: &str) -> Answer {
        self.send(request(line).body(Body::empty()).unwrap()).await
    }

    /// `METHOD PATH` with a body.
    pub(crate) async fn bring(&self, line: &str, body: impl Into<Body>) -> Answer {
        self.send(request(line).body(body.into()).unwrap()).await
    }

    pub(crate) async fn push_blob(&self, repository: &str, bytes: &'static [u8]) -> Digest {
        let digest = digest_of(bytes);
        let answer = self.bring(&format!("POST /v2/{repository}/blobs/uploads/?digest={digest}"), bytes).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        digest
    }

    pub(crate) async fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Answer {
        let request =
            request(&format!("PUT /v2/{repository}/manifests/{reference}")).header(header::CONTENT_TYPE, media_type);
        self.send(request.body(bytes.to_vec().into()).unwrap()).await
    }

    /// Pushes an image with a config and a layer of its own, and tags it.
    pub(crate) async fn push_image(&self, repository: &str, tag: &str) -> Digest {
        let config = self.push_blob(repository, b"{}").await;
        let layer = self.push_blob(repository, b"a layer").await;
        let manifest = image(&config, 2, &layer, 7, json!({}));
        let answer = self.put_manifest(repository, tag, IMAGE, &manifest).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        digest_of(&manifest)
    }

    pub(crate) async fn stored_keys(&self) -> Vec<String> {
        self.store.stored_keys().await.unwrap()
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The code of an error, which must be one of the specification's, in a body of the specification's form.
    pub(crate) fn code(&self) -> String {
        assert_eq!(self.header("content-type"), "application/json", "{self:?}");
        let errors = self.json();
        let [error] = errors["errors"].as_array().unwrap().as_slice() else { panic!("{errors}") };
        let code = error["code"].as_str().unwrap().to_owned();
        assert!(CODES.iter().any(|known| known.as_str() == code && known.message() == error["message"]), "{errors}");
        code
    }

    /// Status and code.
    pub(crate) fn refusal(&self) -> (u16, String) {
        (self.status.as_u16(), self.code())
    }
}

const CODES: [ErrorCode; 14] = [
    ErrorCode::BlobUnknown,
    ErrorCode::BlobUploadInvalid,
    ErrorCode::BlobUploadUnknown,
    ErrorCode::DigestInvalid,
    ErrorCode::ManifestBlobUnknown,
    ErrorCode::ManifestInvalid,
    ErrorCode::ManifestUnknown,
    ErrorCode::NameInvalid,
    ErrorCode::NameUnknown,
    ErrorCode::SizeInvalid,
    ErrorCode::Unauthorized,
    ErrorCode::Denied,
    ErrorCode::Unsupported,
    ErrorCode::TooManyRequests,
];

/// The beginning of a request from its first line.
pub(crate) fn request(line: &str) -> Builder {
    let (method, path) = line.split_once(' ').unwrap();
    Request::builder().method(method).uri(path)
}

pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{user}:{password}")))
}

pub(crate) fn access() -> Access {
    let directory = tempfile::tempdir().unwrap();
    let [users, nodes] = ["users", "nodes"].map(|name| directory.path().join(name));
    // The cheapest cost that is admitted; a dear one would only make the tests slow.
    let hash = bcrypt::hash("secret", 5).unwrap();
    std::fs::write(&users, format!("alice:{hash}\nbob:{hash}\n")).unwrap();
    std::fs::write(&nodes, NodeCredential::new("node", "node-secret").unwrap().to_string()).unwrap();
    let htpasswd = Some(Htpasswd { realm: "Ours".into(), path: users });
    Access::new(Some(&Auth { htpasswd, nodes: Some(Nodes { path: nodes }) })).unwrap()
}

pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, bytes)
}

/// An image manifest, with `more` fields.
pub(crate) fn image(config: &Digest, config_size: u64, layer: &Digest, layer_size: u64, more: Value) -> Vec<u8> {
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": layer_size }],
    });
    let Value::Object(more) = more else { panic!("{more}") };
    manifest.as_object_mut().unwrap().extend(more);
    serde_json::to_vec(&manifest).unwrap()
}
