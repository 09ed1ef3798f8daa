//! Large values on their way into a bucket: in one request when they are small, and in parts when they are not, so that an
//! upload holds a few parts in memory whatever its size.

use std::collections::VecDeque;
use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::{Attributes, MultipartUpload, PutMultipartOptions, PutPayload};
use tokio::task::JoinSet;

use super::Object;
use super::error::failed;
use crate::store::driver::Stage;
use crate::store::error::{Result, StoreError};
use crate::store::layout::Key;

/// The size of a part. S3 takes 5 MiB and more, and some of its likes want all but the last to be equal.
const PART: usize = 8 << 20;
/// S3 takes 10,000 parts. After half of them, 40 GB, parts are larger, so that 360 GB fit.
const LARGER_AFTER: usize = 5_000;
const LARGER_PART: usize = 64 << 20;
/// Parts that are being sent while the next one fills.
const SENT_AT_ONCE: usize = 2;

/// A value that grows until it is published.
pub(super) struct ObjectStage {
    to: Object,
    key: Key,
    pieces: Pieces,
    parts: Option<Parts>,
}

/// An upload in parts. Dropped before it has ended, it is aborted.
struct Parts {
    upload: Option<Box<dyn MultipartUpload>>,
    sent: JoinSet<object_store::Result<()>>,
    begun: usize,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("begun", &self.begun).finish_non_exhaustive()
    }
}

impl ObjectStage {
    pub(super) fn begin(to: Object, key: Key) -> Self {
        Self { to, key, pieces: Pieces::default(), parts: None }
    }

    /// What is kept is of the class that was asked for. A segment is gone in a moment, and the cheaper classes are dearer for that.
    fn class(&self) -> Attributes {
        if matches!(self.key, Key::Data(_)) { self.to.class.clone() } else { Attributes::default() }
    }

    /// Sends what fills parts.
    async fn send_full_parts(&mut self) -> Result<()> {
        while let Some(part) = self.pieces.take(part_size(self.parts.as_ref().map_or(0, |parts| parts.begun))) {
            let parts = match &mut self.parts {
                Some(parts) => parts,
                None => {
                    let options = PutMultipartOptions { attributes: self.class(), ..Default::default() };
                    let upload = self.to.objects.put_multipart_opts(&self.to.path(&self.key)?, options).await;
                    let upload = upload.map_err(|error| failed(format_args!("begin {}", self.key), error))?;
                    self.parts.insert(Parts { upload: Some(upload), sent: JoinSet::new(), begun: 0 })
                }
            };
            parts.send(part, &self.key).await?;
        }
        Ok(())
    }
}

const fn part_size(begun: usize) -> usize {
    if begun < LARGER_AFTER { PART } else { LARGER_PART }
}

impl Parts {
    async fn send(&mut self, part: PutPayload, key: &Key) -> Result<()> {
        while self.sent.len() >= SENT_AT_ONCE {
            self.one_is_sent(key).await?;
        }
        let upload = self.upload.as_mut().ok_or_else(|| StoreError::other(key, "its upload has ended"))?;
        self.begun += 1;
        self.sent.spawn(upload.put_part(part));
        Ok(())
    }

    async fn one_is_sent(&mut self, key: &Key) -> Result<()> {
        match self.sent.join_next().await {
            Some(Ok(sent)) => sent.map_err(|error| failed(format_args!("write a part of {key}"), error)),
            Some(Err(stopped)) => Err(StoreError::other(key, stopped)),
            None => Ok(()),
        }
    }

    async fn complete(mut self, key: &Key) -> Result<()> {
        while !self.sent.is_empty() {
            self.one_is_sent(key).await?;
        }
        if let Some(upload) = &mut self.upload {
            upload.complete().await.map_err(|error| failed(format_args!("write {key}"), error))?;
        }
        self.upload = None;
        Ok(())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if let (Some(mut upload), Ok(runtime)) = (self.upload.take(), tokio::runtime::Handle::try_current()) {
            // What cannot be aborted now is swept, or the business of the bucket's lifecycle rule.
            runtime.spawn(async move { upload.abort().await });
        }
    }
}

#[async_trait]
impl Stage for ObjectStage {
    async fn write(&mut self, pieces: Vec<Bytes>) -> Result<()> {
        self.pieces.add(pieces);
        self.send_full_parts().await
    }

    async fn publish(mut self: Box<Self>) -> Result<()> {
        let (rest, class) = (self.pieces.take_all(), self.class());
        match self.parts.take() {
            None => self.to.put(&self.key, rest, class).await,
            Some(mut parts) => {
                if rest.content_length() > 0 {
                    parts.send(rest, &self.key).await?;
                }
                parts.complete(&self.key).await
            }
        }
    }
}

/// Pieces as they came, to be cut into parts without being copied.
#[derive(Debug, Default)]
struct Pieces {
    pieces: VecDeque<Bytes>,
    len: usize,
}

impl Pieces {
    fn add(&mut self, pieces: Vec<Bytes>) {
        self.len += pieces.iter().map(Bytes::len).sum::<usize>();
        self.pieces.extend(pieces);
    }

    /// Exactly so many bytes, if there are more: the last part must not be empty.
    fn take(&mut self, size: usize) -> Option<PutPayload> {
        if self.len <= size {
            return None;
        }
        let (mut taken, mut missing) = (Vec::new(), size);
        while missing > 0 {
            let mut piece = self.pieces.pop_front()?;
            if piece.len() > missing {
                self.pieces.push_front(piece.split_off(missing));
            }
            missing -= piece.len();
            taken.push(piece);
        }
        self.len -= size;
        Some(taken.into_iter().collect())
    }

    fn take_all(&mut self) -> PutPayload {
        self.len = 0;
        std::mem::take(&mut self.pieces).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cut_to_size_and_the_last_is_never_empty() {
        let mut pieces = Pieces::default();
        pieces.add(vec![Bytes::from_static(b"abc"), Bytes::from_static(b"defgh")]);
        assert_eq!(Bytes::from(pieces.take(4).unwrap()), "abcd");
        assert!(pieces.take(4).is_none(), "four are left, and they may be the last");
        pieces.add(vec![Bytes::from_static(b"i")]);
        assert_eq!(Bytes::from(pieces.take(4).unwrap()), "efgh");
        assert_eq!(Bytes::from(pieces.take_all()), "i");
        assert_eq!(pieces.take_all().content_length(), 0);
    }
}
