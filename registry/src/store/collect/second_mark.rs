//! The second mark: what is garbage still, now that nobody relies on it any more.
//!
//! The lists are read in this order: the dead, the duplicates, and for each repository intents, records, tags; for data, links. An
//! intent turns into a record and then into a tagged record, so whichever way a reference moves, one of the lists shows it.

use std::collections::{HashMap, HashSet};

use berth_oci::RepositoryName;
use futures::TryStreamExt;
use ulid::Ulid;

use super::contents::{Digests, Readable};
use super::{Candidate, Collection, Round, Untagged, Why};
use crate::store::dead::Dead;
use crate::store::error::Result;
use crate::store::layout::Key;
use crate::store::manifest::record_key;

/// What was seen in one repository.
#[derive(Default)]
struct Seen {
    /// Records that a request at work is about to write or to tag.
    intended: HashSet<Ulid>,
    /// Digests that intents and records name.
    named: Digests,
    /// Digests that have a record.
    recorded: Digests,
    is_damaged: bool,
}

impl Collection<'_> {
    /// Takes out of the round what something refers to, and says what that is.
    pub(super) async fn mark_again(&self, round: &mut Round) -> Result<HashSet<Key>> {
        let dead = self.store.dead().await?;
        let mut redundant = HashSet::new();
        for Candidate { key, why, .. } in &round.candidates {
            if matches!(why, Why::Duplicate | Why::LeftOver) && self.has_keeper(key, &dead).await? {
                redundant.insert(key.clone());
            }
        }
        let mut by_repository: HashMap<RepositoryName, Vec<Candidate>> = HashMap::new();
        for candidate in std::mem::take(&mut round.candidates) {
            let (Key::Record { repository, .. } | Key::Link { repository, .. }) = &candidate.key else { continue };
            by_repository.entry(repository.clone()).or_default().push(candidate);
        }
        let mut spared = HashSet::new();
        for (repository, candidates) in by_repository {
            let known = round.known.remove(&repository).unwrap_or_default();
            let seen = self.look_again(&repository, &known).await?;
            for candidate in candidates {
                if self.is_kept(&candidate, &redundant, &seen).await? {
                    spared.insert(candidate.key);
                } else {
                    round.candidates.push(candidate);
                }
            }
        }
        Ok(spared)
    }

    /// Whether another one of the same digest stands for it, which no batch names: this list of the batches came after the own
    /// one, so two collections cannot each delete what the other one keeps.
    async fn has_keeper(&self, key: &Key, dead: &Dead) -> Result<bool> {
        match key {
            Key::Link { repository, digest, name } => {
                for other in self.store.links(repository, digest).await? {
                    let is_dead = dead.has_link(repository, digest, other);
                    if other != *name && !is_dead && self.store.leads_somewhere(other).await? {
                        return Ok(true);
                    }
                }
            }
            Key::Record { repository, digest, name } => {
                for other in self.store.records(repository, digest).await? {
                    let is_dead = dead.contains(&record_key(repository, digest, other));
                    if other != *name && !is_dead && self.store.read_whole(repository, digest, other).await?.is_some() {
                        return Ok(true);
                    }
                }
            }
            _ => {}
        }
        Ok(false)
    }

    async fn look_again(&self, repository: &RepositoryName, known: &HashSet<Ulid>) -> Result<Seen> {
        let mut seen = Seen::default();
        {
            let intents = self.store.contents_of_intents(repository);
            futures::pin_mut!(intents);
            while let Some((record, children)) = intents.try_next().await? {
                seen.intended.insert(record);
                children.iter().for_each(|child| seen.named.insert(child));
            }
        }
        let mut new = Vec::new();
        let mut records = self.store.scan_records(repository);
        while let Some((digest, name)) = records.try_next().await? {
            seen.recorded.insert(&digest);
            if !known.contains(&name.record) {
                new.push(Ok((digest, name)));
            }
        }
        let new = self.store.contents_of(repository, futures::stream::iter(new));
        futures::pin_mut!(new);
        while let Some((_, readable)) = new.try_next().await? {
            seen.add(&readable);
        }
        Ok(seen)
    }

    async fn is_kept(&self, candidate: &Candidate, redundant: &HashSet<Key>, seen: &Seen) -> Result<bool> {
        let is_redundant = redundant.contains(&candidate.key);
        if seen.is_damaged || (candidate.why == Why::Duplicate && !is_redundant) {
            return Ok(true);
        }
        Ok(match &candidate.key {
            Key::Link { digest, .. } => !is_redundant && seen.named.contains(digest),
            Key::Record { repository, digest, name } => {
                let is_held = async {
                    let untagged_stay = self.terms.untagged == Untagged::Keep;
                    let subject = self.store.subject_of(repository, digest).await?;
                    let has_subject = subject.is_some_and(|subject| seen.recorded.contains(&subject));
                    Ok(untagged_stay || has_subject || seen.named.contains(digest))
                };
                seen.intended.contains(&name.record)
                    || (!is_redundant && is_held.await?)
                    || self.is_tagged(repository, digest, name.record).await?
            }
            _ => true,
        })
    }

    /// Takes out what a link leads to, and says what that is.
    pub(super) async fn mark_data_again(&self, candidates: &mut Vec<Candidate>) -> Result<HashSet<Key>> {
        let named: HashSet<Ulid> = candidates.iter().filter_map(|candidate| data_of(&candidate.key)).collect();
        let mut linked = HashSet::new();
        for repository in self.repositories().await? {
            let links = self.store.scan_links(&repository);
            futures::pin_mut!(links);
            while let Some((_, link)) = links.try_next().await? {
                if named.contains(&link.data) {
                    linked.insert(Key::Data(link.data));
                }
            }
        }
        candidates.retain(|candidate| !linked.contains(&candidate.key));
        Ok(linked)
    }
}

impl Seen {
    fn add(&mut self, readable: &Readable) {
        match readable {
            Readable::Whole(contents) => contents.children.iter().for_each(|child| self.named.insert(child)),
            Readable::Damaged => self.is_damaged = true,
            Readable::Gone => {}
        }
    }
}

const fn data_of(key: &Key) -> Option<Ulid> {
    match key {
        Key::Data(data) => Some(*data),
        _ => None,
    }
}
