//! One client: does things at random, and writes down what was answered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use berth_e2e::http::{Answer, nothing, whole};
use berth_e2e::image::{Blob, Manifest, artifact};
use bytes::Bytes;
use fastrand::Rng;
use http::{Method, StatusCode};
use tokio::sync::watch;

use crate::World;
use crate::history::{Key, Value};
use crate::view::{path_of, value_of};

/// Names that are prefixes of each other.
pub(crate) const REPOSITORIES: [&str; 3] = ["crash/a", "crash/a/b", "crash/a-b"];
/// Tags that everyone moves about.
const TAGS: [&str; 4] = ["latest", "v1", "v1.0", "v1-rc"];
/// Blobs that everyone pushes, mounts and deletes.
const SHARED: u64 = 6;
/// How many keys each client looks at first after each kill.
const LOOKS_AFTER_A_KILL: usize = 12;
/// How often a client comes back to what is its own. After that it stays as it is, for the oracle to find.
const RETURNS: u8 = 3;

pub(crate) struct Worker {
    pub(crate) world: Arc<World>,
    pub(crate) random: Rng,
    boots: watch::Receiver<u64>,
    number: u64,
    made: u64,
    manifests: Vec<Owned>,
    blobs: Vec<(&'static str, Blob, u8)>,
}

/// A manifest that only this client touches, and may delete.
#[derive(Clone)]
struct Owned {
    repository: &'static str,
    manifest: Manifest,
    changes: Vec<Key>,
    tag: String,
    returns: u8,
}

impl Worker {
    pub(crate) fn new(world: Arc<World>, number: u64, seed: u64) -> Self {
        let random = Rng::with_seed(seed.wrapping_add(number + 1));
        let boots = world.boots.clone();
        Self { world, random, boots, number, made: 0, manifests: Vec::new(), blobs: Vec::new() }
    }

    /// Goes on until the test is over.
    ///
    /// # Errors
    /// At the first answer that breaks a promise.
    pub(crate) async fn run(mut self) -> Result<()> {
        let mut looked = self.boot();
        while !self.world.stop.load(Ordering::Relaxed) {
            if looked != self.boot() {
                looked = self.boot();
                self.look(LOOKS_AFTER_A_KILL).await?;
            }
            match self.random.u8(..15) {
                0 => self.push_kept_blob().await.map(drop),
                1..=3 => self.push_image().await,
                4 | 5 => self.move_tag().await,
                6 => self.delete_tag().await,
                7..=9 => self.push_or_delete_own_manifest().await,
                10 => self.push_or_delete_own_blob().await,
                11 => self.push_mount_or_delete_shared_blob().await,
                12 => self.be_refused().await,
                _ => self.look(1).await,
            }
            .with_context(|| format!("client {}", self.number))?;
        }
        Ok(())
    }

    pub(crate) fn boot(&self) -> u64 {
        *self.boots.borrow()
    }

    /// Waits until the registry has been started again. `false`: nobody does that any more.
    pub(crate) async fn wait_for_boot_after(&mut self, boot: u64) -> bool {
        let next = tokio::time::timeout(Duration::from_secs(20), self.boots.wait_for(|now| *now > boot));
        matches!(next.await, Ok(Ok(_)))
    }

    /// The answer, unless it leaves open what happened.
    pub(crate) fn settle(&self, outcome: Result<Answer>) -> Option<Answer> {
        let answer = outcome.ok()?;
        if answer.status.is_server_error() {
            self.world.complain(format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)));
            return None;
        }
        Some(answer)
    }

    /// Makes changes by one request and writes down what became of them. Returns whether they were acknowledged.
    pub(crate) async fn change(
        &mut self,
        expected: StatusCode,
        changes: &[(Key, Value)],
        request: impl Future<Output = Result<Answer>>,
    ) -> Result<bool> {
        self.change_unless(|_| false, expected, changes, request).await
    }

    /// The same, where an answer that is `forgiven` means that nobody knows what became of it.
    pub(crate) async fn change_unless(
        &mut self,
        forgiven: impl Fn(&Answer) -> bool,
        expected: StatusCode,
        changes: &[(Key, Value)],
        request: impl Future<Output = Result<Answer>>,
    ) -> Result<bool> {
        let (boot, start) = (self.boot(), self.world.history.tick());
        match self.settle(request.await) {
            Some(answer) if answer.status == expected => self.world.history.acknowledged(start, changes),
            // Someone else was faster, or an earlier deletion came through after all.
            Some(answer) if answer.status == StatusCode::NOT_FOUND && expected == StatusCode::ACCEPTED => {
                let (key, _) = changes.first().context("a deletion of nothing")?;
                self.world.history.read(start, key.clone(), None);
            }
            Some(answer) if forgiven(&answer) => return Ok(false),
            // A blob that no manifest named for longer than the grace.
            Some(answer) if self.world.history.collects && has_code(&answer, "MANIFEST_BLOB_UNKNOWN") => {
                self.world.collected.fetch_add(1, Ordering::Relaxed);
                return Ok(false);
            }
            Some(answer) => bail!("{changes:?}: {:?}", answer.expect(expected)),
            None => {
                self.world.history.interrupted_at(start, changes);
                self.wait_for_boot_after(boot).await;
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn repository(&mut self) -> &'static str {
        REPOSITORIES[self.random.usize(..REPOSITORIES.len())]
    }

    fn unique(&mut self) -> String {
        self.made += 1;
        format!("{}-{}", self.number, self.made)
    }

    /// A blob that nobody else has.
    fn new_blob(&mut self, largest: usize) -> Blob {
        let mut bytes = self.unique().into_bytes();
        let size = self.random.usize(bytes.len() + 2..largest);
        bytes.resize_with(size, || self.random.u8(..));
        Blob::new("application/octet-stream", bytes)
    }

    /// Pushes a blob in one of three ways. Returns whether it was acknowledged.
    async fn push_blob(&mut self, repository: &'static str, blob: &Blob) -> Result<bool> {
        let changes = [(blob_key(repository, blob), Some(blob.digest.clone()))];
        let client = self.world.client.clone();
        let path = format!("/v2/{repository}/blobs/uploads/");
        match self.random.u8(..3) {
            0 => {
                let path = format!("{path}?digest={}", blob.digest);
                let request = client.send(Method::POST, &path, OCTETS, whole(blob.bytes.clone()));
                self.change(StatusCode::CREATED, &changes, request).await
            }
            1 => {
                let boot = self.boot();
                let Some(answer) = self.settle(client.send(Method::POST, &path, &[], nothing()).await) else {
                    self.wait_for_boot_after(boot).await;
                    return Ok(false);
                };
                let location = answer.expect(StatusCode::ACCEPTED)?.location()?;
                let request = client.finish(&location, &blob.digest, blob.bytes.clone());
                self.change(StatusCode::CREATED, &changes, request).await
            }
            _ => self.push_in_chunks(repository, blob).await,
        }
    }

    /// Pushes a blob that nobody will delete, and leaves it where others may build on it.
    async fn push_kept_blob(&mut self) -> Result<()> {
        let (repository, blob) = (self.repository(), self.new_blob(120_000));
        self.push_kept(repository, &blob).await.map(drop)
    }

    async fn push_kept(&mut self, repository: &'static str, blob: &Blob) -> Result<bool> {
        let pushed = self.push_blob(repository, blob).await?;
        if pushed {
            self.world.shelf.put_blob(&mut self.random, repository, blob.clone());
        }
        Ok(pushed)
    }

    /// An image of new and of known blobs, all of which are there. `None`: the registry died on the way.
    async fn prepare_image(&mut self, repository: &'static str) -> Result<Option<Manifest>> {
        let config = self.new_blob(500);
        if !self.push_kept(repository, &config).await? {
            return Ok(None);
        }
        let mut layers = Vec::new();
        for _ in 0..self.random.usize(..3) {
            let known = self.world.shelf.blob(&mut self.random, repository);
            let layer = known.filter(|_| self.random.bool()).unwrap_or_else(|| self.new_blob(60_000));
            // A known one may be pushed again: it may or may not be stored twice.
            if (self.random.bool() || !self.world.shelf.has(repository, &layer))
                && !self.push_kept(repository, &layer).await?
            {
                return Ok(None);
            }
            layers.push(layer);
        }
        Ok(Some(Manifest::of_blobs(config, layers)))
    }

    /// Pushes an image that nobody will delete, and gives it none, one or two of the tags that everyone uses, or one that
    /// nobody touches again.
    async fn push_image(&mut self) -> Result<()> {
        let repository = self.repository();
        let Some(manifest) = self.prepare_image(repository).await? else { return Ok(()) };
        let first = self.random.usize(..TAGS.len());
        let tags = [TAGS[first], TAGS[(first + 1) % TAGS.len()]];
        let release = format!("release-{}", self.unique());
        let (reference, tags) = match self.random.u8(..5) {
            3 | 4 => (release.clone(), &[release.as_str()][..]),
            0 => (manifest.digest.to_string(), &tags[..0]),
            1 => (tags[0].to_owned(), &tags[..1]),
            _ => (format!("{}?tag={}&tag={}", manifest.digest, tags[0], tags[1]), &tags[..]),
        };
        if self.put(repository, &reference, &manifest, tags).await? {
            self.world.shelf.put_manifest(&mut self.random, repository, manifest);
        }
        Ok(())
    }

    async fn put(
        &mut self,
        repository: &'static str,
        reference: &str,
        manifest: &Manifest,
        tags: &[&str],
    ) -> Result<bool> {
        let value = Some(manifest.digest.clone());
        let tags = tags.iter().map(|tag| (tag_key(repository, tag), value.clone()));
        let changes: Vec<_> = [(manifest_key(repository, manifest), value.clone())].into_iter().chain(tags).collect();
        self.put_as(&changes, repository, reference, manifest).await
    }

    async fn put_as(
        &mut self,
        changes: &[(Key, Value)],
        repository: &'static str,
        reference: &str,
        manifest: &Manifest,
    ) -> Result<bool> {
        self.world.names(repository, manifest);
        let client = self.world.client.clone();
        let put =
            self.change(StatusCode::CREATED, changes, client.put_manifest(repository, reference, manifest)).await?;
        if !put {
            self.world.shelf.forget(repository, &manifest.blobs);
        }
        Ok(put)
    }

    async fn move_tag(&mut self) -> Result<()> {
        let (repository, tag) = (self.repository(), TAGS[self.random.usize(..TAGS.len())]);
        let Some(manifest) = self.world.shelf.manifest(&mut self.random, repository) else { return Ok(()) };
        self.put(repository, tag, &manifest, &[tag]).await.map(drop)
    }

    async fn delete_tag(&mut self) -> Result<()> {
        let (repository, tag) = (self.repository(), TAGS[self.random.usize(..TAGS.len())]);
        self.delete(&format!("/v2/{repository}/manifests/{tag}"), vec![tag_key(repository, tag)]).await
    }

    async fn delete(&mut self, path: &str, keys: Vec<Key>) -> Result<()> {
        let changes: Vec<_> = keys.into_iter().map(|key| (key, None)).collect();
        let client = self.world.client.clone();
        self.change(StatusCode::ACCEPTED, &changes, client.delete(path)).await.map(drop)
    }

    async fn push_or_delete_own_manifest(&mut self) -> Result<()> {
        if self.manifests.is_empty() || self.random.u8(..3) == 0 {
            let Some(owned) = self.prepare_own_manifest().await? else { return Ok(()) };
            self.manifests.push(owned);
        }
        let own = self.random.usize(..self.manifests.len());
        self.manifests[own].returns += 1;
        let Owned { repository, manifest, changes, tag, returns } = self.manifests[own].clone();
        if returns == RETURNS {
            self.manifests.swap_remove(own);
        }
        if self.random.bool() {
            let value = Some(manifest.digest.clone());
            let changes: Vec<_> = changes.into_iter().map(|key| (key, value.clone())).collect();
            self.put_as(&changes, repository, &tag, &manifest).await.map(drop)
        } else {
            // Whoever deletes a manifest deletes its tags.
            self.delete(&format!("/v2/{repository}/manifests/{}", manifest.digest), changes).await
        }
    }

    /// An image, or an artifact that says something about an image of everyone's.
    async fn prepare_own_manifest(&mut self) -> Result<Option<Owned>> {
        let (repository, tag) = (self.repository(), format!("own-{}", self.unique()));
        let subject = self.world.shelf.manifest(&mut self.random, repository).filter(|_| self.random.u8(..4) > 0);
        let (manifest, referrer) = match subject {
            None => (self.prepare_image(repository).await?, None),
            Some(subject) => {
                let manifest = artifact("application/vnd.example.note", &subject, tag.clone());
                for blob in &manifest.blobs {
                    if !self.push_kept(repository, blob).await? {
                        return Ok(None);
                    }
                }
                let digest = manifest.digest.clone();
                (Some(manifest), Some(Key::Referrer { repository, subject: subject.digest, digest }))
            }
        };
        Ok(manifest.map(|manifest| {
            let own = [manifest_key(repository, &manifest), tag_key(repository, &tag)];
            Owned { repository, manifest, changes: own.into_iter().chain(referrer).collect(), tag, returns: 0 }
        }))
    }

    async fn push_or_delete_own_blob(&mut self) -> Result<()> {
        if self.blobs.is_empty() || self.random.u8(..3) == 0 {
            let own = (self.repository(), self.new_blob(30_000), 0);
            self.blobs.push(own);
        }
        let own = self.random.usize(..self.blobs.len());
        self.blobs[own].2 += 1;
        let (repository, blob, returns) = self.blobs[own].clone();
        if returns == RETURNS {
            self.blobs.swap_remove(own);
        }
        if self.random.bool() {
            self.push_blob(repository, &blob).await.map(drop)
        } else {
            self.delete(&format!("/v2/{repository}/blobs/{}", blob.digest), vec![blob_key(repository, &blob)]).await
        }
    }

    async fn push_mount_or_delete_shared_blob(&mut self) -> Result<()> {
        let content = Bytes::from(format!("everyone's number {}", self.random.u64(..SHARED)).repeat(500));
        let (repository, blob) = (self.repository(), Blob::new("application/octet-stream", content));
        match self.random.u8(..4) {
            0 | 1 => self.push_blob(repository, &blob).await.map(drop),
            2 => {
                let from = self.repository();
                self.mount(repository, from, &blob).await
            }
            _ => {
                self.delete(&format!("/v2/{repository}/blobs/{}", blob.digest), vec![blob_key(repository, &blob)]).await
            }
        }
    }

    async fn mount(&mut self, repository: &'static str, from: &str, blob: &Blob) -> Result<()> {
        let path = format!("/v2/{repository}/blobs/uploads/?mount={}&from={from}", blob.digest);
        let changes = [(blob_key(repository, blob), Some(blob.digest.clone()))];
        let (boot, start) = (self.boot(), self.world.history.tick());
        match self.settle(self.world.client.send(Method::POST, &path, &[], nothing()).await) {
            Some(answer) if answer.status == StatusCode::CREATED => self.world.history.acknowledged(start, &changes),
            // It was not there, and an upload began instead, with which nobody goes on.
            Some(answer) => drop(answer.expect(StatusCode::ACCEPTED)?),
            None => {
                self.world.history.interrupted_at(start, &changes);
                self.wait_for_boot_after(boot).await;
            }
        }
        Ok(())
    }

    /// Pushes what must be refused: bytes under the name of others, or an image of which a layer is missing.
    async fn be_refused(&mut self) -> Result<()> {
        let (repository, blob, other) = (self.repository(), self.new_blob(20_000), self.new_blob(20_000));
        let boot = self.boot();
        let client = self.world.client.clone();
        let outcome = if self.random.bool() {
            self.world.history.refused(&blob_key(repository, &other));
            let path = format!("/v2/{repository}/blobs/uploads/?digest={}", other.digest);
            client.send(Method::POST, &path, OCTETS, whole(blob.bytes)).await
        } else {
            let tag = format!("refused-{}", self.unique());
            let manifest = Manifest::of_blobs(blob, vec![other]);
            self.world.history.refused(&manifest_key(repository, &manifest));
            self.world.history.refused(&tag_key(repository, &tag));
            client.put_manifest(repository, &tag, &manifest).await
        };
        match self.settle(outcome) {
            Some(answer) => ensure!(answer.status.is_client_error(), "should have been refused: {answer:?}"),
            None => drop(self.wait_for_boot_after(boot).await),
        }
        Ok(())
    }

    /// Reads some of all that was ever touched, every third time a tag that everyone moves.
    async fn look(&mut self, keys: usize) -> Result<()> {
        for _ in 0..keys {
            let moved = tag_key(self.repository(), TAGS[self.random.usize(..TAGS.len())]);
            let any = self.world.history.any_key(&mut self.random);
            let key = any.filter(|_| self.random.u8(..3) > 0).unwrap_or(moved);
            let (boot, start) = (self.boot(), self.world.history.tick());
            let Some(answer) = self.settle(self.world.client.get(&path_of(&key)).await) else {
                self.wait_for_boot_after(boot).await;
                return Ok(());
            };
            let value = value_of(&key, &answer)?;
            self.world.history.read(start, key, value);
        }
        Ok(())
    }
}

const OCTETS: &[(&str, &str)] = &[("content-type", "application/octet-stream")];

pub(crate) fn has_code(answer: &Answer, code: &str) -> bool {
    answer.status.is_client_error() && answer.body.windows(code.len()).any(|part| part == code.as_bytes())
}

pub(crate) fn blob_key(repository: &'static str, blob: &Blob) -> Key {
    Key::Blob { repository, digest: blob.digest.clone() }
}

pub(crate) fn manifest_key(repository: &'static str, manifest: &Manifest) -> Key {
    Key::Manifest { repository, digest: manifest.digest.clone() }
}

fn tag_key(repository: &'static str, tag: &str) -> Key {
    Key::Tag { repository, tag: tag.to_owned() }
}
