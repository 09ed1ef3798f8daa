//! Uploads that any replica can go on with.
//!
//! An upload's state is carried by its client, in the location that each answer gives; storage holds only the segments
//! that requests have completed, each written by one request under a name of its own that says which segment it follows.
//! Two requests for the same offset make two branches, and whoever goes on chooses one: nothing is overwritten. Publishing
//! joins the segments of one branch under a fresh name.

use std::collections::HashMap;
use std::time::SystemTime;

use berth_oci::{Algorithm, Digest, Hasher, RepositoryName};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use ulid::Ulid;

use super::Store;
use super::body;
use super::error::{BodyError, StoreError};
use super::layout::{Key, Prefix, SegmentName, UploadEntry};

mod state;

pub use state::UploadState;

/// Why an upload does not go on.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// There is no such upload: it is finished, cancelled or expired.
    #[error("no such upload")]
    Unknown,
    /// The bytes do not follow those that are there. This is the newest state.
    #[error("the upload has {} bytes", .0.offset())]
    OutOfOrder(Box<UploadState>),
    /// The bytes are not what the digest names.
    #[error("the bytes received have another digest")]
    DigestMismatch,
    /// The body broke off. What came of a chunk is kept.
    #[error("the body broke off: {0}")]
    Body(#[from] BodyError),
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

type UploadResult<T> = Result<T, UploadError>;

impl Store {
    /// Begins an upload. Nothing is stored until bytes come.
    pub fn start_upload(&self, repository: RepositoryName, principal: String, algorithm: Algorithm) -> UploadState {
        UploadState::new(repository, principal, algorithm, SystemTime::now() + self.upload_age)
    }

    /// The newest durable state of an upload.
    ///
    /// # Errors
    /// When there is no such upload, or storage fails.
    pub async fn upload_status(&self, state: &UploadState) -> UploadResult<UploadState> {
        let progress = self.progress(state).await?;
        self.newest_durable(&progress, state).await
    }

    /// What a client may be told. Another request may have just written a segment and not synced it yet.
    async fn newest_durable(&self, progress: &Progress, state: &UploadState) -> UploadResult<UploadState> {
        let newest = progress.newest(state);
        if newest.head() != state.head() {
            let segments = progress.branch(&newest).ok_or(UploadError::Unknown)?;
            let keys: Vec<Key> = segments.iter().map(|segment| segment.key(state)).collect();
            self.driver.create(Vec::new(), &keys).await?;
        }
        Ok(newest)
    }

    /// Whether bytes that the client puts at `expected_start` follow what is there.
    async fn follows(&self, progress: &Progress, state: &UploadState, expected_start: Option<u64>) -> UploadResult<()> {
        let newest = progress.newest(state);
        if newest.offset() != state.offset() || expected_start.is_some_and(|start| start != state.offset()) {
            return Err(UploadError::OutOfOrder(Box::new(self.newest_durable(progress, state).await?)));
        }
        Ok(())
    }

    /// Adds a chunk. `expected_start` is where the client says that it belongs.
    ///
    /// # Errors
    /// See [`UploadError`]. When the body breaks off, what came before is kept, and the status tells how much.
    pub async fn append(
        &self,
        state: &UploadState,
        expected_start: Option<u64>,
        body: impl Stream<Item = Result<Bytes, BodyError>> + Send + Unpin,
    ) -> UploadResult<UploadState> {
        let progress = self.progress(state).await?;
        self.follows(&progress, state, expected_start).await?;
        let (state, _, end) = self.add_segment(progress, state, body).await?;
        end?;
        Ok(state)
    }

    /// Adds a last chunk, which may be empty, and makes the whole a blob.
    ///
    /// # Errors
    /// See [`UploadError`]. After a digest that does not match the upload is gone.
    pub async fn finish_upload(
        &self,
        state: &UploadState,
        expected_start: Option<u64>,
        body: impl Stream<Item = Result<Bytes, BodyError>> + Send + Unpin,
        digest: &Digest,
    ) -> UploadResult<()> {
        match self.finish_once(state, expected_start, body, digest).await {
            // The answer to the first try was lost, or that try came to its end, and took the segments away, while this one was
            // under way. Its blob may have been deleted since, which is another matter.
            Err(UploadError::Unknown) if self.became(state, digest).await? => Ok(()),
            finished => finished,
        }
    }

    async fn became(&self, state: &UploadState, digest: &Digest) -> UploadResult<bool> {
        let end = self.progress_or_end(state).await?;
        Ok(matches!(end, Err(UploadEntry::Finished(finished)) if finished == *digest))
    }

    async fn finish_once(
        &self,
        state: &UploadState,
        expected_start: Option<u64>,
        body: impl Stream<Item = Result<Bytes, BodyError>> + Send + Unpin,
        digest: &Digest,
    ) -> UploadResult<()> {
        let progress = self.progress(state).await?;
        self.follows(&progress, state, expected_start).await?;
        if state.offset() == 0 {
            return self.finish_in_one(state, body, digest).await;
        }
        let state = state.clone().hashed_by(digest.algorithm());
        let (last, progress, end) = self.add_segment(progress, &state, body).await?;
        end?;
        self.publish_upload(&progress, &last, digest).await
    }

    /// All bytes come with the last request, so there are no segments; the upload ends all the same.
    async fn finish_in_one(
        &self,
        state: &UploadState,
        body: impl Stream<Item = Result<Bytes, BodyError>> + Send + Unpin,
        digest: &Digest,
    ) -> UploadResult<()> {
        match self.put_blob(state.repository(), digest, body).await {
            Ok(()) => Ok(self.leave_finished(state, digest).await?),
            Err(UploadError::DigestMismatch) => match self.cancel_upload(state).await {
                Ok(()) | Err(UploadError::Unknown) => Err(UploadError::DigestMismatch),
                Err(error) => Err(error),
            },
            other => other,
        }
    }

    async fn leave_finished(&self, state: &UploadState, digest: &Digest) -> Result<(), StoreError> {
        let finished = Key::Finished { upload: state.ulid(), digest: digest.clone() };
        self.driver.leave(vec![(finished, Bytes::new())]).await
    }

    /// Ends an upload without a blob.
    ///
    /// # Errors
    /// When there is no such upload, or storage fails.
    pub async fn cancel_upload(&self, state: &UploadState) -> UploadResult<()> {
        let progress = self.progress(state).await?;
        let cancelled = Key::Cancelled { upload: state.ulid() };
        self.driver.create(vec![(cancelled, Bytes::new())], &[]).await?;
        self.driver.remove(&progress.keys(state)).await?;
        Ok(())
    }

    async fn add_segment(
        &self,
        mut progress: Progress,
        state: &UploadState,
        body: impl Stream<Item = Result<Bytes, BodyError>> + Send + Unpin,
    ) -> UploadResult<(UploadState, Progress, Result<(), BodyError>)> {
        let hasher = self.hasher(&progress, state).await?;
        let name = SegmentName { start: state.offset(), attempt: Ulid::generate(), before: state.head() };
        let key = Key::Segment { upload: state.ulid(), name };
        let mut stage = self.driver.stage(key.clone()).await?;
        let received = body::receive(stage.as_mut(), hasher, body).await?;
        // One first byte that no answer acknowledged is given up: `Range: 0-0` would tell its client that nothing is there.
        let ambiguous = received.end.is_err() && state.offset() + received.written == 1;
        if received.written == 0 || ambiguous {
            return Ok((state.clone(), progress, received.end));
        }
        stage.publish().await?;
        self.driver.create(Vec::new(), &[key]).await?;
        progress.segments.push(Segment { name, size: received.written });
        Ok((state.after(name.attempt, received.written, &received.hasher), progress, received.end))
    }

    async fn publish_upload(&self, progress: &Progress, state: &UploadState, digest: &Digest) -> UploadResult<()> {
        let segments = progress.branch(state).ok_or(UploadError::Unknown)?;
        let keys: Vec<Key> = segments.iter().map(|segment| segment.key(state)).collect();
        if self.hasher(progress, state).await?.finish() != *digest {
            self.cancel_upload(state).await?;
            return Err(UploadError::DigestMismatch);
        }
        if !self.adopt(state.repository(), digest, state.offset()).await? {
            let data = Ulid::generate();
            let made = match keys.as_slice() {
                [only] => self.driver.duplicate(only, &Key::Data(data), state.offset()).await?,
                parts => self.driver.join(parts, &Key::Data(data)).await?,
            };
            if !made {
                return Err(UploadError::Unknown);
            }
            self.link_to_own(state.repository(), digest, data, state.offset()).await?;
        }
        // What follows only tidies up: the blob is there, and what is left here expires.
        self.leave_finished(state, digest).await?;
        self.driver.remove(&progress.keys(state)).await?;
        Ok(())
    }

    /// The hasher at the state's offset: from the state itself, or, when a client comes back with an old location, from
    /// the bytes that were stored since.
    async fn hasher(&self, progress: &Progress, state: &UploadState) -> UploadResult<Hasher> {
        let mut hasher = state.hasher().ok_or(UploadError::Unknown)?;
        if state.hashed() == state.offset() {
            return Ok(hasher);
        }
        let segments = progress.branch(state).ok_or(UploadError::Unknown)?;
        for segment in segments.iter().filter(|segment| segment.name.start >= state.hashed()) {
            let opened = self.driver.open(&segment.key(state), 0..segment.size).await?;
            let mut stream = opened.ok_or(UploadError::Unknown)?.stream();
            while let Some(piece) = stream.next().await {
                let piece = piece.map_err(|error| StoreError::io("read a segment", error))?;
                hasher = body::hash(hasher, vec![piece]).await?;
            }
        }
        Ok(hasher)
    }

    async fn progress(&self, state: &UploadState) -> UploadResult<Progress> {
        self.progress_or_end(state).await?.map_err(|_| UploadError::Unknown)
    }

    /// What storage holds of an upload, or how it ended.
    async fn progress_or_end(&self, state: &UploadState) -> UploadResult<Result<Progress, UploadEntry>> {
        if state.expires() < SystemTime::now() {
            return Err(UploadError::Unknown);
        }
        let mut segments = Vec::new();
        for (name, size) in self.driver.sizes(&Prefix::Upload(state.ulid())).await? {
            match name.parse() {
                Ok(UploadEntry::Segment(name)) => segments.push(Segment { name, size }),
                Ok(end) => return Ok(Err(end)),
                Err(_) => {}
            }
        }
        let progress = Progress { segments };
        // What the client has been told is stored must be: else storage was lost, or the upload is swept.
        progress.branch(state).ok_or(UploadError::Unknown)?;
        Ok(Ok(progress))
    }
}

/// The segments of one upload, of all branches.
struct Progress {
    segments: Vec<Segment>,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    name: SegmentName,
    size: u64,
}

impl Segment {
    const fn key(&self, state: &UploadState) -> Key {
        Key::Segment { upload: state.ulid(), name: self.name }
    }

    const fn end(&self) -> u64 {
        self.name.start + self.size
    }
}

impl Progress {
    /// The segments that lead to a state, the first first. `None`: one is missing or has not the size that was answered.
    fn branch(&self, state: &UploadState) -> Option<Vec<Segment>> {
        let mut branch = Vec::new();
        let (mut attempt, mut end) = (state.head(), state.offset());
        while !attempt.is_nil() {
            let segment = *self.segments.iter().find(|segment| segment.name.attempt == attempt)?;
            if segment.end() != end || segment.size == 0 {
                return None;
            }
            (attempt, end) = (segment.name.before, segment.name.start);
            branch.push(segment);
        }
        branch.reverse();
        (end == 0).then_some(branch)
    }

    /// The state after all that was stored on top of `state`; of two branches, the one that reaches further: that a client goes on
    /// with is not less than what it was told is stored, whatever else arrived late.
    fn newest(&self, state: &UploadState) -> UploadState {
        let mut newest = state.clone();
        let reach = self.reach();
        let next = |of: &UploadState| {
            let follows = |segment: &&Segment| {
                segment.name.before == of.head() && segment.name.start == of.offset() && segment.size > 0
            };
            let reach = |segment: &&Segment| (reach.get(&segment.name.attempt).copied(), segment.name.attempt);
            self.segments.iter().filter(follows).max_by_key(reach).copied()
        };
        while let Some(segment) = next(&newest) {
            newest = newest.after_unhashed(segment.name.attempt, segment.size);
        }
        newest
    }

    /// For each segment where the longest branch ends that goes through it.
    fn reach(&self) -> HashMap<Ulid, u64> {
        let mut reach: HashMap<Ulid, u64> = HashMap::new();
        let mut segments: Vec<&Segment> = self.segments.iter().filter(|segment| segment.size > 0).collect();
        // Whatever follows a segment comes before it here.
        segments.sort_unstable_by_key(|segment| std::cmp::Reverse(segment.name.start));
        for segment in segments {
            let own = reach.entry(segment.name.attempt).or_default();
            *own = segment.end().max(*own);
            let end = *own;
            let before = reach.entry(segment.name.before).or_default();
            *before = end.max(*before);
        }
        reach
    }

    fn keys(&self, state: &UploadState) -> Vec<Key> {
        self.segments.iter().map(|segment| segment.key(state)).collect()
    }
}
