//! Request bodies: counted, and given up on when they trickle.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::store::BodyError;

/// How long we wait for a client in all before its rate is looked at; then again after as long.
const WINDOW: Duration = Duration::from_secs(30);

/// Bytes that must come in each window: 1 KiB a second.
const LEAST: u64 = 30 << 10;

/// A client sends, but so slowly that it keeps others out.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the body comes at less than 1 KiB a second")]
pub(super) struct TooSlow;

/// A request's body. Only the time in which we wait for the client counts, not the time in which it waits for our disk.
pub(super) struct ClientBody {
    body: Body,
    received: Arc<AtomicU64>,
    in_window: u64,
    waited: Duration,
    waiting_since: Option<Instant>,
    window_ends: Option<Pin<Box<Sleep>>>,
}

impl ClientBody {
    /// `body`, whose bytes are added to `received` as they come.
    pub(super) const fn new(body: Body, received: Arc<AtomicU64>) -> Self {
        Self { body, received, in_window: 0, waited: Duration::ZERO, waiting_since: None, window_ends: None }
    }

    /// Something came after some waiting.
    fn came(&mut self, bytes: usize) -> Result<(), TooSlow> {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
        self.in_window += bytes as u64;
        self.waited += self.waiting_since.take().map_or(Duration::ZERO, |since| since.elapsed());
        if self.waited < WINDOW {
            return Ok(());
        }
        let enough = self.in_window >= LEAST;
        (self.in_window, self.waited) = (0, Duration::ZERO);
        if enough { Ok(()) } else { Err(TooSlow) }
    }

    /// Nothing has come yet. Ready when it has taken too long.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<TooSlow> {
        let now = Instant::now();
        let since = *self.waiting_since.get_or_insert(now);
        let deadline = since + WINDOW.saturating_sub(self.waited);
        let sleep = self.window_ends.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        std::task::ready!(sleep.as_mut().poll(context));
        match self.came(0) {
            Err(slow) => Poll::Ready(slow),
            // Enough came earlier in this window; the next one begins, and its timer must be set to wake us.
            Ok(()) => self.wait(context),
        }
    }
}

impl HttpBody for ClientBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                Poll::Ready(Some(self.came(bytes).map(|()| frame).map_err(Into::into)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into_inner()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => self.wait(context).map(|slow| Some(Err(slow.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body as the store takes it.
pub(super) fn stream(body: Body) -> impl Stream<Item = Result<Bytes, BodyError>> + Send + Unpin {
    body.into_data_stream().map(piece as fn(<BodyDataStream as Stream>::Item) -> _)
}

fn piece(piece: Result<Bytes, axum::Error>) -> Result<Bytes, BodyError> {
    piece.map_err(|error| BodyError(error.into_inner()))
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    /// A body of `pieces` with a pause before each.
    fn body(pieces: usize, size: usize, pause: Duration) -> ClientBody {
        let pieces = stream::iter(0..pieces).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, std::io::Error>(Bytes::from(vec![0; size]))
        });
        ClientBody::new(Body::from_stream(pieces), Arc::default())
    }

    async fn length(body: ClientBody) -> Result<usize, BodyError> {
        let mut stream = stream(Body::new(body));
        let mut length = 0;
        while let Some(piece) = stream.next().await {
            length += piece?.len();
        }
        Ok(length)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_is_given_up_on() {
        let start = Instant::now();
        let error = length(body(1000, 1, Duration::from_secs(1))).await.unwrap_err();
        assert!(error.0.is::<TooSlow>());
        assert_eq!(start.elapsed().as_secs(), 30);
        assert!(length(body(1, 1, Duration::from_secs(3600))).await.unwrap_err().0.is::<TooSlow>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_only_slow_arrives() {
        assert_eq!(length(body(1000, 2048, Duration::from_secs(1))).await.unwrap(), 2_048_000);
        assert_eq!(length(body(10, 64 << 10, Duration::from_secs(29))).await.unwrap(), 10 * (64 << 10));
        assert_eq!(length(body(0, 0, Duration::ZERO)).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_we_take_is_not_the_clients() {
        let mut stream = stream(Body::new(body(10, 1, Duration::from_millis(1))));
        while let Some(piece) = stream.next().await {
            piece.unwrap();
            tokio::time::sleep(Duration::from_secs(100)).await;
        }
    }
}
