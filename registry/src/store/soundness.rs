//! What is known of whether stored bytes are still those that their digests name.
//!
//! Disks rot, and people edit files. Whole blobs are hashed when this process first reads them, and again when that is a day ago;
//! the last piece of one that is damaged is never given out. From then on it is absent here, so that a push of the same blob
//! brings it back. Small blobs that are asked for again and again are kept, and not read again.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use berth_oci::{Digest, Hasher};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use ulid::Ulid;

use super::driver::ContentStream;

/// Blobs up to this size are kept, in bytes: configurations, and what artifacts are made of.
pub(super) const SMALL: u64 = 64 << 10;
/// How many bytes of them.
const KEPT: u64 = 8 << 20;
/// How many may be known to be sound. One more costs a hash at its next reading.
const MOST_SOUND: usize = 100_000;
/// How long a reading is believed.
const BELIEVED: Duration = Duration::from_hours(24);

/// What one process has found out. Names of data are never used again, so what is known of one stays true of it.
#[derive(Debug)]
pub(super) struct Soundness {
    small: Cache<Ulid, Bytes, Length>,
    sound: Cache<Ulid, Instant>,
    damaged: Mutex<HashSet<Ulid>>,
}

#[derive(Clone, Copy, Debug)]
struct Length;

impl Weighter<Ulid, Bytes> for Length {
    fn weight(&self, _: &Ulid, bytes: &Bytes) -> u64 {
        // With what an entry takes itself.
        bytes.len() as u64 + 128
    }
}

impl Default for Soundness {
    fn default() -> Self {
        let small = Cache::with_weighter((KEPT / SMALL) as usize, KEPT, Length);
        Self { small, sound: Cache::new(MOST_SOUND), damaged: Mutex::default() }
    }
}

impl Soundness {
    pub(super) fn is_damaged(&self, data: Ulid) -> bool {
        self.damaged().contains(&data)
    }

    pub(super) fn small(&self, data: Ulid) -> Option<Bytes> {
        self.small.get(&data)
    }

    fn is_sound(&self, data: Ulid) -> bool {
        self.sound.get(&data).is_some_and(|since| since.elapsed() < BELIEVED)
    }

    fn damaged(&self) -> MutexGuard<'_, HashSet<Ulid>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what a reading has shown.
    fn learn(&self, data: Ulid, digest: &Digest, is_sound: bool) {
        if is_sound {
            self.sound.insert(data, Instant::now());
            return;
        }
        tracing::error!(%digest, %data, "a blob is damaged: its bytes are not what its digest names; it is absent until it is pushed again");
        self.damaged().insert(data);
    }

    /// All bytes of a small blob, which are kept. `None`: they are damaged.
    pub(super) async fn read_small(
        &self,
        data: Ulid,
        digest: &Digest,
        stream: ContentStream,
    ) -> io::Result<Option<Bytes>> {
        let bytes: Vec<Bytes> = stream.try_collect().await?;
        let bytes = match <[Bytes; 1]>::try_from(bytes) {
            Ok([whole]) => whole,
            Err(pieces) => pieces.concat().into(),
        };
        let is_sound = digest.names(&bytes);
        self.learn(data, digest, is_sound);
        if is_sound {
            // A copy: what came is part of a larger buffer.
            self.small.insert(data, Bytes::copy_from_slice(&bytes));
        }
        Ok(is_sound.then_some(bytes))
    }

    /// A whole blob of `size` bytes, which ends in an error instead of its last piece if it is damaged.
    pub(super) fn verify(
        self: &Arc<Self>,
        data: Ulid,
        digest: &Digest,
        size: u64,
        stream: ContentStream,
    ) -> ContentStream {
        if self.is_sound(data) {
            return stream;
        }
        let reading = Reading { soundness: Arc::clone(self), data, digest: digest.clone(), left: size };
        ContentStream::of_pieces(reading.of(stream))
    }
}

struct Reading {
    soundness: Arc<Soundness>,
    data: Ulid,
    digest: Digest,
    left: u64,
}

impl Reading {
    fn of(self, stream: ContentStream) -> BoxStream<'static, io::Result<Bytes>> {
        let hasher = Hasher::new(self.digest.algorithm());
        let pieces = futures::stream::try_unfold((self, hasher, stream), |(mut reading, hasher, mut stream)| async {
            let Some(piece) = stream.try_next().await? else { return Ok(None) };
            let (piece, hasher) = hash(piece, hasher).await?;
            reading.left = reading.left.saturating_sub(piece.len() as u64);
            if reading.left == 0 {
                let is_sound = hasher.clone().finish() == reading.digest;
                reading.soundness.learn(reading.data, &reading.digest, is_sound);
                if !is_sound {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "the blob is damaged"));
                }
            }
            Ok(Some((piece, (reading, hasher, stream))))
        });
        pieces.boxed()
    }
}

/// Off the threads that serve others.
async fn hash(piece: Bytes, mut hasher: Hasher) -> io::Result<(Bytes, Hasher)> {
    let hashing = tokio::task::spawn_blocking(move || {
        hasher.update(&piece);
        (piece, hasher)
    });
    hashing.await.map_err(io::Error::other)
}
