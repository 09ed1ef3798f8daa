//! One line and one count for each request, when the last byte of its answer has gone out or the client has gone away.
//!
//! A line names the endpoint and the repository, never the path or the query: they may hold an upload's location, which is
//! as good as a password while the upload lasts.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use ulid::Ulid;

use super::client_body::ClientBody;
use super::endpoint::{Endpoint, Operation};
use super::error::Cause;
use super::header::REQUEST_ID;
use crate::access::Principal;
use crate::metrics::{Metrics, Outcome};
use crate::serve::Peer;

/// What is known of a request so far. Dropping it writes the line.
pub(super) struct Record {
    metrics: Arc<Metrics>,
    id: String,
    begun: Instant,
    method: &'static str,
    operation: Option<Operation>,
    repository: Option<String>,
    peer: Option<Peer>,
    user_agent: Option<HeaderValue>,
    principal: Option<String>,
    received: Arc<AtomicU64>,
    sent: u64,
    status: Option<StatusCode>,
    cause: Option<Arc<str>>,
    /// How many bytes the answer's body has, where that is known. hyper asks for no more once it has them.
    length: Option<u64>,
    complete: bool,
}

impl Record {
    pub(super) fn begin(metrics: Arc<Metrics>, request: &Request, endpoint: Option<&Endpoint>) -> Self {
        metrics.request_begins();
        Self {
            metrics,
            id: Ulid::generate().to_string(),
            begun: Instant::now(),
            method: method(request.method()),
            operation: endpoint.map(Endpoint::operation),
            repository: endpoint.and_then(Endpoint::repository).map(ToString::to_string),
            peer: request.extensions().get().copied(),
            user_agent: request.headers().get(header::USER_AGENT).cloned(),
            principal: None,
            received: Arc::default(),
            sent: 0,
            status: None,
            cause: None,
            length: None,
            complete: false,
        }
    }

    /// The request, with a body that is counted here.
    pub(super) fn count_body(&self, request: Request) -> Request {
        let received = Arc::clone(&self.received);
        request.map(|body| Body::new(ClientBody::new(body, received)))
    }

    /// It has turned out who asks.
    pub(super) fn principal(&mut self, principal: &Principal) {
        self.principal = Some(principal.to_string());
    }

    /// The response, with a body that ends the record.
    pub(super) fn answered(mut self, response: Response) -> Response {
        self.status = Some(response.status());
        self.cause = response.extensions().get().map(|Cause(cause)| Arc::clone(cause));
        let id = HeaderValue::from_str(&self.id);
        let (mut parts, body) = response.into_parts();
        if let Ok(id) = id {
            parts.headers.insert(REQUEST_ID, id);
        }
        let length = parts.headers.get(header::CONTENT_LENGTH);
        self.length = length.and_then(|length| length.to_str().ok()?.parse().ok()).or(body.size_hint().exact());
        self.complete = body.is_end_stream();
        Response::from_parts(parts, Body::new(RecordedBody { body, record: self }))
    }

    fn outcome(&self) -> Outcome {
        Outcome {
            endpoint: self.operation.map_or("none", Operation::name),
            method: self.method,
            code: self.status.map_or(0, |status| status.as_u16()),
            duration: self.begun.elapsed(),
            received: self.received.load(Ordering::Relaxed),
            sent: self.sent,
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let outcome = self.outcome();
        self.metrics.request_ends(&outcome);
        let fault = self.status.is_some_and(|status| status.is_server_error());
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    id = self.id,
                    endpoint = outcome.endpoint,
                    method = outcome.method,
                    status = outcome.code,
                    repository = self.repository,
                    principal = self.principal,
                    peer = self.peer.map(|Peer(address)| tracing::field::display(address)),
                    user_agent = self.user_agent.as_ref().map(tracing::field::debug),
                    received = outcome.received,
                    sent = outcome.sent,
                    complete = self.complete,
                    duration_ms = u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX),
                    cause = self.cause.as_deref(),
                    "request"
                )
            };
        }
        if fault { line!(error) } else { line!(info) }
    }
}

/// Methods are the client's to invent, labels are not.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

struct RecordedBody {
    body: Body,
    record: Record,
}

impl HttpBody for RecordedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                self.record.sent += frame.data_ref().map_or(0, Bytes::len) as u64;
                self.record.complete = self.body.is_end_stream() || self.record.length == Some(self.record.sent);
            }
            Poll::Ready(Some(Err(error))) => self.record.cause = Some(error.to_string().into()),
            Poll::Ready(None) => self.record.complete = true,
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
