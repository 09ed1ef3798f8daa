//! Blobs: bytes under a digest, readable through the repositories that link them.

use std::ops::Range;
use std::time::SystemTime;

use berth_oci::{Digest, Hasher, RepositoryName};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use ulid::Ulid;

use super::body;
use super::driver::{Content, ContentStream, Stage};
use super::error::{BodyError, Result, StoreError};
use super::layout::{Key, LinkName, Prefix, decode};
use super::{Store, UploadError, soundness};

/// A blob that has been found in a repository.
pub struct Blob {
    size: u64,
    found: Found,
}

/// What there is of a blob.
enum Found {
    /// Nothing was wanted.
    Presence,
    Bytes(ContentStream),
    /// Where to ask for them.
    Location(String),
}

impl Blob {
    /// Its size in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The bytes that were wanted of it, if any were.
    pub fn bytes(self) -> Option<ContentStream> {
        match self.found {
            Found::Bytes(bytes) => Some(bytes),
            Found::Presence | Found::Location(_) => None,
        }
    }

    /// Where the bytes that were wanted can be asked for, instead of here.
    pub fn location(&self) -> Option<&str> {
        match &self.found {
            Found::Location(location) => Some(location),
            Found::Presence | Found::Bytes(_) => None,
        }
    }
}

/// Links of one digest in one repository that are looked at. They differ only in age.
const MOST_LINKS: usize = 1000;
/// Blobs from this size on are worth a second request of whoever pulls them, where they can be had elsewhere. In bytes.
const WORTH_A_REDIRECT: u64 = 1 << 20;
/// Repositories that are tried when a digest is looked for anywhere.
const MOST_HINTS: usize = 16;

impl Store {
    /// The blob, if this repository links it, and the range of it that `wanted` says when it is told the size.
    ///
    /// # Errors
    /// When storage fails.
    pub async fn blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        wanted: impl Fn(u64) -> Option<Range<u64>> + Send,
    ) -> Result<Option<Blob>> {
        // A link that leads nowhere may be a duplicate that was just collected, of which a younger one stands.
        for _ in 0..2 {
            let links = self.links(repository, digest).await?;
            for link in links.iter().copied() {
                if let Some(found) = self.behind(digest, link, wanted(link.size)).await? {
                    return Ok(Some(Blob { size: link.size, found }));
                }
            }
            if links.is_empty() {
                break;
            }
        }
        Ok(None)
    }

    /// What a link leads to.
    async fn behind(&self, digest: &Digest, link: LinkName, wanted: Option<Range<u64>>) -> Result<Option<Found>> {
        let key = Key::Data(link.data);
        if self.soundness.is_damaged(link.data) {
            return Ok(None);
        }
        let Some(range) = wanted else {
            return Ok(self.leads_somewhere(link).await?.then_some(Found::Presence));
        };
        if self.redirects
            && link.size >= WORTH_A_REDIRECT
            && let Some(location) = self.driver.location(&key).await?
        {
            return Ok(self.leads_somewhere(link).await?.then_some(Found::Location(location)));
        }
        if link.size <= soundness::SMALL {
            let bytes = self.small(digest, link).await?;
            // The range lies within the blob.
            let wanted = |bytes: Bytes| bytes.slice(range.start as usize..range.end as usize);
            return Ok(bytes.map(|bytes| Found::Bytes(ContentStream::of_bytes(wanted(bytes)))));
        }
        let is_whole = range == (0..link.size);
        Ok(self.content(link, range).await?.map(|content| {
            let stream = content.stream();
            let stream = if is_whole { self.soundness.verify(&self.driver, link, digest, stream) } else { stream };
            Found::Bytes(stream)
        }))
    }

    /// All bytes of a small blob. `None`: they are not there, or damaged.
    async fn small(&self, digest: &Digest, link: LinkName) -> Result<Option<Bytes>> {
        if let Some(bytes) = self.soundness.small(link, digest) {
            return Ok(Some(bytes));
        }
        let Some(content) = self.content(link, 0..link.size).await? else { return Ok(None) };
        let read = self.soundness.read_small(self.driver.as_ref(), link, digest, content.stream()).await;
        read.map_err(|error| StoreError::io(format_args!("read {}", Key::Data(link.data)), error))
    }

    /// A range of the bytes that a link leads to, if they have the size that it says.
    pub(super) async fn content(&self, link: LinkName, range: Range<u64>) -> Result<Option<Content>> {
        let content = self.driver.open(&Key::Data(link.data), range).await?;
        Ok(content.filter(|content| content.size() == link.size))
    }

    /// Takes a blob out of a repository. `false`: it was not in it.
    ///
    /// # Errors
    /// When storage fails.
    pub async fn delete_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        let names = self.driver.list(&Prefix::Links(repository.clone(), digest.clone()), usize::MAX).await?;
        let names: Vec<LinkName> = names.iter().filter_map(|name| name.parse().ok()).collect();
        let links: Vec<_> = names.iter().map(|name| link_key(repository, digest, *name)).collect();
        // Nobody trusts a hint. It goes first, because when its link is gone nobody would find it.
        self.driver.remove(&links.iter().filter_map(hint_of).collect::<Vec<_>>()).await?;
        self.driver.remove(&links).await?;
        Ok(!links.is_empty())
    }

    /// Receives a blob in one piece.
    ///
    /// # Errors
    /// When the body breaks off, is not what `digest` names, or storage fails. Nothing of it stays then.
    pub async fn put_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        body: impl Stream<Item = std::result::Result<Bytes, BodyError>> + Send + Unpin,
    ) -> std::result::Result<(), UploadError> {
        let data = Ulid::generate();
        let mut stage = self.driver.stage(Key::Data(data)).await?;
        let received = body::receive(stage.as_mut(), Hasher::new(digest.algorithm()), body).await?;
        received.end?;
        if received.hasher.finish() != *digest {
            return Err(UploadError::DigestMismatch);
        }
        if self.adopt(repository, digest, received.written).await? {
            return Ok(());
        }
        self.publish(repository, digest, stage, data, received.written).await?;
        Ok(())
    }

    /// Makes a blob of one repository readable in another too, without its bytes. `false`: it is not in `from`.
    ///
    /// # Errors
    /// When storage fails.
    pub async fn mount_blob(&self, to: &RepositoryName, digest: &Digest, from: &RepositoryName) -> Result<bool> {
        let (own, links) = futures::try_join!(self.links(to, digest), self.links(from, digest))?;
        for link in links {
            if self.has_young(to, digest, &own, link.size).await? || self.link_to_older(to, digest, link).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Repositories that may hold a blob, for mounts that name none. Some hold it no longer.
    ///
    /// # Errors
    /// When storage fails.
    pub async fn repositories_hinting_at(&self, digest: &Digest) -> Result<Vec<RepositoryName>> {
        let names = self.driver.list(&Prefix::Hints(digest.clone()), MOST_HINTS).await?;
        Ok(names.iter().filter_map(|name| decode(name).ok()).collect())
    }

    /// The links of a digest in a repository, the youngest first: it is the last that a collector would want.
    pub(super) async fn links(&self, repository: &RepositoryName, digest: &Digest) -> Result<Vec<LinkName>> {
        let names = self.driver.list(&Prefix::Links(repository.clone(), digest.clone()), MOST_LINKS).await?;
        let mut links: Vec<LinkName> = names.iter().filter_map(|name| name.parse().ok()).collect();
        links.sort_unstable_by_key(|link| std::cmp::Reverse(link.link));
        Ok(links)
    }

    /// Whether a link leads to its data.
    pub(super) async fn leads_somewhere(&self, link: LinkName) -> Result<bool> {
        let size = self.driver.size(&Key::Data(link.data)).await?;
        Ok(size == Some(link.size) && !self.soundness.is_damaged(link.data))
    }

    /// Links bytes that are there already instead of those that came, which have been received and verified all the same:
    /// knowing a digest gives nobody the bytes.
    pub(super) async fn adopt(&self, repository: &RepositoryName, digest: &Digest, size: u64) -> Result<bool> {
        let (own, hinted) = futures::try_join!(self.links(repository, digest), self.repositories_hinting_at(digest))?;
        if self.has_young(repository, digest, &own, size).await? {
            return Ok(true);
        }
        if self.link_to_one_of(repository, digest, own, size).await? {
            return Ok(true);
        }
        for other in hinted.iter().filter(|hinted| *hinted != repository) {
            let links = self.links(other, digest).await?;
            if self.link_to_one_of(repository, digest, links, size).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn link_to_one_of(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        links: Vec<LinkName>,
        size: u64,
    ) -> Result<bool> {
        for link in links.into_iter().filter(|link| link.size == size) {
            if self.link_to_older(repository, digest, link).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the repository has a link that is good enough to answer with: a manifest that comes soon will find it, and
    /// relies on it by a check of its own. Pushing the same again and again adds nothing. `links` are those it has, the youngest
    /// first.
    async fn has_young(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        links: &[LinkName],
        size: u64,
    ) -> Result<bool> {
        let Some(link) = links.first().copied().filter(|link| link.size == size && self.is_young(link.link)) else {
            return Ok(false);
        };
        let key = link_key(repository, digest, link);
        self.driver.create(Vec::new(), &[key, Key::Data(link.data)]).await?;
        let dead = self.dead().await?;
        Ok(!dead.has_link(repository, digest, link) && self.leads_somewhere(link).await?)
    }

    /// Makes verified bytes a blob of the repository: data, then link, then hint.
    pub(super) async fn publish(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        stage: Box<dyn Stage>,
        data: Ulid,
        size: u64,
    ) -> Result<()> {
        stage.publish().await?;
        self.link_to_own(repository, digest, data, size).await
    }

    /// Links data that this request made and nobody else knows of. There is nothing to rely on.
    pub(super) async fn link_to_own(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        data: Ulid,
        size: u64,
    ) -> Result<()> {
        let deadline = self.deadline();
        let name = LinkName { link: Ulid::generate(), data, size };
        let values = vec![(link_key(repository, digest, name), Bytes::new())];
        self.driver.create(values, &[Key::Data(data)]).await?;
        self.hint(repository, digest, name).await?;
        deadline.check()
    }

    /// Links data that was there before, by the rely rule: own link first, then the dead, then whether it is still there.
    async fn link_to_older(&self, repository: &RepositoryName, digest: &Digest, older: LinkName) -> Result<bool> {
        if self.soundness.is_damaged(older.data) {
            return Ok(false);
        }
        let deadline = self.deadline();
        let own = LinkName { link: Ulid::generate(), ..older };
        let key = link_key(repository, digest, own);
        self.driver.create(vec![(key.clone(), Bytes::new())], &[Key::Data(older.data)]).await?;
        if self.dead().await?.contains(&Key::Data(older.data)) {
            // The own link stays: somebody may rely on it by now, and as long as it is there its data is spared.
            return Ok(self.fresh_incarnation(repository, digest, older).await?.is_some());
        }
        let linked = self.leads_somewhere(own).await?;
        if linked {
            self.hint(repository, digest, own).await?;
        } else {
            self.driver.remove(&[key]).await?;
        }
        deadline.check().map(|()| linked)
    }

    /// A link to new data with the bytes of a link that is dead or dying. `None`: they are gone.
    pub(super) async fn fresh_incarnation(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        dying: LinkName,
    ) -> Result<Option<LinkName>> {
        let deadline = self.deadline();
        let fresh = LinkName { link: Ulid::generate(), data: Ulid::generate(), size: dying.size };
        // It may be dead because it is damaged.
        if !self.is_sound(digest, dying).await? {
            return Ok(None);
        }
        if !self.driver.duplicate(&Key::Data(dying.data), &Key::Data(fresh.data), dying.size).await? {
            return Ok(None);
        }
        let values = vec![(link_key(repository, digest, fresh), Bytes::new())];
        self.driver.create(values, &[Key::Data(fresh.data)]).await?;
        self.hint(repository, digest, fresh).await?;
        deadline.check().map(|()| Some(fresh))
    }

    /// Whether the bytes that a link leads to are there, and what they should be.
    async fn is_sound(&self, digest: &Digest, link: LinkName) -> Result<bool> {
        let Some(content) = self.content(link, 0..link.size).await? else { return Ok(false) };
        let mut pieces = self.soundness.verify(&self.driver, link, digest, content.stream());
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::InvalidData => return Ok(false),
                Err(error) => return Err(StoreError::io(format_args!("read {}", Key::Data(link.data)), error)),
            }
        }
        Ok(true)
    }

    /// Whether a link stays long enough for a manifest to come.
    fn is_young(&self, link: Ulid) -> bool {
        SystemTime::now().duration_since(link.datetime()).is_ok_and(|age| age < self.grace / 2)
    }

    async fn hint(&self, repository: &RepositoryName, digest: &Digest, name: LinkName) -> Result<()> {
        self.driver.leave(vec![(hint_key(repository, digest, name), Bytes::new())]).await
    }
}

pub(super) fn link_key(repository: &RepositoryName, digest: &Digest, name: LinkName) -> Key {
    Key::Link { repository: repository.clone(), digest: digest.clone(), name }
}

/// The hint that goes with a link.
pub(super) fn hint_of(link: &Key) -> Option<Key> {
    match link {
        Key::Link { repository, digest, name } => Some(hint_key(repository, digest, *name)),
        _ => None,
    }
}

fn hint_key(repository: &RepositoryName, digest: &Digest, name: LinkName) -> Key {
    Key::Hint { digest: digest.clone(), repository: repository.clone(), link: name.link }
}
