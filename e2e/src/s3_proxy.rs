//! What stands between a registry and its bucket: it counts requests, and can do to them what networks and stores do.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::sync::watch;

use crate::http::{Body, whole};
use crate::proxy::{Port, connect};
use crate::s3_server::S3Server;

/// What may become of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The store is busy, and has done nothing: 503 `SlowDown`.
    Refused,
    /// The connection is closed before the store has heard of it.
    Unheard,
    /// The store does what it is asked to, and its answer is lost.
    AnswerLost,
    /// The same, and what comes back says that something failed: 500 `InternalError`.
    AnswerWrong,
    /// The connection breaks off in the middle of the answer's body, or where that would begin.
    CutOff,
    /// The connection is closed, and the request reaches the store all the same, but later.
    Late,
    /// The answer takes its time.
    Slow,
}

/// All of them.
pub const FAULTS: [Fault; 7] =
    [Fault::Refused, Fault::Unheard, Fault::AnswerLost, Fault::AnswerWrong, Fault::CutOff, Fault::Late, Fault::Slow];

/// What a store may be like for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// Nobody answers.
    Away,
    /// Every answer is that it is too busy.
    Busy,
    /// Every answer is that something failed.
    Broken,
    /// It takes no more, not even an empty object, and gives and deletes what it has.
    Full,
}

/// A proxy in front of an S3 server, which ends when this is dropped.
#[derive(Debug)]
pub struct S3Proxy {
    port: Port,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    /// How many of a thousand requests meet one.
    faults: AtomicU32,
    outage: Mutex<Option<Outage>>,
    /// How far away it is, in microseconds there and back.
    distance: AtomicU64,
    seen: Mutex<Seen>,
    /// Requests that the store has heard of and not answered, and those that it has yet to hear of.
    under_way: watch::Sender<u64>,
}

/// A request that the store has heard of, or will.
struct Begun(Arc<Shared>);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.under_way.send_modify(|requests| *requests -= 1);
    }
}

/// What has come through.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Requests by what they ask for, in the words of the S3 API.
    pub requests: BTreeMap<&'static str, u64>,
    /// Faults that were made.
    pub faults: BTreeMap<Fault, u64>,
}

impl Seen {
    /// All requests.
    pub fn total(&self) -> u64 {
        self.requests.values().sum()
    }
}

impl S3Proxy {
    /// One that lets everything through.
    ///
    /// # Errors
    /// When nothing can be listened on.
    pub async fn start(server: &S3Server) -> Result<Self> {
        let shared = Arc::new(Shared {
            server: server.address(),
            faults: AtomicU32::new(0),
            outage: Mutex::default(),
            distance: AtomicU64::new(0),
            seen: Mutex::default(),
            under_way: watch::Sender::new(0),
        });
        let answering = Arc::clone(&shared);
        let port = Port::open(move |request| answer(Arc::clone(&answering), request)).await?;
        Ok(Self { port, shared })
    }

    /// Where it is, as `storage.s3.regionendpoint` wants it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// From now on so many of a thousand requests do not come through as they should.
    pub fn spoil(&self, of_a_thousand: u32) {
        self.shared.faults.store(of_a_thousand, Ordering::Relaxed);
    }

    /// From now on the store is like this, or, with `None`, as it is.
    pub fn fail(&self, outage: Option<Outage>) {
        *self.shared.outage.lock().unwrap_or_else(PoisonError::into_inner) = outage;
    }

    /// From now on it takes a request so long to get to the store, and its answer to get back.
    pub fn move_away(&self, distance: Duration) {
        let distance = u64::try_from(distance.as_micros()).unwrap_or(u64::MAX);
        self.shared.distance.store(distance, Ordering::Relaxed);
    }

    /// Waits until the store has done all that it has heard of: it goes on when nobody waits for its answer any more.
    pub async fn is_quiet(&self) {
        // The sender is held here, so there is always an answer.
        let _ = self.shared.under_way.subscribe().wait_for(|requests| *requests == 0).await;
    }

    /// What has come through since this was asked last.
    pub fn take_seen(&self) -> Seen {
        std::mem::take(&mut *self.shared.seen())
    }
}

impl Shared {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>) -> Begun {
        self.under_way.send_modify(|requests| *requests += 1);
        Begun(Arc::clone(self))
    }

    /// Counts a request, and says what is to become of it.
    fn meet(&self, request: &Request<Incoming>) -> Option<Fault> {
        let fault = (fastrand::u32(..1000) < self.faults.load(Ordering::Relaxed))
            .then(|| FAULTS[fastrand::usize(..FAULTS.len())]);
        let mut seen = self.seen();
        *seen.requests.entry(operation(request)).or_default() += 1;
        if let Some(fault) = fault {
            *seen.faults.entry(fault).or_default() += 1;
        }
        fault
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, io::Error> {
    let fault = shared.meet(&request);
    let outage = *shared.outage.lock().unwrap_or_else(PoisonError::into_inner);
    match outage {
        Some(Outage::Away) => return Err(io::ErrorKind::ConnectionReset.into()),
        Some(Outage::Busy) => return Ok(error(StatusCode::SERVICE_UNAVAILABLE, "SlowDown")),
        Some(Outage::Broken) => return Ok(error(StatusCode::INTERNAL_SERVER_ERROR, "InternalError")),
        // As MinIO says it.
        Some(Outage::Full) if request.method() == Method::PUT => {
            return Ok(error(StatusCode::INSUFFICIENT_STORAGE, "XMinioStorageFull"));
        }
        Some(Outage::Full) | None => {}
    }
    let distance = Duration::from_micros(shared.distance.load(Ordering::Relaxed));
    if !distance.is_zero() {
        tokio::time::sleep(distance).await;
    }
    match fault {
        Some(Fault::Refused) => return Ok(error(StatusCode::SERVICE_UNAVAILABLE, "SlowDown")),
        Some(Fault::Unheard) => return Err(io::ErrorKind::ConnectionReset.into()),
        Some(Fault::Late) => {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
            let begun = shared.begin();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(20..400))).await;
                let answer = exchange(&shared, Request::from_parts(head, whole(body))).await;
                // Heard to its end, as below.
                if let Ok(answer) = answer {
                    let _ = answer.into_body().collect().await;
                }
                drop(begun);
            });
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        _ => {}
    }
    let request = request.map(|body| body.map_err(io::Error::other).boxed());
    let begun = shared.begin();
    // In a task of its own: the client may go away meanwhile.
    let answer = tokio::spawn(async move {
        let answer = exchange(&shared, request).await;
        drop(begun);
        answer
    });
    let answer = answer.await.map_err(io::Error::other)??;
    match fault {
        Some(Fault::AnswerLost | Fault::AnswerWrong) => {
            // Heard to its end: a store may stop what nobody waits for.
            answer.into_body().collect().await.map_err(io::Error::other)?;
            if fault == Some(Fault::AnswerLost) {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            Ok(error(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"))
        }
        Some(Fault::CutOff) => Ok(answer.map(|body| {
            let half = |frame: Frame<Bytes>| frame.map_data(|data| data.slice(..data.len() / 2));
            let frames = BodyStream::new(body).map(move |frame| frame.map(half).map_err(io::Error::other));
            let cut = futures::stream::once(async {
                tokio::time::sleep(Duration::from_millis(5)).await;
                Err(io::ErrorKind::ConnectionReset.into())
            });
            BodyExt::boxed(StreamBody::new(frames.take(1).chain(cut)))
        })),
        Some(Fault::Slow) => {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(10..400))).await;
            Ok(answer.map(|body| body.map_err(io::Error::other).boxed()))
        }
        _ => Ok(answer.map(|body| body.map_err(io::Error::other).boxed())),
    }
}

async fn exchange(shared: &Shared, request: Request<Body>) -> Result<Response<Incoming>, io::Error> {
    connect(shared.server).await?.send_request(request).await.map_err(io::Error::other)
}

fn error(status: StatusCode, code: &str) -> Response<Body> {
    let document = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code></Error>");
    let mut answer = Response::new(whole(Bytes::from(document)));
    *answer.status_mut() = status;
    answer
}

/// What a request asks for (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations.html>).
fn operation(request: &Request<Incoming>) -> &'static str {
    let query = request.uri().query().unwrap_or_default();
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    match *request.method() {
        Method::GET if has("list-type") => "ListObjectsV2",
        Method::GET => "GetObject",
        Method::HEAD => "HeadObject",
        Method::PUT if has("partNumber") => "UploadPart",
        Method::PUT if request.headers().contains_key("x-amz-copy-source") => "CopyObject",
        Method::PUT => "PutObject",
        Method::POST if has("uploads") => "CreateMultipartUpload",
        Method::POST if has("uploadId") => "CompleteMultipartUpload",
        Method::POST if has("delete") => "DeleteObjects",
        Method::DELETE if has("uploadId") => "AbortMultipartUpload",
        Method::DELETE => "DeleteObject",
        _ => "other",
    }
}
