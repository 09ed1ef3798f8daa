//! Manifests: records of bytes, and the request that makes one.

use std::collections::HashSet;

use berth_oci::{Child, Descriptor, Digest, Manifest, ManifestKind, Reference, RepositoryName, Tag};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use ulid::Ulid;

use super::Store;
use super::blob::link_key;
use super::dead::Dead;
use super::deadline::Deadline;
use super::error::{Result, StoreError, StoreErrorKind};
use super::layout::{BackReferenceName, Key, LinkName, Prefix, RecordName, ReferrerName};

/// A manifest as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredManifest {
    /// The name of its bytes.
    pub digest: Digest,
    /// Its type.
    pub kind: ManifestKind,
    /// Its bytes, which have been checked against the digest.
    pub bytes: Bytes,
}

/// Why a manifest is not stored.
#[derive(Debug, thiserror::Error)]
pub enum PutManifestError {
    /// Something that it points at is not in the repository.
    #[error("{0} is not in the repository")]
    ChildUnknown(Digest),
    /// Something that it points at has another size than it says.
    #[error("{digest} has {stored} bytes, not {described}")]
    ChildSize {
        /// What is pointed at.
        digest: Digest,
        /// What the descriptor says, in bytes.
        described: u64,
        /// What is there, in bytes.
        stored: u64,
    },
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

type PutResult<T> = std::result::Result<T, PutManifestError>;

/// Children of one manifest that are looked for at the same time.
const CHILDREN_AT_ONCE: usize = 16;
/// Records of one digest in one repository that are looked at. They are all the same.
const MOST_RECORDS: usize = 1000;

impl Store {
    /// The manifest that a tag or a digest names.
    ///
    /// # Errors
    /// When storage fails, or when what a tag names is damaged.
    pub async fn manifest(&self, repository: &RepositoryName, reference: &Reference) -> Result<Option<StoredManifest>> {
        match reference {
            Reference::Tag(tag) => self.tagged(repository, tag).await,
            Reference::Digest(digest) => self.recorded(repository, digest).await,
        }
    }

    /// Stores a manifest and points tags at it.
    ///
    /// # Errors
    /// See [`PutManifestError`]. When it is refused nothing of it is visible, not even for a moment.
    pub async fn put_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        manifest: &Manifest,
        bytes: Bytes,
        tags: &[Tag],
    ) -> PutResult<()> {
        self.put(&Put { repository, digest, manifest, bytes, tags, again: None, deadline: self.deadline() }).await
    }

    /// Deletes a manifest with all its tags. `false`: it was not there.
    ///
    /// # Errors
    /// When storage fails. Tags that are gone by then stay gone.
    pub async fn delete_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        let back_references = self.back_references(repository, digest).await?;
        for name in &back_references {
            self.untag(repository, digest, name).await?;
        }
        // Listed after the back-references, so that each of those that are removed takes its record with it.
        let names = self.driver.list(&Prefix::Records(repository.clone(), digest.clone()), usize::MAX).await?;
        let names: Vec<RecordName> = names.iter().filter_map(|name| name.parse().ok()).collect();
        if names.is_empty() {
            return Ok(false);
        }
        let subject = self.subject_of(repository, digest).await?;
        let records: Vec<_> = names.iter().map(|name| record_key(repository, digest, *name)).collect();
        // From here on no record can be found: what is left over afterwards belongs to a record that is gone.
        self.driver.remove(&records).await?;
        let referrers = names.iter().zip(subject.iter().cycle()).map(|(name, subject)| Key::Referrer {
            repository: repository.clone(),
            subject: subject.clone(),
            name: ReferrerName { digest: digest.clone(), record: name.record },
        });
        // One whose record was not listed may still be waiting for it: collectors find a record's tags by it.
        let back_references = back_references.into_iter().filter(|name| names.iter().any(|n| n.record == name.record));
        let back_references = back_references.map(|name| Key::BackReference {
            repository: repository.clone(),
            digest: digest.clone(),
            name,
        });
        self.driver.remove(&back_references.chain(referrers).collect::<Vec<_>>()).await?;
        Ok(true)
    }

    /// The manifest by digest, from any of its records that is whole.
    pub(super) async fn recorded(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<StoredManifest>> {
        // One that is listed and gone a moment later may have been a duplicate, of which a younger one stands.
        for _ in 0..2 {
            let names = self.records(repository, digest).await?;
            for name in &names {
                match self.read_record(repository, digest, *name).await {
                    Ok(Some(manifest)) => return Ok(Some(manifest)),
                    Ok(None) => {}
                    // Another one may be whole.
                    Err(error) => tracing::error!(%error, "a record of a manifest is damaged"),
                }
            }
            if names.is_empty() {
                break;
            }
        }
        Ok(None)
    }

    /// One record, checked against its digest.
    pub(super) async fn read_record(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        name: RecordName,
    ) -> Result<Option<StoredManifest>> {
        let key = record_key(repository, digest, name);
        let Some(bytes) = self.driver.read(&key).await? else { return Ok(None) };
        if !digest.names(&bytes) {
            return Err(StoreError::corrupt(&key, "the bytes have another digest"));
        }
        Ok(Some(StoredManifest { digest: digest.clone(), kind: name.kind, bytes }))
    }

    /// The same, if it is not damaged.
    pub(super) async fn read_whole(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        name: RecordName,
    ) -> Result<Option<StoredManifest>> {
        match self.read_record(repository, digest, name).await {
            Err(error) if error.kind() == StoreErrorKind::Corrupt => Ok(None),
            record => record,
        }
    }

    pub(super) async fn records(&self, repository: &RepositoryName, digest: &Digest) -> Result<Vec<RecordName>> {
        let names = self.driver.list(&Prefix::Records(repository.clone(), digest.clone()), MOST_RECORDS).await?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    pub(super) async fn subject_of(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<Digest>> {
        let stored = self.recorded(repository, digest).await?;
        let manifest = stored.and_then(|stored| Manifest::parse(stored.kind, &stored.bytes).ok());
        Ok(manifest.and_then(|manifest| manifest.subject().map(|subject| subject.digest.clone())))
    }

    /// Puts a manifest by the rely rule: an intent first, which protects what it names from the collector but is not
    /// visible, then the dead, then whether everything is there. A record is visible, so it is only written when it can
    /// stay: somebody else may build on it at once.
    async fn put(&self, put: &Put<'_>) -> PutResult<()> {
        let name = RecordName { record: Ulid::generate(), kind: put.manifest.kind() };
        let entries = self.entries(put).await?;
        let intent = Key::Intent { repository: put.repository.clone(), digest: put.digest.clone(), name };
        self.driver.leave(vec![(intent.clone(), put.bytes.clone())]).await?;
        let done = self.put_intended(put, name, &entries).await;
        if matches!(done, Err(PutManifestError::Store(_))) {
            // Its record may have been written all the same, or may be yet: what that names must be there for as long.
            return done;
        }
        if done.is_ok() && !self.driver.staleness().is_zero() {
            // A collector may not be shown the record yet, and finds what it names by the intent.
            return done;
        }
        // Not before the tags are written: until then it is the intent that keeps the record. One that stays behind keeps
        // its children alive until it is swept, and does no other harm.
        if let Err(error) = self.driver.remove(&[intent]).await {
            tracing::warn!(%error, "an intent was left behind");
        }
        done
    }

    /// The entries of an index that are there before anything is written. Others may be absent; these must not be missed later.
    async fn entries(&self, put: &Put<'_>) -> PutResult<HashSet<Digest>> {
        if !put.manifest.children().iter().any(|child| matches!(child, Child::Entry(_))) {
            return Ok(HashSet::new());
        }
        let found = self.find_children(put, &Dead::default(), &HashSet::new()).await?;
        self.had_no_more(put, &found.entries).await?;
        Ok(found.entries)
    }

    /// Of an index that is put again because it is dead: whether what it lacks now it has always lacked. Its record keeps its
    /// entries, so that holds while that is there; otherwise both may have been collected.
    async fn had_no_more(&self, put: &Put<'_>, entries: &HashSet<Digest>) -> PutResult<()> {
        let Some(source) = put.again else { return Ok(()) };
        let is_absent =
            |child: &&Child| matches!(child, Child::Entry(_)) && !entries.contains(&child.descriptor().digest);
        let absent = put.manifest.children().iter().find(is_absent);
        match absent {
            Some(child) if self.driver.size(&record_key(put.repository, put.digest, source)).await?.is_none() => {
                Err(PutManifestError::ChildUnknown(child.descriptor().digest.clone()))
            }
            _ => Ok(()),
        }
    }

    async fn put_intended(&self, put: &Put<'_>, name: RecordName, entries: &HashSet<Digest>) -> PutResult<()> {
        let relied = loop {
            let dead = self.dead().await?;
            let found = self.find_children(put, &dead, entries).await?;
            // Fresh incarnations were made after the list was read: they are relied on by a list of their own.
            if !found.fresh {
                break found.relied;
            }
        };
        put.deadline.check()?;
        // Before the record: whoever sees a record may take it for as good as an older one, which is listed.
        if let Some(referrer) = put.referrer(name)? {
            self.driver.create(vec![referrer], &[]).await?;
            // One without its record is swept in time.
            put.deadline.check()?;
        }
        let mut values = vec![(record_key(put.repository, put.digest, name), put.bytes.clone())];
        values.extend(put.tags.iter().map(|tag| (put.back_reference(tag, name), Bytes::new())));
        self.driver.create(values, &relied).await?;
        for tag in put.tags {
            put.deadline.check()?;
            self.point(put.repository, tag, put.digest, name).await?;
        }
        Ok(put.deadline.check()?)
    }

    /// Finds every child that must be there, and those that may; gives what is dead a fresh incarnation. `entries` of an
    /// index must be there because they were a moment ago.
    async fn find_children(&self, put: &Put<'_>, dead: &Dead, entries: &HashSet<Digest>) -> PutResult<Found> {
        let mut seen = HashSet::new();
        // A manifest may name one child a hundred thousand times; each is looked for once.
        let mut children = Vec::new();
        for child in put.manifest.children() {
            let descriptor = child.descriptor();
            if seen.insert((&descriptor.digest, descriptor.size, std::mem::discriminant(child))) {
                children.push(self.find_child(put, child, dead, entries));
            }
        }
        let mut finding = futures::stream::iter(children).buffered(CHILDREN_AT_ONCE);
        let mut found = Found::default();
        while let Some(child) = finding.try_next().await? {
            found.add(child);
        }
        Ok(found)
    }

    async fn find_child(
        &self,
        put: &Put<'_>,
        child: &Child,
        dead: &Dead,
        entries: &HashSet<Digest>,
    ) -> PutResult<Found> {
        // On a directory nothing here waits for long enough to let others in.
        tokio::task::yield_now().await;
        let mut found = Found::default();
        let descriptor = child.descriptor();
        let there = match child {
            Child::Blob(_) | Child::ForeignBlob(_) => self.find_blob(put, descriptor, dead, &mut found).await?,
            Child::Entry(_) => {
                self.find_record(put, descriptor, dead, &mut found).await?
                    || self.find_blob(put, descriptor, dead, &mut found).await?
            }
        };
        if there && matches!(child, Child::Entry(_)) {
            found.entries.insert(descriptor.digest.clone());
        }
        if !there && (matches!(child, Child::Blob(_)) || entries.contains(&descriptor.digest)) {
            return Err(PutManifestError::ChildUnknown(descriptor.digest.clone()));
        }
        Ok(found)
    }

    async fn find_blob(
        &self,
        put: &Put<'_>,
        descriptor: &Descriptor,
        dead: &Dead,
        found: &mut Found,
    ) -> PutResult<bool> {
        let links = self.links(put.repository, &descriptor.digest).await?;
        let key = |link: LinkName| link_key(put.repository, &descriptor.digest, link);
        let is_dead = |link: &LinkName| dead.has_link(put.repository, &descriptor.digest, *link);
        let (dying, alive): (Vec<LinkName>, Vec<LinkName>) = links.into_iter().partition(is_dead);
        for link in alive {
            if self.leads_somewhere(link).await? {
                descriptor.has_size(link.size)?;
                found.relied.extend([key(link), Key::Data(link.data)]);
                return Ok(true);
            }
        }
        for link in dying {
            descriptor.has_size(link.size)?;
            if self.fresh_incarnation(put.repository, &descriptor.digest, link).await?.is_some() {
                found.fresh = true;
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn find_record(
        &self,
        put: &Put<'_>,
        descriptor: &Descriptor,
        dead: &Dead,
        found: &mut Found,
    ) -> PutResult<bool> {
        let key = |name: RecordName| record_key(put.repository, &descriptor.digest, name);
        let names = self.records(put.repository, &descriptor.digest).await?;
        let (dying, alive): (Vec<RecordName>, Vec<RecordName>) =
            names.into_iter().partition(|name| dead.contains(&key(*name)));
        for name in alive {
            // One that is damaged is none: another one may be whole.
            if let Some(child) = self.read_whole(put.repository, &descriptor.digest, name).await? {
                descriptor.has_size(child.bytes.len() as u64)?;
                found.relied.push(key(name));
                return Ok(true);
            }
        }
        for name in dying {
            if let Some(child) = self.read_whole(put.repository, &descriptor.digest, name).await?
                && self.record_again(put, child, name).await?
            {
                found.fresh = true;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Gives a dead child a fresh record. Its own children may be in the same batch, so it is put like any other. `false`: it, or
    /// something that it had, is gone.
    fn record_again<'a>(
        &'a self,
        parent: &'a Put<'_>,
        child: StoredManifest,
        source: RecordName,
    ) -> BoxFuture<'a, PutResult<bool>> {
        async move {
            let Ok(manifest) = Manifest::parse(child.kind, &child.bytes) else { return Ok(false) };
            let put = Put {
                repository: parent.repository,
                digest: &child.digest,
                manifest: &manifest,
                bytes: child.bytes,
                tags: &[],
                again: Some(source),
                deadline: parent.deadline,
            };
            match self.put(&put).await {
                Ok(()) => Ok(true),
                // What the child lacks is not what its parent lacks.
                Err(PutManifestError::ChildUnknown(_)) => Ok(false),
                Err(error) => Err(error),
            }
        }
        .boxed()
    }
}

/// A manifest on its way in.
struct Put<'a> {
    repository: &'a RepositoryName,
    digest: &'a Digest,
    manifest: &'a Manifest,
    bytes: Bytes,
    tags: &'a [Tag],
    /// The dead record that this stands for.
    again: Option<RecordName>,
    deadline: Deadline,
}

/// What a manifest relies on.
#[derive(Default)]
struct Found {
    relied: Vec<Key>,
    /// Children of an index that are there.
    entries: HashSet<Digest>,
    /// Something was dead and has a fresh incarnation now.
    fresh: bool,
}

impl Found {
    fn add(&mut self, other: Self) {
        self.relied.extend(other.relied);
        self.entries.extend(other.entries);
        self.fresh |= other.fresh;
    }
}

impl Put<'_> {
    fn referrer(&self, name: RecordName) -> Result<Option<(Key, Bytes)>> {
        referrer_entry(self.repository, self.digest, self.manifest, self.bytes.len(), name.record)
    }

    fn back_reference(&self, tag: &Tag, name: RecordName) -> Key {
        back_reference_key(self.repository, self.digest, tag, name)
    }
}

/// What lists a manifest of `size` bytes by its subject, if it has one.
pub(super) fn referrer_entry(
    repository: &RepositoryName,
    digest: &Digest,
    manifest: &Manifest,
    size: usize,
    record: Ulid,
) -> Result<Option<(Key, Bytes)>> {
    let Some(subject) = manifest.subject() else { return Ok(None) };
    let descriptor = Descriptor {
        media_type: manifest.kind().to_string(),
        digest: digest.clone(),
        size: size as u64,
        artifact_type: manifest.artifact_type().map(str::to_owned),
        annotations: manifest.annotations().cloned(),
    };
    let key = Key::Referrer {
        repository: repository.clone(),
        subject: subject.digest.clone(),
        name: ReferrerName { digest: digest.clone(), record },
    };
    let value = serde_json::to_vec(&descriptor).map_err(|error| StoreError::other(&key, error))?;
    Ok(Some((key, value.into())))
}

/// What lets the tags of a record be found.
pub(super) fn back_reference_key(repository: &RepositoryName, digest: &Digest, tag: &Tag, name: RecordName) -> Key {
    Key::BackReference {
        repository: repository.clone(),
        digest: digest.clone(),
        name: BackReferenceName { tag: tag.clone(), record: name.record },
    }
}

trait HasSize {
    fn has_size(&self, stored: u64) -> PutResult<()>;
}

impl HasSize for Descriptor {
    fn has_size(&self, stored: u64) -> PutResult<()> {
        if self.size == stored {
            return Ok(());
        }
        Err(PutManifestError::ChildSize { digest: self.digest.clone(), described: self.size, stored })
    }
}

pub(super) fn record_key(repository: &RepositoryName, digest: &Digest, name: RecordName) -> Key {
    Key::Record { repository: repository.clone(), digest: digest.clone(), name }
}
