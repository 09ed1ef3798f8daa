//! A socket that gives up on a peer that stands still.
//!
//! hyper's own header timeout counts the idle time between requests too and does not cover the bytes by which HTTP/1 and
//! HTTP/2 are told apart, so the time is taken here.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Duration, Instant, Sleep};

use super::Limits;
use super::activity::Activity;

/// What HTTP/2 connections begin with; no HTTP/1 method does.
const HTTP2_PREFACE: &[u8] = b"PRI";

/// How long a peer may go on sending what nobody reads any more, while it hears our last answer.
const LINGER: Duration = Duration::from_secs(1);

/// Writes below this may be an acknowledgement of a ping; more than that is something the peer wanted.
const WORTH_MENTIONING: usize = 512;

#[derive(Debug)]
pub(super) struct TimedIo<I> {
    io: I,
    activity: Arc<Activity>,
    limits: Limits,
    waiting: Waiting,
    reading: Pin<Box<Sleep>>,
    writing: Pin<Box<Sleep>>,
    write_is_stalled: bool,
    /// When all is over, once we have said that nothing more comes.
    lingers_until: Option<Instant>,
}

/// What the connection has waited for since the last request began.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    requests: u64,
    since: Instant,
    first_byte: Option<Instant>,
    http2: bool,
}

impl<I> TimedIo<I> {
    pub(super) fn new(io: I, activity: Arc<Activity>, limits: Limits) -> Self {
        let now = Instant::now();
        let sleep = || Box::pin(tokio::time::sleep_until(now));
        let waiting = Waiting { requests: 0, since: now, first_byte: None, http2: false };
        let (reading, writing) = (sleep(), sleep());
        Self { io, activity, limits, waiting, reading, writing, write_is_stalled: false, lingers_until: None }
    }

    fn has_read(&mut self, bytes: &[u8]) {
        self.notice_requests();
        if self.waiting.requests == 0 && self.waiting.first_byte.is_none() {
            self.waiting.http2 = bytes.starts_with(HTTP2_PREFACE);
        }
        if !bytes.is_empty() && !self.activity.is_busy() {
            self.waiting.first_byte.get_or_insert_with(Instant::now);
        }
    }

    /// Requests that have come and gone since the last look end the waiting for their headers.
    fn notice_requests(&mut self) {
        let requests = self.activity.started();
        if requests != self.waiting.requests {
            self.waiting = Waiting { requests, since: Instant::now(), first_byte: None, ..self.waiting };
        }
    }

    /// When the peer must have sent something, if it must at all.
    fn deadline(&mut self) -> Option<Instant> {
        if self.lingers_until.is_some() {
            return self.lingers_until;
        }
        self.notice_requests();
        if self.activity.is_busy() {
            // Bodies have a minimum rate of their own, and whoever waits for an answer owes us nothing.
            self.waiting.since = Instant::now();
            return None;
        }
        let Waiting { requests, since, first_byte, http2 } = self.waiting;
        Some(match first_byte {
            // HTTP/2 sends pings and window updates between requests.
            Some(first_byte) if !http2 => first_byte + self.limits.header,
            None if requests == 0 => since + self.limits.header,
            _ => since + self.limits.idle,
        })
    }
}

impl<I: AsyncWrite + Unpin> TimedIo<I> {
    fn watch_write<T>(&mut self, context: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.write_is_stalled = false;
            return poll;
        }
        if !self.write_is_stalled {
            self.write_is_stalled = true;
            self.writing.as_mut().reset(Instant::now() + self.limits.stall);
        }
        match self.writing.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn wrote(&self, poll: &Poll<io::Result<usize>>) {
        let Poll::Ready(Ok(written)) = poll else { return };
        self.activity.sent(*written);
        if *written >= WORTH_MENTIONING {
            self.activity.touch();
        }
    }
}

impl<I: AsyncRead + Unpin> TimedIo<I> {
    /// RFC 9112 section 9.6: a socket that is closed with bytes unread resets the connection, and the peer may lose the answer
    /// that told it to stop. So what it still sends is thrown away until it has heard us.
    fn linger(&mut self, context: &mut Context<'_>, until: Instant) -> Poll<()> {
        let mut scratch = [0; 4096];
        while Instant::now() < until {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.io).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.reading.as_mut().poll(context),
            }
        }
        Poll::Ready(())
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for TimedIo<I> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut this.io).poll_read(context, buffer) {
            this.has_read(buffer.filled().get(before..).unwrap_or_default());
            return Poll::Ready(result);
        }
        let Some(deadline) = this.deadline() else { return Poll::Pending };
        if this.reading.deadline() != deadline {
            this.reading.as_mut().reset(deadline);
        }
        match this.reading.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TimedIo<I> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.io).poll_write(context, bytes);
        this.wrote(&poll);
        this.watch_write(context, poll)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.io).poll_write_vectored(context, slices);
        this.wrote(&poll);
        this.watch_write(context, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.io).poll_flush(context);
        this.watch_write(context, poll)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(until) = this.lingers_until {
            return this.linger(context, until).map(Ok);
        }
        let poll = Pin::new(&mut this.io).poll_shutdown(context);
        ready!(this.watch_write(context, poll))?;
        let until = Instant::now() + LINGER;
        this.lingers_until = Some(until);
        this.reading.as_mut().reset(until);
        this.linger(context, until).map(Ok)
    }
}
