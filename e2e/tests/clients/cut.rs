//! A wire that breaks once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Passes connections on to `to`, and cuts the one that carries the `after`th byte towards it.
pub(crate) struct Wire {
    /// Where it listens, `HOST:PORT`.
    pub(crate) host: String,
    cuts: Arc<AtomicUsize>,
}

impl Wire {
    pub(crate) async fn to(to: &str, after: u64) -> Result<Self> {
        // At the same address: it is what the certificate is for.
        let address = to.rsplit_once(':').map_or(to, |(address, _)| address);
        let listener = TcpListener::bind((address, 0)).await?;
        let host = listener.local_addr()?.to_string();
        let (to, cuts, carried) = (to.to_owned(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&cuts);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (to, counted, carried) = (to.clone(), Arc::clone(&counted), Arc::clone(&carried));
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(to).await {
                        let _ = carry(client, server, after, &carried, &counted).await;
                    }
                });
            }
        });
        Ok(Self { host, cuts })
    }

    /// How often it broke.
    pub(crate) fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }
}

async fn carry(
    client: TcpStream,
    server: TcpStream,
    after: u64,
    carried: &AtomicU64,
    cuts: &AtomicUsize,
) -> std::io::Result<()> {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    // Ends, and closes the client's connection, when the server has closed its own.
    tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut piece = vec![0; 16 * 1024];
    loop {
        let read = from_client.read(&mut piece).await?;
        let before = carried.fetch_add(read as u64, Ordering::Relaxed);
        if read == 0 || (before..before + read as u64).contains(&after) {
            cuts.fetch_add(usize::from(read > 0), Ordering::Relaxed);
            return to_server.shutdown().await;
        }
        to_server.write_all(&piece[..read]).await?;
    }
}
