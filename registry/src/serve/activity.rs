//! What happens on a connection, so that one on which nothing happens can be told from one that is only slow.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Duration, Instant};

/// The requests of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    started: AtomicU64,
    in_progress: AtomicUsize,
    unanswered: AtomicUsize,
    moved: Mutex<Instant>,
}

impl Activity {
    pub(super) fn new() -> Self {
        let (started, in_progress, unanswered) = Default::default();
        Self { started, in_progress, unanswered, moved: Mutex::new(Instant::now()) }
    }

    /// How many requests have begun so far.
    pub(super) fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// Whether a request is being answered.
    pub(super) fn is_busy(&self) -> bool {
        self.in_progress.load(Ordering::Relaxed) > 0
    }

    /// Something that the peer wanted has moved.
    pub(super) fn touch(&self) {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Whether all there is to do is to send, and the peer has taken nothing for `limit`.
    pub(super) fn stands_still(&self, limit: Duration) -> bool {
        let only_sending = self.is_busy() && self.unanswered.load(Ordering::Relaxed) == 0;
        only_sending && self.moved.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > limit
    }

    /// A request begins; it ends when what this returns is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InProgress {
        self.started.fetch_add(1, Ordering::Relaxed);
        self.in_progress.fetch_add(1, Ordering::Relaxed);
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        InProgress { activity: Arc::clone(self), answered: false }
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct InProgress {
    activity: Arc<Activity>,
    answered: bool,
}

impl InProgress {
    /// The head of the answer is there, and `body` is what is left to send.
    pub(super) fn answered<B>(mut self, body: B) -> Answer<B> {
        self.answered = true;
        self.activity.unanswered.fetch_sub(1, Ordering::Relaxed);
        self.activity.touch();
        Answer { body, in_progress: self }
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        if !self.answered {
            self.activity.unanswered.fetch_sub(1, Ordering::Relaxed);
        }
        self.activity.in_progress.fetch_sub(1, Ordering::Relaxed);
        self.activity.touch();
    }
}

/// The body of an answer. Its request is in progress until it is dropped.
#[derive(Debug)]
pub(super) struct Answer<B> {
    body: B,
    in_progress: InProgress,
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_ready() {
            self.in_progress.activity.touch();
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
