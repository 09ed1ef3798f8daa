//! A client with one kept-alive connection, as container runtimes and CI jobs have it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use berth_e2e::image::{Blob, IMAGE, Manifest};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE, HOST, LOCATION};
use http::request::Builder;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;

/// The repository that everything is in, unless many are what is measured.
pub(crate) const REPOSITORY: &str = "bench";

/// How a blob is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// POST, then PUT with the bytes: what containerd does.
    Whole,
    /// POST, PATCHes of so many bytes, and a PUT without any: what docker does.
    Chunks(usize),
}

/// Docker sends all of a blob as one chunk.
pub(crate) const LIKE_DOCKER: Way = Way::Chunks(usize::MAX);

pub(crate) struct Client {
    address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
    /// Whether to ask again when the server says that it is too busy.
    pub(crate) patient: bool,
    /// How often it said so.
    pub(crate) refused: usize,
}

/// How long a patient client waits before it asks again.
const PAUSE: Duration = Duration::from_millis(50);

impl Client {
    /// One at an address of its own: limits on what one client may have are not what is measured.
    pub(crate) async fn open(number: usize, address: SocketAddr) -> Result<Self> {
        let [.., high, low] = u32::try_from(number)?.to_be_bytes();
        let socket = TcpSocket::new_v4()?;
        socket.set_nodelay(true)?;
        socket.bind((Ipv4Addr::new(127, 1, high, low), 0).into())?;
        let stream = socket.connect(address).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { address, sender, patient: false, refused: 0 })
    }

    pub(crate) async fn push_blob(&mut self, blob: &Blob, way: Way) -> Result<()> {
        let upload = format!("/v2/{REPOSITORY}/blobs/uploads/");
        let begun = self.ask(Method::POST, &upload, |request| request, Bytes::new()).await?;
        let mut location = self.location(&expect(begun, StatusCode::ACCEPTED)?)?;
        let mut rest = blob.bytes.clone();
        if let Way::Chunks(most) = way {
            let mut start = 0;
            while !rest.is_empty() {
                let chunk = rest.split_to(most.min(rest.len()));
                let range = format!("{start}-{}", start + chunk.len() - 1);
                start += chunk.len();
                let answer =
                    self.ask(Method::PATCH, &location, |request| bytes(request).header(CONTENT_RANGE, &range), chunk);
                let answer = expect(answer.await?, StatusCode::ACCEPTED)?;
                location = self.location(&answer)?;
            }
        }
        let joint = if location.contains('?') { '&' } else { '?' };
        let end = format!("{location}{joint}digest={}", blob.digest);
        expect(self.ask(Method::PUT, &end, bytes, rest).await?, StatusCode::CREATED).map(drop)
    }

    pub(crate) async fn put_manifest(&mut self, reference: &str, manifest: &Manifest) -> Result<()> {
        let path = format!("/v2/{REPOSITORY}/manifests/{reference}");
        let typed = |request: Builder| request.header(CONTENT_TYPE, manifest.media_type);
        expect(self.ask(Method::PUT, &path, typed, manifest.bytes.clone()).await?, StatusCode::CREATED).map(drop)
    }

    /// Pushes an image as docker does, but one layer after the other.
    pub(crate) async fn push_image(&mut self, tag: &str, image: &Manifest) -> Result<()> {
        for blob in &image.blobs {
            self.push_blob(blob, LIKE_DOCKER).await?;
        }
        self.put_manifest(tag, image).await
    }

    /// Pulls an image as a container runtime does that has nothing of it, but one layer after the other.
    pub(crate) async fn pull_image(&mut self, tag: &str, image: &Manifest) -> Result<()> {
        let manifest = |reference: &str| format!("/v2/{REPOSITORY}/manifests/{reference}");
        let head = self.ask(Method::HEAD, &manifest(tag), |request| request, Bytes::new()).await?;
        expect(head, StatusCode::OK)?;
        self.drain(&manifest(image.digest.as_ref())).await?;
        for blob in &image.blobs {
            let length = self.drain(&blob_path(blob)).await?;
            ensure!(length == blob.bytes.len(), "{length} bytes came of {}", blob.bytes.len());
        }
        Ok(())
    }

    pub(crate) async fn delete(&mut self, path: &str) -> Result<()> {
        expect(self.ask(Method::DELETE, path, |request| request, Bytes::new()).await?, StatusCode::ACCEPTED).map(drop)
    }

    /// The status and the body that `path` has now, whatever they are.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Response<Bytes>> {
        self.ask(Method::GET, path, |request| request, Bytes::new()).await
    }

    /// Reads all of `path`, keeps nothing, and says how many bytes it was.
    pub(crate) async fn drain(&mut self, path: &str) -> Result<usize> {
        let mut answer = self.send(self.request(Method::GET, path).body(Full::default())?).await?;
        ensure!(answer.status() == StatusCode::OK, "GET {path}: {}", answer.status());
        let mut length = 0;
        while let Some(frame) = answer.body_mut().frame().await {
            length += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok(length)
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        headers: impl Fn(Builder) -> Builder,
        body: Bytes,
    ) -> Result<Response<Bytes>> {
        loop {
            let request = headers(self.request(method.clone(), path)).body(Full::new(body.clone()))?;
            let answer = self.send(request).await.with_context(|| format!("{method} {path}"))?;
            let (head, body) = answer.into_parts();
            let body = body.collect().await?.to_bytes();
            if self.patient && matches!(head.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
                self.refused += 1;
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            return Ok(Response::from_parts(head, body));
        }
    }

    fn request(&self, method: Method, path: &str) -> Builder {
        let request = Request::builder().method(method).uri(path).header(HOST, self.address.to_string());
        request.header(ACCEPT, IMAGE)
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        self.sender.ready().await?;
        Ok(self.sender.send_request(request).await?)
    }

    fn location(&self, answer: &Response<Bytes>) -> Result<String> {
        let location = answer.headers().get(LOCATION).context("no Location")?.to_str()?;
        // distribution answers with an absolute URL, others with a path.
        Ok(location.strip_prefix(&format!("http://{}", self.address)).unwrap_or(location).to_owned())
    }
}

pub(crate) fn blob_path(blob: &Blob) -> String {
    format!("/v2/{REPOSITORY}/blobs/{}", blob.digest)
}

fn bytes(request: Builder) -> Builder {
    request.header(CONTENT_TYPE, "application/octet-stream")
}

fn expect(answer: Response<Bytes>, status: StatusCode) -> Result<Response<Bytes>> {
    let body = String::from_utf8_lossy(answer.body());
    ensure!(answer.status() == status, "expected {status}, got {}: {body}", answer.status());
    Ok(answer)
}
