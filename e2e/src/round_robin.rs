//! What stands before several registries: each request, not each connection, goes to the next one that is alive.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::http::{Answer, Body, nothing};
use crate::proxy::{Port, connect};

/// In each answer: which of the registries gave it.
const SERVED_BY: &str = "x-served-by";

/// A proxy in front of registries, which ends when this is dropped.
#[derive(Debug)]
pub struct RoundRobin(Port);

#[derive(Debug)]
struct Turns {
    registries: Vec<SocketAddr>,
    next: AtomicUsize,
}

impl RoundRobin {
    /// One in front of these.
    ///
    /// # Errors
    /// When nothing can be listened on.
    pub async fn start(registries: Vec<SocketAddr>) -> Result<Self> {
        let turns = Arc::new(Turns { registries, next: AtomicUsize::new(0) });
        Ok(Self(Port::open(move |request| answer(Arc::clone(&turns), request)).await?))
    }

    /// Where it is.
    pub const fn address(&self) -> SocketAddr {
        self.0.address()
    }
}

/// Which of the registries gave an answer.
///
/// # Errors
/// When it was not a registry that gave it.
pub fn served_by(answer: &Answer) -> Result<usize> {
    Ok(answer.header(SERVED_BY).context("no registry gave this answer")?.parse()?)
}

/// Only a request that nobody has heard of goes to another one: the others may have been carried out.
async fn answer(turns: Arc<Turns>, request: Request<Incoming>) -> io::Result<Response<Body>> {
    for _ in &turns.registries {
        let turn = turns.next.fetch_add(1, Ordering::Relaxed) % turns.registries.len();
        let Ok(mut registry) = connect(turns.registries[turn]).await else { continue };
        let Ok(answer) = registry.send_request(request).await else { return Ok(status(StatusCode::BAD_GATEWAY)) };
        let mut answer = answer.map(|body| body.map_err(io::Error::other).boxed());
        answer.headers_mut().insert(SERVED_BY, HeaderValue::from(turn));
        return Ok(answer);
    }
    Ok(status(StatusCode::SERVICE_UNAVAILABLE))
}

fn status(status: StatusCode) -> Response<Body> {
    let mut answer = Response::new(nothing());
    *answer.status_mut() = status;
    answer
}
