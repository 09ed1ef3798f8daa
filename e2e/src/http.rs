//! An HTTP client for registries that does nothing on its own: one connection for each request, no retries, no redirects,
//! and able to break off in the middle. An error of [`Client::send`] means that the outcome is unknown.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use berth_oci::Digest;
use bytes::Bytes;
use futures::StreamExt as _;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HOST, LOCATION};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::image::Manifest;

/// For a whole request. Nothing here is large, so whoever takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a request carries.
pub type Body = BoxBody<Bytes, io::Error>;

/// No body.
pub fn nothing() -> Body {
    whole(Bytes::new())
}

/// A body that is sent as it is.
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// A body that is promised to be longer than `bytes`, and after which the connection is cut.
pub fn cut_off_after(bytes: impl Into<Bytes>) -> Body {
    let cut = Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut off on purpose"));
    // The cut waits until what comes before it has left: hyper drops what it still holds when a body fails.
    let cut = futures::stream::once(async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        cut
    });
    let pieces = futures::stream::iter([Ok(Frame::data(bytes.into()))]).chain(cut);
    BodyExt::boxed(StreamBody::new(pieces))
}

/// A registry, and who we say we are to it.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    tls: Option<TlsConnector>,
    authorization: Option<HeaderValue>,
}

impl Client {
    /// A client that speaks plain HTTP to `address`, as nobody.
    pub const fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None, authorization: None }
    }

    /// The same over TLS, trusting only the certificates in `authority`.
    ///
    /// # Errors
    /// When `authority` holds no certificates.
    pub fn trusting(self, authority: &str) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Some(TlsConnector::from(Arc::new(config))), ..self })
    }

    /// The same as a user with a password.
    ///
    /// # Errors
    /// When they cannot be sent in a header.
    pub fn as_user(self, user: &str, password: &str) -> Result<Self> {
        let basic = format!("Basic {}", BASE64.encode(format!("{user}:{password}")));
        Ok(Self { authorization: Some(basic.try_into()?), ..self })
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When no whole answer came back. The request may have been carried out all the same.
    pub async fn send(&self, method: Method, location: &str, headers: &[Header<'_>], body: Body) -> Result<Answer> {
        let what = format!("{method} {location}");
        let request = self.request(method, location, headers, body)?;
        let answer = async {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            match &self.tls {
                None => exchange(stream, request).await,
                Some(tls) => {
                    let name = ServerName::from(self.address.ip());
                    exchange(tls.connect(name, stream).await?, request).await
                }
            }
        };
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        answer.with_context(|| format!("{what}: no answer in {PATIENCE:?}"))?.with_context(|| what)
    }

    fn request(&self, method: Method, location: &str, headers: &[Header<'_>], body: Body) -> Result<Request<Body>> {
        let location: Uri = location.parse().with_context(|| format!("bad location {location:?}"))?;
        let path = location.path_and_query().context("a location without a path")?;
        let mut request = Request::builder().method(method).uri(path.as_str()).header(HOST, self.address.to_string());
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(request.body(body)?)
    }

    /// Asks for `path`.
    ///
    /// # Errors
    /// As for [`Client::send`].
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, &[], nothing()).await
    }

    /// Asks whether `path` is there.
    ///
    /// # Errors
    /// As for [`Client::send`].
    pub async fn head(&self, path: &str) -> Result<Answer> {
        self.send(Method::HEAD, path, &[], nothing()).await
    }

    /// Deletes `path`.
    ///
    /// # Errors
    /// As for [`Client::send`].
    pub async fn delete(&self, path: &str) -> Result<Answer> {
        self.send(Method::DELETE, path, &[], nothing()).await
    }

    /// Begins an upload and says where it goes on.
    ///
    /// # Errors
    /// When it is refused, or as for [`Client::send`].
    pub async fn start_upload(&self, repository: &str) -> Result<String> {
        let path = format!("/v2/{repository}/blobs/uploads/");
        self.send(Method::POST, &path, &[], nothing()).await?.expect(StatusCode::ACCEPTED)?.location()
    }

    /// Sends one chunk, which says where it belongs and how long it is even if `body` then breaks off.
    ///
    /// # Errors
    /// As for [`Client::send`].
    pub async fn patch(&self, location: &str, start: usize, length: usize, body: Body) -> Result<Answer> {
        let range = format!("{start}-{}", start + length - 1);
        let length = length.to_string();
        let headers = [
            (CONTENT_TYPE.as_str(), "application/octet-stream"),
            (CONTENT_RANGE.as_str(), range.as_str()),
            (CONTENT_LENGTH.as_str(), length.as_str()),
        ];
        self.send(Method::PATCH, location, &headers, body).await
    }

    /// Ends an upload with what is left of the blob.
    ///
    /// # Errors
    /// As for [`Client::send`].
    pub async fn finish(&self, location: &str, digest: &Digest, rest: impl Into<Bytes>) -> Result<Answer> {
        let separator = if location.contains('?') { '&' } else { '?' };
        let headers = [(CONTENT_TYPE.as_str(), "application/octet-stream")];
        self.send(Method::PUT, &format!("{location}{separator}digest={digest}"), &headers, whole(rest)).await
    }

    /// Pushes a blob by POST and PUT.
    ///
    /// # Errors
    /// When the upload cannot begin, or as for [`Client::send`].
    pub async fn push_blob(&self, repository: &str, digest: &Digest, bytes: &Bytes) -> Result<Answer> {
        let location = self.start_upload(repository).await?;
        self.finish(&location, digest, bytes.clone()).await
    }

    /// Puts a manifest at `reference`, which may carry a query.
    ///
    /// # Errors
    /// As for [`Client::send`].
    pub async fn put_manifest(&self, repository: &str, reference: &str, manifest: &Manifest) -> Result<Answer> {
        let headers = [(CONTENT_TYPE.as_str(), manifest.media_type)];
        let path = format!("/v2/{repository}/manifests/{reference}");
        self.send(Method::PUT, &path, &headers, whole(manifest.bytes.clone())).await
    }
}

/// A header of a request.
pub type Header<'a> = (&'a str, &'a str);

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Body>,
) -> Result<Answer> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with `sender`; what goes wrong on it, the request hears of.
    tokio::spawn(connection);
    let (parts, body) = sender.send_request(request).await?.into_parts();
    Ok(Answer { status: parts.status, headers: parts.headers, body: body.collect().await?.to_bytes() })
}

/// What came back, whole.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The answer, if it has this status.
    ///
    /// # Errors
    /// When it has another.
    pub fn expect(self, status: StatusCode) -> Result<Self> {
        let body = String::from_utf8_lossy(&self.body);
        ensure!(self.status == status, "expected {status}, got {} {:?}: {body}", self.status, self.headers);
        Ok(self)
    }

    /// The text of a header, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Where to go on.
    ///
    /// # Errors
    /// When it does not say.
    pub fn location(&self) -> Result<String> {
        Ok(self.header(LOCATION.as_str()).context("an answer without Location")?.to_owned())
    }

    /// How many bytes an upload has, by its `Range`.
    ///
    /// # Errors
    /// When it does not say, or not from the first byte on.
    pub fn received(&self) -> Result<usize> {
        let range = self.header("range").context("an answer without Range")?;
        let last: usize = range.strip_prefix("0-").and_then(|last| last.parse().ok()).context("Range is not 0-LAST")?;
        // The specification has no words for nothing; everybody says 0-0. The registry
        // keeps no upload with one byte.
        Ok(if last == 0 { 0 } else { last + 1 })
    }
}
