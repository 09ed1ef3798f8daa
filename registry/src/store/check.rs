//! Whether what is stored is what it should be: the invariants of `docs/storage.md`, looked at from outside, and without changing
//! anything unless one wants it mended (`mend`). It may run beside serving replicas; what they write meanwhile may be missed but
//! is not called broken.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::time::{Duration, SystemTime};

use berth_oci::{Child, Digest, Hasher, Manifest, RepositoryName, Tag};
use futures::StreamExt;
use ulid::Ulid;

use super::Store;
use super::blob::link_key;
use super::error::{Result, StoreError};
use super::layout::{Key, LinkName, Prefix, RecordName, ReferrerName, decode};
use super::manifest::{back_reference_key, record_key};

mod mend;

/// Something that a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The key that it is about.
    pub key: String,
    /// What is the matter.
    pub what: String,
    /// Whether it was the matter, and is no longer.
    pub mended: bool,
}

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Left over and of no consequence; it is removed in time.
    Leftover,
    /// Invariant I6: an upload that outlived its time.
    Overdue,
    /// Invariant I1: a manifest cannot be read, or something that it points at is not there.
    Incomplete,
    /// Invariant I4: bytes are not what their digest says.
    Corrupt,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Repositories.
    pub repositories: u64,
    /// Records of manifests.
    pub manifests: u64,
    /// Tags.
    pub tags: u64,
    /// Blobs whose bytes were read and hashed.
    pub blobs: u64,
    /// The size of those, in bytes.
    pub bytes: u64,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mended = if self.mended { "; mended" } else { "" };
        write!(f, "{}: {}: {}{mended}", self.severity, self.key, self.what)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Leftover => "leftover",
            Self::Overdue => "overdue (I6)",
            Self::Incomplete => "incomplete (I1)",
            Self::Corrupt => "corrupt (I4)",
        })
    }
}

impl Store {
    /// Looks at everything and reports what is not as it should be. With `mends`, writes what can be derived from the rest.
    ///
    /// # Errors
    /// When storage fails.
    pub async fn check(&self, mends: bool, report: &mut (dyn FnMut(Finding) + Send)) -> Result<Checked> {
        let mut check = Check {
            store: self,
            mends,
            report,
            checked: Checked::default(),
            seen: HashSet::new(),
            unsound: HashSet::new(),
            damaged: Vec::new(),
        };
        for repository in check.names::<Repository>(&Prefix::Repositories).await? {
            check.repository(&repository.0).await?;
        }
        check.damaged().await?;
        check.orphans().await?;
        check.uploads().await?;
        Ok(check.checked)
    }
}

/// A repository's name, as it stands in keys.
struct Repository(RepositoryName);

impl std::str::FromStr for Repository {
    type Err = super::layout::UnknownName;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        decode(text).map(Self)
    }
}

struct Check<'a> {
    store: &'a Store,
    mends: bool,
    report: &'a mut (dyn FnMut(Finding) + Send),
    checked: Checked,
    /// Data that some link leads to.
    seen: HashSet<Ulid>,
    /// Of it what is not what its digest says.
    unsound: HashSet<Ulid>,
    /// The links that lead there.
    damaged: Vec<Damaged>,
}

/// A link to bytes that are not what its digest says.
struct Damaged {
    repository: RepositoryName,
    digest: Digest,
    link: LinkName,
}

/// What was written so recently that the request which writes it may not be done.
const UNFINISHED: Duration = Duration::from_hours(1);

impl Check<'_> {
    async fn repository(&mut self, repository: &RepositoryName) -> Result<()> {
        self.checked.repositories += 1;
        let mut whole = BTreeSet::new();
        for digest in self.names(&Prefix::LinkedDigests(repository.clone())).await? {
            if self.links(repository, &digest).await? {
                whole.insert(digest);
            }
        }
        let mut recorded = BTreeSet::new();
        for digest in self.names::<Digest>(&Prefix::RecordedDigests(repository.clone())).await? {
            for name in self.names(&Prefix::Records(repository.clone(), digest.clone())).await? {
                self.record(repository, &digest, name, &whole).await?;
            }
            recorded.insert(digest);
        }
        self.intents(repository).await?;
        self.tags(repository).await
    }

    /// Whether a digest can be read from this repository.
    async fn links(&mut self, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        let mut readable = false;
        for name in self.names::<LinkName>(&Prefix::Links(repository.clone(), digest.clone())).await? {
            let first_time = self.seen.insert(name.data);
            let key = link_key(repository, digest, name);
            match self.store.driver.open(&Key::Data(name.data), 0..name.size).await? {
                Some(content) if content.size() == name.size => {
                    readable = true;
                    // Data of one ULID has one digest, so it is read once however many repositories link it.
                    if first_time && !self.has_digest(content, digest).await? {
                        self.unsound.insert(name.data);
                    }
                    if self.unsound.contains(&name.data) {
                        let (repository, digest) = (repository.clone(), digest.clone());
                        self.damaged.push(Damaged { repository, digest, link: name });
                    }
                }
                Some(content) => {
                    let what = format!("leads to {} bytes, not {}", content.size(), name.size);
                    self.found_unless_young(Severity::Corrupt, &key, &what);
                }
                None => self.found_unless_young(Severity::Leftover, &key, "leads to data that is gone"),
            }
        }
        Ok(readable)
    }

    async fn has_digest(&mut self, content: super::driver::Content, digest: &Digest) -> Result<bool> {
        let size = content.size();
        self.checked.blobs += 1;
        self.checked.bytes += size;
        let mut hasher = Hasher::new(digest.algorithm());
        let mut stream = content.stream();
        while let Some(piece) = stream.next().await {
            hasher.update(&piece.map_err(|error| StoreError::io(format!("read {digest}"), error))?);
        }
        Ok(hasher.finish() == *digest)
    }

    async fn record(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        name: RecordName,
        blobs: &BTreeSet<Digest>,
    ) -> Result<()> {
        self.checked.manifests += 1;
        let key = record_key(repository, digest, name);
        let stored = match self.store.read_record(repository, digest, name).await {
            Ok(Some(stored)) => stored,
            Ok(None) => return Ok(()),
            Err(error) => {
                self.found_unless_young(Severity::Corrupt, &key, &error.to_string());
                return Ok(());
            }
        };
        let manifest = match Manifest::parse(name.kind, &stored.bytes) {
            Ok(manifest) => manifest,
            Err(error) => {
                self.found(Severity::Corrupt, &key, error.to_string());
                return Ok(());
            }
        };
        for child in manifest.children() {
            let digest = &child.descriptor().digest;
            // Foreign blobs and entries of a sparse index may never have been here.
            if matches!(child, Child::Blob(_)) && !blobs.contains(digest) {
                let what = format!("{digest} is not in the repository (unless a client deleted it, it was lost)");
                self.found(Severity::Incomplete, &key, what);
            }
        }
        if let Some(subject) = manifest.subject() {
            let referrer = ReferrerName { digest: stored.digest.clone(), record: name.record };
            let subject = subject.digest.clone();
            let entry = Key::Referrer { repository: repository.clone(), subject, name: referrer };
            // The record is looked at once more: it may have been deleted meanwhile, and its entry with it.
            if self.store.driver.size(&entry).await?.is_none()
                && is_finished(&entry)
                && self.store.driver.size(&key).await?.is_some()
            {
                let size = stored.bytes.len();
                let mended = self.mend_referrer(repository, &stored.digest, name, &manifest, size).await?;
                let what = "the record is there but not listed by its subject";
                self.found_or_mended(Severity::Incomplete, &entry, what, mended);
            }
        }
        Ok(())
    }

    async fn tags(&mut self, repository: &RepositoryName) -> Result<()> {
        for tag in self.names(&Prefix::Tags(repository.clone())).await? {
            self.checked.tags += 1;
            match self.store.tagged(repository, &tag).await {
                Ok(Some(_)) => self.back_reference(repository, &tag).await?,
                Ok(None) => {
                    let key = Key::Tag { repository: repository.clone(), tag };
                    self.found(Severity::Leftover, &key, "its manifest was deleted");
                }
                Err(error) => {
                    let key = Key::Tag { repository: repository.clone(), tag };
                    self.found(Severity::Corrupt, &key, error.to_string());
                }
            }
        }
        Ok(())
    }

    /// Without it a deletion by digest leaves the tag.
    async fn back_reference(&mut self, repository: &RepositoryName, tag: &Tag) -> Result<()> {
        let named = self.store.named_by(repository, tag).await?;
        let Some((digest, record)) = &named else { return Ok(()) };
        let back_reference = back_reference_key(repository, digest, tag, *record);
        // The tag is looked at once more: it may have been deleted or moved meanwhile.
        if self.store.driver.size(&back_reference).await?.is_none()
            && self.store.named_by(repository, tag).await? == named
        {
            let mended = self.mend_back_reference(back_reference.clone()).await?;
            let what = "a deletion by digest would not find the tag";
            self.found_or_mended(Severity::Incomplete, &back_reference, what, mended);
        }
        Ok(())
    }

    async fn damaged(&mut self) -> Result<()> {
        for damaged in std::mem::take(&mut self.damaged) {
            let mended = self.mend_blob(&damaged).await?;
            let what = format!("its bytes are not {}, in {}", damaged.digest, damaged.repository);
            self.found_or_mended(Severity::Corrupt, &Key::Data(damaged.link.data), &what, mended);
        }
        Ok(())
    }

    async fn intents(&mut self, repository: &RepositoryName) -> Result<()> {
        for digest in self.names::<Digest>(&Prefix::IntendedDigests(repository.clone())).await? {
            for name in self.names(&Prefix::Intents(repository.clone(), digest.clone())).await? {
                let key = Key::Intent { repository: repository.clone(), digest: digest.clone(), name };
                self.found_unless_young(Severity::Leftover, &key, "its request did not end");
            }
        }
        Ok(())
    }

    async fn orphans(&mut self) -> Result<()> {
        for shard in self.store.driver.list(&Prefix::DataShards, usize::MAX).await? {
            let Ok(shard) = u8::from_str_radix(&shard, 16) else { continue };
            for data in self.names::<Ulid>(&Prefix::DataShard(shard)).await? {
                if !self.seen.contains(&data) {
                    self.found_unless_young(Severity::Leftover, &Key::Data(data), "no repository links it");
                }
            }
        }
        Ok(())
    }

    async fn uploads(&mut self) -> Result<()> {
        for upload in self.names::<Ulid>(&Prefix::Uploads).await? {
            let limit = self.store.upload_age + super::sweep::SWEPT_WITHIN;
            if SystemTime::now().duration_since(upload.datetime()).is_ok_and(|age| age > limit) {
                self.found(Severity::Overdue, &Prefix::Upload(upload), "it began longer ago than uploads may take");
            }
        }
        Ok(())
    }

    /// The names below a prefix; those that are not ours are reported.
    async fn names<T: std::str::FromStr>(&mut self, prefix: &Prefix) -> Result<Vec<T>> {
        let mut names = Vec::new();
        for name in self.store.driver.list(prefix, usize::MAX).await? {
            match name.parse() {
                Ok(name) => names.push(name),
                Err(_) => self.found(Severity::Leftover, &format_args!("{prefix}/{name}"), "not a name that we give"),
            }
        }
        Ok(names)
    }

    fn found(&mut self, severity: Severity, key: &dyn fmt::Display, what: impl Into<String>) {
        (self.report)(Finding { severity, key: key.to_string(), what: what.into(), mended: false });
    }

    fn found_or_mended(&mut self, severity: Severity, key: &Key, what: &str, mended: bool) {
        (self.report)(Finding { severity, key: key.to_string(), what: what.into(), mended });
    }

    /// For what a request under way may be about to complete.
    fn found_unless_young(&mut self, severity: Severity, key: &Key, what: &str) {
        if is_finished(key) {
            self.found(severity, key, what);
        }
    }
}

/// Whether no request is about to complete it.
fn is_finished(key: &Key) -> bool {
    let age = key.ulid().and_then(|ulid| SystemTime::now().duration_since(ulid.datetime()).ok());
    age.is_none_or(|age| age > UNFINISHED)
}
