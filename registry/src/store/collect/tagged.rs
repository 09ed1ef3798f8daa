//! Which records the tags of a repository name, without reading each tag.
//!
//! A tag is written after its back-reference, which stays as long as its record. So a tag to which one back-reference leads
//! names that record, or one that was written since or that is gone; only where several lead to it, or none, it is read.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use berth_oci::{Digest, RepositoryName, Tag};
use futures::TryStreamExt;
use ulid::Ulid;

use super::{Collection, PARALLEL};
use crate::store::error::Result;
use crate::store::layout::{Key, Prefix};

/// The records that tags name.
pub(super) type Tagged = HashSet<Ulid>;

/// The record that back-references to one tag lead to.
enum LeadsTo {
    One(Ulid),
    Several,
}

impl Collection<'_> {
    pub(super) async fn tagged(&self, repository: &RepositoryName) -> Result<Tagged> {
        let hasher = RandomState::new();
        let mut references: HashMap<u64, LeadsTo> = HashMap::new();
        let names = self.store.scan(&Prefix::BackReferencedDigests(repository.clone()), |key| match key {
            Key::BackReference { name, .. } => Some(name),
            _ => None,
        });
        futures::pin_mut!(names);
        while let Some(name) = names.try_next().await? {
            references
                .entry(hasher.hash_one(&name.tag))
                .and_modify(|leads| *leads = LeadsTo::Several)
                .or_insert(LeadsTo::One(name.record));
        }
        let tags = self.store.scan(&Prefix::Tags(repository.clone()), |key| match key {
            Key::Tag { tag, .. } => Some(tag),
            _ => None,
        });
        let record = |tag: Tag| {
            let known = match references.get(&hasher.hash_one(&tag)) {
                Some(LeadsTo::One(record)) => Some(*record),
                Some(LeadsTo::Several) | None => None,
            };
            async move {
                match known {
                    Some(record) => Ok(Some(record)),
                    None => Ok(self.store.named_by(repository, &tag).await?.map(|(_, name)| name.record)),
                }
            }
        };
        let records = tags.map_ok(record).try_buffered(PARALLEL);
        records.try_filter_map(|record| futures::future::ready(Ok(record))).try_collect().await
    }

    /// Whether a tag names this very record now.
    pub(super) async fn is_tagged(&self, repository: &RepositoryName, digest: &Digest, record: Ulid) -> Result<bool> {
        for reference in self.store.back_references(repository, digest).await? {
            if reference.record == record
                && let Some((_, named)) = self.store.named_by(repository, &reference.tag).await?
                && named.record == record
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
