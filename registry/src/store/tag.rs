//! Tags: the only keys that are overwritten.
//!
//! A tag's value names a digest and the very record that was written with it. A tag whose record is gone is absent, and
//! stays absent when the same manifest is pushed again: that makes another record.

use berth_oci::{Digest, ManifestKind, RepositoryName, Tag};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::error::{Result, StoreError};
use super::layout::{BackReferenceName, Key, Prefix, RecordName};
use super::manifest::record_key;
use super::{Page, Store, StoredManifest};

/// What is stored under a tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TagValue {
    digest: Digest,
    media_type: String,
    /// The record's ULID.
    record: String,
    /// Unlike any other write of this tag.
    write: String,
}

/// Tries at a tag that changes while it is looked at. Each needs another writer at that very moment.
const MOST_TRIES: usize = 16;

impl Store {
    /// Deletes a tag and leaves its manifest. `false`: it was not there.
    ///
    /// # Errors
    /// When storage fails.
    pub async fn delete_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<bool> {
        let key = tag_key(repository, tag);
        for _ in 0..MOST_TRIES {
            let Some(value) = self.read_tag(&key).await? else { return Ok(false) };
            if self.driver.remove_tag_if(&key, &value).await? {
                return Ok(true);
            }
        }
        Err(StoreError::other(format!("remove {key}"), "it is written over faster than it can be removed"))
    }

    /// A page of the repository's tags, in bytewise order. `None`: there is no such repository.
    ///
    /// # Errors
    /// When storage fails.
    pub async fn tags(
        &self,
        repository: &RepositoryName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Page<Tag>>> {
        let page = self.driver.page(&Prefix::Tags(repository.clone()), after, limit).await?;
        if page.items.is_empty() && !self.exists(repository).await? {
            return Ok(None);
        }
        let items = page.items.iter().filter_map(|name| name.parse().ok()).collect();
        Ok(Some(Page { items, more: page.more }))
    }

    /// Points a tag at a record that is durable.
    pub(super) async fn point(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        digest: &Digest,
        name: RecordName,
    ) -> Result<()> {
        let key = tag_key(repository, tag);
        let value = TagValue {
            digest: digest.clone(),
            media_type: name.kind.to_string(),
            record: name.record.to_string(),
            write: Ulid::generate().to_string(),
        };
        let bytes = serde_json::to_vec(&value).map_err(|error| StoreError::other(&key, error))?;
        self.driver.replace(&key, bytes.into()).await
    }

    /// The manifest that a tag names.
    pub(super) async fn tagged(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<StoredManifest>> {
        let key = tag_key(repository, tag);
        let mut last = None;
        for _ in 0..MOST_TRIES {
            let Some(bytes) = self.read_tag(&key).await? else { return Ok(None) };
            let (digest, name) = parse(&key, &bytes)?;
            if let Some(manifest) = self.read_record(repository, &digest, name).await? {
                return Ok(Some(manifest));
            }
            // Deleted, or the tag has moved on between the two reads: then the new value is the answer.
            if last.as_ref() == Some(&bytes) {
                return Ok(None);
            }
            last = Some(bytes);
        }
        Err(StoreError::other(format!("read {key}"), "it changes faster than it can be read"))
    }

    /// The record that a tag names, whether it is there or not.
    pub(super) async fn named_by(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
    ) -> Result<Option<(Digest, RecordName)>> {
        let key = tag_key(repository, tag);
        self.read_tag(&key).await?.map(|bytes| parse(&key, &bytes)).transpose()
    }

    /// The tags that were ever pointed at a digest, each with the record that it was pointed at.
    pub(super) async fn back_references(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Vec<BackReferenceName>> {
        let names = self.driver.list(&Prefix::BackReferences(repository.clone(), digest.clone()), usize::MAX).await?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Removes a tag if it still names that record.
    pub(super) async fn untag(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        back_reference: &BackReferenceName,
    ) -> Result<()> {
        let key = tag_key(repository, &back_reference.tag);
        for _ in 0..MOST_TRIES {
            let Some(bytes) = self.read_tag(&key).await? else { return Ok(()) };
            let (named, name) = parse(&key, &bytes)?;
            let has_moved_on = named != *digest || name.record != back_reference.record;
            if has_moved_on || self.driver.remove_tag_if(&key, &bytes).await? {
                return Ok(());
            }
        }
        Err(StoreError::other(format!("remove {key}"), "it is written over faster than it can be removed"))
    }

    async fn read_tag(&self, key: &Key) -> Result<Option<Bytes>> {
        // On object stores an empty value is a tag that was removed.
        Ok(self.driver.read(key).await?.filter(|value| !value.is_empty()))
    }

    /// Whether anything was ever pushed to the repository and not all deleted since.
    async fn exists(&self, repository: &RepositoryName) -> Result<bool> {
        let records = self.driver.list(&Prefix::RecordedDigests(repository.clone()), 1).await?;
        if !records.is_empty() {
            return Ok(true);
        }
        Ok(!self.driver.list(&Prefix::LinkedDigests(repository.clone()), 1).await?.is_empty())
    }

    /// Whether a record is there; for entries that are only worth something together with it.
    pub(super) async fn has_record(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        name: RecordName,
    ) -> Result<bool> {
        Ok(self.driver.size(&record_key(repository, digest, name)).await?.is_some())
    }
}

fn parse(key: &Key, bytes: &[u8]) -> Result<(Digest, RecordName)> {
    let value: TagValue = serde_json::from_slice(bytes).map_err(|_| StoreError::corrupt(key, "not a tag's value"))?;
    let record = value.record.parse().map_err(|_| StoreError::corrupt(key, "not a tag's value"))?;
    let kind = ManifestKind::of_media_type(&value.media_type);
    let kind = kind.ok_or_else(|| StoreError::corrupt(key, "a media type that is no manifest's"))?;
    Ok((value.digest, RecordName { record, kind }))
}

fn tag_key(repository: &RepositoryName, tag: &Tag) -> Key {
    Key::Tag { repository: repository.clone(), tag: tag.clone() }
}
