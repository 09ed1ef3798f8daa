//! What happens on a connection, so that one on which nothing happens can be told from one that is only slow.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Duration, Instant};

/// Bytes a second that a peer must take of each answer.
const LEAST: u64 = 1 << 10;

/// The requests of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    started: AtomicU64,
    in_progress: AtomicUsize,
    /// Of these, those whose answer has begun.
    answered: AtomicUsize,
    sent: AtomicU64,
    moved: Mutex<Instant>,
}

impl Activity {
    pub(super) fn new() -> Self {
        let (started, in_progress, answered, sent) = Default::default();
        Self { started, in_progress, answered, sent, moved: Mutex::new(Instant::now()) }
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

    /// Bytes have gone out.
    pub(super) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Whether there is something to send, and the peer has taken nothing for `limit`.
    pub(super) fn stands_still(&self, limit: Duration) -> bool {
        let sending = self.answered.load(Ordering::Relaxed) > 0;
        sending && self.moved.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > limit
    }

    /// A request begins; it ends when what this returns is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InProgress {
        self.started.fetch_add(1, Ordering::Relaxed);
        self.in_progress.fetch_add(1, Ordering::Relaxed);
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
        self.activity.answered.fetch_add(1, Ordering::Relaxed);
        self.activity.touch();
        Answer { body, in_progress: self }
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        if self.answered {
            self.activity.answered.fetch_sub(1, Ordering::Relaxed);
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

/// How fast a peer takes what it has asked for, looked at now and then.
#[derive(Debug)]
pub(super) struct Rate {
    since: Instant,
    sent: u64,
    /// The fewest answers that were on their way at once.
    answers: usize,
}

impl Rate {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), sent: 0, answers: 0 }
    }

    /// Whether the peer has taken less than the least of each answer for as long as `window`. Whatever else it does on its
    /// connection meanwhile, answers that it leaves lying keep their memory and their files.
    pub(super) fn is_too_low(&mut self, activity: &Activity, window: Duration) -> bool {
        let (answers, sent) = (activity.answered.load(Ordering::Relaxed), activity.sent.load(Ordering::Relaxed));
        self.answers = self.answers.min(answers);
        if self.answers > 0 && self.since.elapsed() < window {
            return false;
        }
        let least = LEAST * window.as_secs() * self.answers as u64;
        let too_low = sent - self.sent < least;
        *self = Self { since: Instant::now(), sent, answers };
        too_low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    /// Whether a peer with that many answers on their way that takes so many bytes a second of all of them is found too slow
    /// within ten minutes.
    async fn is_found(answers: usize, bytes: usize) -> bool {
        let activity = Arc::new(Activity::new());
        let _answers: Vec<_> = (0..answers).map(|_| activity.begin().answered(())).collect();
        let mut rate = Rate::new();
        for second in 0..600 {
            activity.sent(bytes);
            tokio::time::advance(Duration::from_secs(1)).await;
            if second % 15 == 0 && rate.is_too_low(&activity, WINDOW) {
                return true;
            }
        }
        false
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_is_found_and_what_is_only_slow_is_not() {
        assert!(is_found(1, 1).await && is_found(1, 900).await);
        assert!(!is_found(1, 1100).await);
    }

    #[tokio::test(start_paused = true)]
    async fn each_answer_has_its_least_and_no_answer_has_none() {
        assert!(is_found(100, 50 << 10).await);
        assert!(!is_found(100, 110 << 10).await);
        assert!(!is_found(0, 0).await);
    }
}
