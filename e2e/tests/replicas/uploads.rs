//! Clients that push blobs in chunks, each of which another replica gets, and never give up: after an interruption they ask how
//! far the upload has come, and go on from there.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use berth_e2e::http::{Answer, Client, cut_off_after, nothing, whole};
use berth_e2e::replicas::Replicas;
use berth_e2e::round_robin::served_by;
use berth_oci::{Algorithm, Digest};
use bytes::Bytes;
use fastrand::Rng;
use futures::{StreamExt as _, TryStreamExt as _};
use http::{Method, StatusCode};
use tokio::task::JoinHandle;

use crate::trouble::Trouble;

const CLIENTS: u64 = 8;
const REPOSITORIES: [&str; 2] = ["load/a", "load/b"];
/// Blobs that several clients push.
const SHARED: u64 = 10;
/// Of two hundred uploads one is larger than a part of a multipart upload.
const LARGE: std::ops::Range<usize> = 6_000_000..13_000_000;
const LARGE_CHUNK: std::ops::Range<usize> = 1_000_000..6_000_000;
const SMALL: std::ops::Range<usize> = 3_000..60_000;
const SMALL_CHUNK: std::ops::Range<usize> = 2_000..25_000;
/// Until anybody answers.
const PATIENCE: Duration = Duration::from_secs(120);

/// A client, and in the end what it has pushed.
pub(crate) type Running = JoinHandle<Result<Vec<Pushed>>>;

/// A blob that was acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Pushed {
    repository: &'static str,
    digest: Digest,
    size: usize,
    /// Those that acknowledged its chunks and its end.
    replicas: BTreeSet<usize>,
    chunks: u64,
    /// Chunks that were not answered, and how many bytes of them had to be sent again.
    interrupted: u64,
    sent_again: usize,
    replayed: u64,
}

/// All of them.
pub(crate) struct Load(Vec<Pushed>);

/// Begins to push so many blobs.
pub(crate) fn begin(replicas: &Replicas, uploads: u64, seed: u64) -> Vec<Running> {
    let next = Arc::new(AtomicU64::new(0));
    let client = |number: u64| {
        let (client, next) = (replicas.client(), Arc::clone(&next));
        tokio::spawn(async move {
            let mut pushed = Vec::new();
            loop {
                let upload = next.fetch_add(1, Ordering::Relaxed);
                if upload >= uploads {
                    return Ok(pushed);
                }
                let random = Rng::with_seed(seed.wrapping_add(upload));
                let upload = Upload::of(&client, random).push().await.with_context(|| format!("upload {upload}"));
                pushed.push(upload.with_context(|| format!("client {number}"))?);
            }
        })
    };
    (0..CLIENTS).map(client).collect()
}

/// What they have all pushed.
///
/// # Errors
/// The first of theirs.
pub(crate) async fn end(clients: Vec<Running>) -> Result<Load> {
    let mut all = Vec::new();
    for client in clients {
        all.extend(client.await??);
    }
    Ok(Load(all))
}

/// One upload on its way.
struct Upload<'a> {
    client: &'a Client,
    random: Rng,
    bytes: Bytes,
    location: String,
    /// What is acknowledged.
    stored: usize,
    /// Whether bytes that were sent before an interruption may still be stored.
    is_unsure: bool,
    /// Where it was before, and the chunk that led on from there.
    stale: Vec<(String, usize, usize)>,
    pushed: Pushed,
}

impl<'a> Upload<'a> {
    fn of(client: &'a Client, mut random: Rng) -> Self {
        let mut content = match random.u8(..10) {
            0 => Rng::with_seed(random.u64(..SHARED)),
            _ => random.fork(),
        };
        let sizes = if content.u8(..200) == 0 { LARGE } else { SMALL };
        let size = content.usize(sizes);
        let mut bytes = vec![0; size];
        content.fill(&mut bytes);
        let pushed = Pushed {
            repository: REPOSITORIES[random.usize(..REPOSITORIES.len())],
            digest: Digest::of(Algorithm::Sha256, &bytes),
            size,
            replicas: BTreeSet::new(),
            chunks: 0,
            interrupted: 0,
            sent_again: 0,
            replayed: 0,
        };
        Self {
            client,
            random,
            bytes: bytes.into(),
            location: String::new(),
            stored: 0,
            is_unsure: false,
            stale: Vec::new(),
            pushed,
        }
    }

    async fn push(mut self) -> Result<Pushed> {
        let path = format!("/v2/{}/blobs/uploads/", self.pushed.repository);
        let answer = until_answered(|| self.client.send(Method::POST, &path, &[], nothing())).await?;
        self.location = answer.expect(StatusCode::ACCEPTED)?.location()?;
        let last = self.random.usize(if self.bytes.len() >= LARGE.start { LARGE_CHUNK } else { SMALL_CHUNK });
        // Now and then the end carries no bytes.
        let last = if self.random.bool() { last.min(self.bytes.len() / 2) } else { 0 };
        while self.stored < self.bytes.len() - last {
            self.push_chunk(self.bytes.len() - last).await?;
            if !self.stale.is_empty() && self.random.u8(..10) == 0 {
                self.replay(StatusCode::RANGE_NOT_SATISFIABLE).await?;
            }
        }
        self.finish().await?;
        if self.random.u8(..10) == 0 {
            self.replay(StatusCode::NOT_FOUND).await?;
            self.finish().await.context("ended again")?;
        }
        // They are all looked at in the end.
        if self.random.u8(..4) == 0 {
            self.pushed.is_there(self.client).await?;
        }
        Ok(self.pushed)
    }

    /// Sends one chunk. When nobody says what became of it, asks, and is where the answer says.
    async fn push_chunk(&mut self, end: usize) -> Result<()> {
        let sizes = if self.bytes.len() >= LARGE.start { LARGE_CHUNK } else { SMALL_CHUNK };
        let length = self.random.usize(sizes).min(end - self.stored);
        let chunk = self.bytes.slice(self.stored..self.stored + length);
        let body = if self.random.u8(..20) == 0 { cut_off_after(chunk.slice(..length / 2)) } else { whole(chunk) };
        let answer = settled(self.client.patch(&self.location, self.stored, length, body).await)?;
        let Some(answer) = answer.filter(|answer| !self.is_late(answer)) else {
            return self.go_on_from_where_it_is(length).await;
        };
        let answer = answer.expect(StatusCode::ACCEPTED).with_context(|| format!("chunk at {}", self.stored))?;
        let received = answer.received()?;
        ensure!(received == self.stored + length, "acknowledged {received} bytes after {}+{length}", self.stored);
        self.stale.push((std::mem::replace(&mut self.location, answer.location()?), self.stored, length));
        self.stored = received;
        self.pushed.chunks += 1;
        self.pushed.replicas.insert(served_by(&answer)?);
        Ok(())
    }

    /// Whether it refuses a chunk because of one that was interrupted, and stored after we asked. That happens once.
    fn is_late(&mut self, answer: &Answer) -> bool {
        std::mem::take(&mut self.is_unsure) && answer.status == StatusCode::RANGE_NOT_SATISFIABLE
    }

    /// Asks any replica. What was acknowledged is there, and nothing beyond what was sent.
    async fn go_on_from_where_it_is(&mut self, sent: usize) -> Result<()> {
        let answer = until_answered(|| self.client.get(&self.location)).await?.expect(StatusCode::NO_CONTENT)?;
        let received = answer.received()?;
        ensure!(received >= self.stored, "{} bytes were acknowledged, {received} are left", self.stored);
        ensure!(received <= self.bytes.len(), "{received} bytes of {}", self.bytes.len());
        self.pushed.interrupted += 1;
        self.pushed.sent_again += (self.stored + sent).saturating_sub(received);
        (self.stored, self.location, self.is_unsure) = (received, answer.location()?, true);
        Ok(())
    }

    /// Sends other bytes to a place where the upload was before. They are refused, and change nothing.
    async fn replay(&mut self, refusal: StatusCode) -> Result<()> {
        let Some((location, start, length)) = self.random.choice(&self.stale).cloned() else { return Ok(()) };
        let garbage: Vec<u8> = std::iter::repeat_with(|| self.random.u8(..)).take(length).collect();
        let Some(answer) = settled(self.client.patch(&location, start, length, whole(garbage)).await)? else {
            return Ok(());
        };
        let answer = answer.expect(refusal).context("a stale location was used again")?;
        if refusal == StatusCode::RANGE_NOT_SATISFIABLE {
            let received = answer.received()?;
            ensure!(received >= self.stored, "{} bytes were acknowledged, a refusal says {received}", self.stored);
        }
        self.pushed.replayed += 1;
        Ok(())
    }

    /// Ends the upload with the bytes that are left. To end it again, when the answer was lost, is no mistake.
    async fn finish(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let rest = self.bytes.slice(self.stored..);
            let end = self.client.finish(&self.location, &self.pushed.digest, rest);
            let waits = if self.random.u8(..10) == 0 { self.random.u64(1..10) } else { 60_000 };
            // Whoever does not wait closes the connection.
            let answer = tokio::time::timeout(Duration::from_millis(waits), end).await;
            let answer = answer.map_or(Ok(None), settled)?;
            if let Some(answer) = answer.filter(|answer| !self.is_late(answer)) {
                let answer = answer.expect(StatusCode::CREATED).context("the end")?;
                self.pushed.replicas.insert(served_by(&answer)?);
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "it comes to no end");
            let standing = until_answered(|| self.client.get(&self.location)).await?;
            self.pushed.interrupted += 1;
            // It has ended already. Whoever asks once more is told so.
            if standing.status != StatusCode::NOT_FOUND {
                let standing = standing.expect(StatusCode::NO_CONTENT)?;
                let received = standing.received()?;
                ensure!(received >= self.stored, "{} bytes were acknowledged, {received} are left", self.stored);
                (self.stored, self.location, self.is_unsure) = (received, standing.location()?, true);
            }
        }
    }
}

/// The answer, unless it leaves open what happened.
///
/// # Errors
/// When a replica says that something failed: nothing does, but replicas are killed, of which the proxy tells.
fn settled(outcome: Result<Answer>) -> Result<Option<Answer>> {
    let Ok(answer) = outcome else { return Ok(None) };
    if !answer.status.is_server_error() {
        return Ok(Some(answer));
    }
    ensure!(served_by(&answer).is_err(), "{} {:?}", answer.status, answer.body);
    Ok(None)
}

/// Asks again and again, for what may be asked as often as one likes.
async fn until_answered<F: Future<Output = Result<Answer>>>(ask: impl Fn() -> F) -> Result<Answer> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = settled(ask().await)? {
            return Ok(answer);
        }
        ensure!(Instant::now() < deadline, "no replica answers");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Pushed {
    /// Any replica serves it, byte for byte.
    async fn is_there(&self, client: &Client) -> Result<()> {
        let path = format!("/v2/{}/blobs/{}", self.repository, self.digest);
        let answer = until_answered(|| client.get(&path)).await?.expect(StatusCode::OK)?;
        let (size, digest) = (answer.body.len(), Digest::of(Algorithm::Sha256, &answer.body));
        ensure!(digest == self.digest, "{path}: {size} bytes of {digest} instead of {}", self.size);
        Ok(())
    }
}

impl Load {
    /// Every blob is there. Says what there was.
    ///
    /// # Errors
    /// When one is lost, or has other bytes.
    pub(crate) async fn are_all_there(&self, client: &Client) -> Result<String> {
        futures::stream::iter(&self.0)
            .map(|pushed| pushed.is_there(client))
            .buffer_unordered(8)
            .try_collect::<()>()
            .await?;
        Ok(self.to_string())
    }

    fn sum(&self, of: impl Fn(&Pushed) -> u64) -> u64 {
        self.0.iter().map(of).sum()
    }

    fn on_different_replicas(&self) -> usize {
        self.0.iter().filter(|pushed| pushed.replicas.len() > 1).count()
    }

    /// It was worth something: chunks did go to different replicas, and kills did hit them.
    ///
    /// # Errors
    /// When not.
    pub(crate) fn were_troubled(&self, trouble: &Trouble) -> Result<()> {
        let interrupted = self.sum(|pushed| pushed.interrupted);
        ensure!(self.on_different_replicas() * 2 > self.0.len(), "most uploads stayed with one replica");
        ensure!(trouble.kills > 0 && interrupted > trouble.kills / 4, "{trouble} hit nothing");
        ensure!(self.sum(|pushed| pushed.replayed) > 0, "no stale location was used");
        Ok(())
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.sum(|pushed| pushed.size as u64);
        let again = self.sum(|pushed| pushed.sent_again as u64);
        write!(
            f,
            "{} uploads of {:.1} MB in {} chunks, {} of them on different replicas; {} requests interrupted, {:.1} MB sent \
             again; {} stale locations refused; every blob is there, 0 lost, 0 wrong bytes",
            self.0.len(),
            bytes as f64 / 1e6,
            self.sum(|pushed| pushed.chunks),
            self.on_different_replicas(),
            self.sum(|pushed| pushed.interrupted),
            again as f64 / 1e6,
            self.sum(|pushed| pushed.replayed),
        )
    }
}
