//! One connection from handshake to close.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{interval, timeout};
use tokio_rustls::TlsAcceptor;

use super::activity::{Activity, Answer, Rate};
use super::timed_io::TimedIo;
use super::{Limits, Peer, Service};

/// How often a connection is looked at for standing still.
const WATCH: Duration = Duration::from_secs(15);

/// The largest head of a request, above which it is answered 431. For HTTP/1 it is what a connection buffers for reading and
/// for writing, each; hyper's default is about 400 KiB.
const LARGEST_HEAD: usize = 64 << 10;

/// How much a client may send on one HTTP/2 stream, and on all of a connection, before it hears from us. The default of
/// 64 KiB makes a push wait for a round trip every 64 KiB. What is not read yet waits in our memory, so no more than this.
const HTTP2_STREAM_WINDOW: u32 = 1 << 20;
const HTTP2_CONNECTION_WINDOW: u32 = 4 << 20;
/// How many requests of one connection are answered at a time.
const HTTP2_STREAMS: u32 = 100;
/// How much of each answer waits for the client to take it, beside the piece that came last.
const HTTP2_SEND_BUFFER: usize = 128 << 10;

pub(super) struct Connection {
    pub(super) peer: SocketAddr,
    pub(super) limits: Limits,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) stop: watch::Receiver<bool>,
}

impl Connection {
    /// Answers the connection's requests with `service` until either side has had enough.
    pub(super) async fn run<S, B>(self, stream: TcpStream, service: S)
    where
        S: Service<B>,
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let Some(tls) = self.tls.clone() else { return self.http(stream, service).await };
        match timeout(self.limits.handshake, TlsAcceptor::from(tls).accept(stream)).await {
            Ok(Ok(stream)) => self.http(stream, service).await,
            Ok(Err(error)) => tracing::debug!(peer = %self.peer, %error, "TLS handshake failed"),
            Err(_) => tracing::debug!(peer = %self.peer, "TLS handshake took too long"),
        }
    }

    async fn http<I, S, B>(mut self, io: I, service: S)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<B>,
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let activity = Arc::new(Activity::new());
        let io = TokioIo::new(TimedIo::new(io, Arc::clone(&activity), self.limits));
        let (peer, counted) = (self.peer, Arc::clone(&activity));
        let answer = move |request| answer(service.clone(), Arc::clone(&counted), peer, request);
        let protocol = protocol();
        let mut connection = pin!(protocol.serve_connection(io, service_fn(answer)));
        let mut watch = interval(WATCH.min(self.limits.stall).min(self.limits.trickle));
        let mut rate = Rate::new();
        let mut stopping = false;
        loop {
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(peer = %self.peer, %error, "connection failed");
                    }
                    return;
                }
                changed = self.stop.changed(), if !stopping => {
                    stopping = true;
                    // Without a sender nobody waits for us any more, which means the same.
                    let _ = changed;
                    connection.as_mut().graceful_shutdown();
                }
                _ = watch.tick() => {
                    let trickles = rate.is_too_low(&activity, self.limits.trickle);
                    if trickles || activity.stands_still(self.limits.stall) {
                        tracing::debug!(peer = %self.peer, trickles, "connection closed, because the peer takes too little");
                        return;
                    }
                }
            }
        }
    }
}

fn protocol() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().max_buf_size(LARGEST_HEAD).header_read_timeout(None);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_header_list_size(LARGEST_HEAD as u32)
        .max_send_buf_size(HTTP2_SEND_BUFFER)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

/// The answer of `service` to one request, counted in `activity`.
async fn answer<S, B>(
    mut service: S,
    activity: Arc<Activity>,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Response<Answer<Pin<Box<B>>>>, Infallible>
where
    S: Service<B>,
    B: Body<Data = Bytes>,
{
    let in_progress = activity.begin();
    request.extensions_mut().insert(Peer(peer));
    poll_fn(|context| service.poll_ready(context)).await?;
    let response = service.call(request).await?;
    Ok(response.map(|body| in_progress.answered(Box::pin(body))))
}
