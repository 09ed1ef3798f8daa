//! What proxies of the tests have in common: requests come in on a port, and go out again.

use std::io;
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::http::Body;
use crate::registry_process::IP;

/// A port on which requests are answered until this is dropped.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Port {
    /// One whose requests are answered by `answer`. An error closes the connection without an answer.
    ///
    /// # Errors
    /// When nothing can be listened on.
    pub async fn open<F>(answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static) -> Result<Self>
    where
        F: Future<Output = io::Result<Response<Body>>> + Send + 'static,
    {
        let tcp = TcpListener::bind((IpAddr::V4(IP), 0)).await?;
        let address = tcp.local_addr()?;
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = tcp.accept().await {
                let answers = service_fn(answer.clone());
                let connection = hyper::server::conn::http1::Builder::new();
                // A connection that fails is what its client must cope with.
                tokio::spawn(async move { drop(connection.serve_connection(TokioIo::new(stream), answers).await) });
            }
        });
        Ok(Self { address, accepting })
    }

    /// Where it is.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A connection of its own for one request. It ends when the request is not waited for any more.
///
/// # Errors
/// When nobody listens there.
pub async fn connect<B>(server: SocketAddr) -> io::Result<SendRequest<B>>
where
    B: hyper::body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(sender)
}
