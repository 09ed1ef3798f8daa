//! What is known of whether stored bytes are still those that their digests name.
//!
//! Disks rot, and people edit files. Whole blobs are hashed when this process first reads them, and again when that is a day ago;
//! the last piece of one that is damaged is never given out. From then on it is absent here, and named dead for all replicas, so that
//! a push of the same blob brings it back. Small blobs that are asked for again and again are kept, and not read again.

use std::collections::HashMap;
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

use super::driver::{ContentStream, Driver};
use super::layout::{Key, LinkName};
use super::{body, dead};

/// Blobs up to this size are kept, in bytes: configurations, and what artifacts are made of.
pub(super) const SMALL: u64 = 64 << 10;
/// How many bytes of them.
const KEPT: u64 = 8 << 20;
/// How many may be known to be sound. One more costs a hash at its next reading.
const MOST_SOUND: usize = 100_000;
/// How long a blob is absent before it is looked at once more: it may have been repaired.
const CONDEMNED: Duration = Duration::from_hours(1);
/// How long a reading is believed.
const BELIEVED: Duration = Duration::from_hours(24);

/// What one process has found out. Names of data are never used again, so what is known of one stays true of it.
#[derive(Debug)]
pub(super) struct Soundness {
    /// By the link that they were read through: as long as it is there, so are they.
    small: Cache<Ulid, (Digest, Bytes), Length>,
    sound: Cache<Ulid, Instant>,
    damaged: Mutex<HashMap<Ulid, Instant>>,
}

#[derive(Clone, Copy, Debug)]
struct Length;

impl Weighter<Ulid, (Digest, Bytes)> for Length {
    fn weight(&self, _: &Ulid, (_, bytes): &(Digest, Bytes)) -> u64 {
        // With what an entry takes itself.
        bytes.len() as u64 + 256
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
        self.damaged().get(&data).is_some_and(|since| since.elapsed() < CONDEMNED)
    }

    pub(super) fn small(&self, link: LinkName, digest: &Digest) -> Option<Bytes> {
        let (of, bytes) = self.small.get(&link.link)?;
        (of == *digest && bytes.len() as u64 == link.size).then_some(bytes)
    }

    fn is_sound(&self, data: Ulid) -> bool {
        self.sound.get(&data).is_some_and(|since| since.elapsed() < BELIEVED)
    }

    fn damaged(&self) -> MutexGuard<'_, HashMap<Ulid, Instant>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what a reading has shown.
    async fn learn(&self, driver: &dyn Driver, data: Ulid, digest: &Digest, is_sound: bool) {
        if is_sound {
            self.sound.insert(data, Instant::now());
            return;
        }
        tracing::error!(%digest, %data, "a blob is damaged: its bytes are not what its digest names; it is absent until it is pushed again");
        self.damaged().insert(data, Instant::now());
        // Like a collector: no replica relies on it any more, and it goes when nothing leads there.
        let batch = (Key::DeadBatch(Ulid::generate()), dead::write(&[Key::Data(data)]).into());
        if let Err(error) = driver.create(vec![batch], &[]).await {
            tracing::error!(%error, %data, "other replicas cannot be told that a blob is damaged");
        }
    }

    /// All bytes of a small blob, which are kept. `None`: they are damaged.
    pub(super) async fn read_small(
        &self,
        driver: &dyn Driver,
        link: LinkName,
        digest: &Digest,
        stream: ContentStream,
    ) -> io::Result<Option<Bytes>> {
        let bytes: Vec<Bytes> = stream.try_collect().await?;
        let bytes = bytes.concat();
        if bytes.len() as u64 != link.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let is_sound = digest.names(&bytes);
        self.learn(driver, link.data, digest, is_sound).await;
        if !is_sound {
            return Ok(None);
        }
        // Of its own: what came is part of larger buffers.
        let bytes = Bytes::from(bytes.into_boxed_slice());
        self.small.insert(link.link, (digest.clone(), bytes.clone()));
        Ok(Some(bytes))
    }

    /// A whole blob of `size` bytes, which ends in an error instead of its last piece if it is damaged.
    pub(super) fn verify(
        self: &Arc<Self>,
        driver: &Arc<dyn Driver>,
        link: LinkName,
        digest: &Digest,
        stream: ContentStream,
    ) -> ContentStream {
        if self.is_sound(link.data) {
            return stream;
        }
        let (soundness, driver) = (Arc::clone(self), Arc::clone(driver));
        let reading = Reading { soundness, driver, data: link.data, digest: digest.clone(), left: link.size };
        ContentStream::of_pieces(reading.of(stream))
    }
}

struct Reading {
    soundness: Arc<Soundness>,
    driver: Arc<dyn Driver>,
    data: Ulid,
    digest: Digest,
    left: u64,
}

impl Reading {
    fn of(self, stream: ContentStream) -> BoxStream<'static, io::Result<Bytes>> {
        let hasher = Hasher::new(self.digest.algorithm());
        let pieces = futures::stream::try_unfold((self, hasher, stream), |(mut reading, hasher, mut stream)| async {
            let Some(piece) = stream.try_next().await? else { return Ok(None) };
            let hasher = body::hash(hasher, vec![piece.clone()]).await.map_err(io::Error::other)?;
            reading.left = reading.left.saturating_sub(piece.len() as u64);
            if reading.left == 0 {
                let is_sound = hasher.clone().finish() == reading.digest;
                let Reading { soundness, driver, data, digest, .. } = &reading;
                soundness.learn(driver.as_ref(), *data, digest, is_sound).await;
                if !is_sound {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "the blob is damaged"));
                }
            }
            Ok(Some((piece, (reading, hasher, stream))))
        });
        pieces.boxed()
    }
}
