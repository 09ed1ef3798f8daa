//! Request bodies on their way into storage: hashed and written while the next bytes arrive.

use berth_oci::Hasher;
use bytes::Bytes;
use futures::{Stream, StreamExt};

use super::driver::Stage;
use super::error::{BodyError, Result, StoreError};

/// What came of a body.
pub(super) struct Received {
    pub(super) hasher: Hasher,
    /// Bytes written, in all.
    pub(super) written: u64,
    /// Whether the body came to its end; all bytes before a break are written and hashed too.
    pub(super) end: std::result::Result<(), BodyError>,
}

/// Bytes that are hashed and written at a time. Twice as many are held for each upload.
const BATCH: usize = 512 * 1024;
/// Below this, handing bytes to another thread costs more than hashing them.
const INLINE: usize = 32 * 1024;

pub(super) async fn receive(
    stage: &mut dyn Stage,
    mut hasher: Hasher,
    mut body: impl Stream<Item = std::result::Result<Bytes, BodyError>> + Send + Unpin,
) -> Result<Received> {
    let mut written = 0;
    let mut batch = Batch::read(&mut body).await;
    loop {
        let Batch { pieces, len, end } = batch;
        written += len as u64;
        if let Some(end) = end {
            hasher = take_in(stage, hasher, pieces, len).await?;
            return Ok(Received { hasher, written, end });
        }
        let (next, taken) = futures::join!(Batch::read(&mut body), take_in(stage, hasher, pieces, len));
        hasher = taken?;
        batch = next;
    }
}

struct Batch {
    pieces: Vec<Bytes>,
    len: usize,
    end: Option<std::result::Result<(), BodyError>>,
}

impl Batch {
    async fn read(body: &mut (impl Stream<Item = std::result::Result<Bytes, BodyError>> + Send + Unpin)) -> Self {
        let mut batch = Self { pieces: Vec::new(), len: 0, end: None };
        while batch.len < BATCH {
            match body.next().await {
                Some(Ok(piece)) => {
                    batch.len += piece.len();
                    batch.pieces.push(piece);
                }
                Some(Err(broken)) => {
                    batch.end = Some(Err(broken));
                    break;
                }
                None => {
                    batch.end = Some(Ok(()));
                    break;
                }
            }
        }
        batch
    }
}

/// Hashes and writes, at the same time where there is enough to share.
async fn take_in(stage: &mut dyn Stage, hasher: Hasher, pieces: Vec<Bytes>, len: usize) -> Result<Hasher> {
    if len == 0 {
        return Ok(hasher);
    }
    let (written, hashed) = futures::join!(stage.write(pieces.clone()), hash(hasher, pieces));
    written?;
    hashed
}

/// Hashes, off the threads that serve others where that takes long.
pub(super) async fn hash(mut hasher: Hasher, pieces: Vec<Bytes>) -> Result<Hasher> {
    let is_short = pieces.iter().map(Bytes::len).sum::<usize>() <= INLINE;
    let hash = move || {
        pieces.iter().for_each(|piece| hasher.update(piece));
        hasher
    };
    if is_short {
        return Ok(hash());
    }
    tokio::task::spawn_blocking(hash).await.map_err(|stopped| StoreError::other("hash a blob", stopped))
}
