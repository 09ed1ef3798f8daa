//! The first mark: what seems to be garbage. Whatever it finds is only a candidate, so nothing here has to be exact but this:
//! what the second mark does not look at again (the age, and entries of records that are gone) is right.

use std::collections::{HashMap, HashSet};

use berth_oci::{Digest, RepositoryName};
use futures::TryStreamExt;
use ulid::Ulid;

use super::contents::{Digests, Groups, Readable};
use super::tagged::Tagged;
use super::{Candidate, Collection, Linked, Untagged, Why};
use crate::store::blob::link_key;
use crate::store::dead::Dead;
use crate::store::error::Result;
use crate::store::layout::{Key, LinkName, Prefix, RecordName};
use crate::store::manifest::record_key;

/// What the first mark found in a repository.
pub(super) struct Marked {
    pub(super) candidates: Vec<Candidate>,
    /// The records that were read.
    pub(super) known: HashSet<Ulid>,
}

/// What the manifests of a repository name.
#[derive(Default)]
struct Survey {
    /// Digests that records and intents name.
    named: Digests,
    /// Digests that have a record.
    recorded: Digests,
    records: HashSet<Ulid>,
    /// Of records that have one.
    subjects: HashMap<Ulid, Digest>,
    /// Digests with more than one record are there.
    has_duplicates: bool,
    is_damaged: bool,
}

impl Collection<'_> {
    /// Finds the candidates of a repository, and deletes what needs no batch. The data of links that stay goes to `linked`.
    pub(super) async fn mark(
        &mut self,
        repository: &RepositoryName,
        dead: &Dead,
        linked: &mut Linked,
    ) -> Result<Marked> {
        let survey = self.survey(repository).await?;
        let mut candidates = Vec::new();
        if survey.is_damaged {
            if !self.done.left_alone.contains(repository) {
                self.done.left_alone.push(repository.clone());
            }
        } else {
            candidates = self.mark_records(repository, dead, &survey).await?;
            self.remove_entries(repository, &survey).await?;
        }
        self.mark_links(repository, dead, &survey, &mut candidates, linked).await?;
        Ok(Marked { candidates, known: survey.records })
    }

    async fn survey(&self, repository: &RepositoryName) -> Result<Survey> {
        let mut survey = Survey::default();
        {
            let intents = self.store.contents_of_intents(repository);
            futures::pin_mut!(intents);
            while let Some((_, children)) = intents.try_next().await? {
                children.iter().for_each(|child| survey.named.insert(child));
            }
        }
        let records = self.store.contents_of(repository, self.store.scan_records(repository));
        futures::pin_mut!(records);
        let mut last = None;
        while let Some(((digest, name), readable)) = records.try_next().await? {
            if self.gone.contains(&record_key(repository, &digest, name)) {
                continue;
            }
            match readable {
                Readable::Gone => continue,
                Readable::Damaged => {
                    let key = record_key(repository, &digest, name);
                    tracing::error!(%key, "damaged: nothing of its repository is collected, because nobody knows what it names");
                    survey.is_damaged = true;
                }
                Readable::Whole(contents) => {
                    contents.children.iter().for_each(|child| survey.named.insert(child));
                    survey.subjects.extend(contents.subject.map(|subject| (name.record, subject)));
                }
            }
            survey.records.insert(name.record);
            survey.recorded.insert(&digest);
            survey.has_duplicates |= last.as_ref() == Some(&digest);
            last = Some(digest);
        }
        Ok(survey)
    }

    /// Records that stand beside a better one of the same digest and, where such are to go, those that nothing holds.
    async fn mark_records(&self, repository: &RepositoryName, dead: &Dead, survey: &Survey) -> Result<Vec<Candidate>> {
        let untagged_go = self.terms.untagged == Untagged::Delete;
        if !untagged_go && !survey.has_duplicates {
            return Ok(Vec::new());
        }
        let tagged = self.tagged(repository).await?;
        let mut candidates = Vec::new();
        let mut groups = Groups::of(self.store.scan_records(repository));
        while let Some((digest, names)) = groups.next().await? {
            let key = |name: RecordName| record_key(repository, &digest, name);
            let names: Vec<RecordName> = names.into_iter().filter(|name| !self.gone.contains(&key(*name))).collect();
            let keeper = keeper(&names, &tagged, |name| !dead.contains(&key(*name)));
            for name in names.iter().copied() {
                // Where all go, none is kept for the others to be duplicates of.
                let why = if untagged_go && !survey.holds(&digest, name.record) {
                    Why::Untagged
                } else if keeper.is_some_and(|keeper| keeper != name) {
                    Why::Duplicate
                } else {
                    continue;
                };
                if self.is_old(&key(name)) && !tagged.contains(&name.record) && !dead.contains(&key(name)) {
                    let bytes = self.store.driver.size(&key(name)).await?.unwrap_or_default();
                    candidates.push(Candidate { key: key(name), why, bytes });
                }
            }
        }
        self.only_old(candidates).await
    }

    /// Links of digests that no manifest names, and those that stand beside a younger one.
    async fn mark_links(
        &self,
        repository: &RepositoryName,
        dead: &Dead,
        survey: &Survey,
        candidates: &mut Vec<Candidate>,
        linked: &mut Linked,
    ) -> Result<()> {
        let mut found = Vec::new();
        let mut groups = Groups::of(self.store.scan_links(repository));
        while let Some((digest, names)) = groups.next().await? {
            let key = |name: LinkName| link_key(repository, &digest, name);
            let names: Vec<LinkName> = names.into_iter().filter(|name| !self.gone.contains(&key(*name))).collect();
            let keeper = self.keeping_link(&names, |name| !dead.has_link(repository, &digest, *name));
            let keeper = keeper.await?;
            for name in names {
                let why = if !survey.named.contains(&digest) {
                    Why::Unreferenced
                } else if keeper.is_some_and(|keeper| keeper != name) {
                    Why::Duplicate
                } else {
                    linked.add(name.data);
                    continue;
                };
                if survey.is_damaged || !self.is_old(&key(name)) || dead.contains(&key(name)) {
                    linked.add(name.data);
                } else {
                    found.push(Candidate { key: key(name), why, bytes: name.size });
                }
            }
        }
        let data: HashMap<Key, Ulid> =
            found.iter().filter_map(|candidate| Some((candidate.key.clone(), data_of(&candidate.key)?))).collect();
        let old = self.only_old(found).await?;
        let mut young = data;
        for candidate in &old {
            young.remove(&candidate.key);
        }
        young.into_values().for_each(|data| linked.add(data));
        candidates.extend(old);
        Ok(())
    }

    /// Of several links, the youngest that nobody named dead and that leads to its data. `None`: there is no choice.
    async fn keeping_link(&self, names: &[LinkName], lives: impl Fn(&LinkName) -> bool) -> Result<Option<LinkName>> {
        if names.len() < 2 {
            return Ok(None);
        }
        let mut alive: Vec<LinkName> = names.iter().copied().filter(lives).collect();
        alive.sort_unstable_by_key(|name| std::cmp::Reverse(name.link));
        for name in alive {
            if self.store.leads_somewhere(name).await? {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Deletes referrer entries, back-references and tags whose record is gone. A record that is gone never comes back, so they
    /// need no batch; a young one may still be waiting for its record.
    async fn remove_entries(&mut self, repository: &RepositoryName, survey: &Survey) -> Result<()> {
        let mut found = Vec::new();
        for prefix in [Prefix::Subjects(repository.clone()), Prefix::BackReferencedDigests(repository.clone())] {
            let keys = self.store.scan(&prefix, Some);
            futures::pin_mut!(keys);
            while let Some(key) = keys.try_next().await? {
                let is_kept = key.ulid().is_none_or(|record| survey.records.contains(&record));
                if !is_kept && self.is_old(&key) && !self.gone.contains(&key) {
                    found.push(Candidate { key, why: Why::OfNothing, bytes: 0 });
                }
            }
        }
        let found = self.only_old(found).await?;
        if !self.terms.dry_run {
            let keys: Vec<Key> = found.iter().map(|candidate| candidate.key.clone()).collect();
            for key in &keys {
                if let Key::BackReference { repository, digest, name } = key {
                    self.store.untag(repository, digest, name).await?;
                }
            }
            for some in keys.chunks(super::REMOVED_AT_ONCE) {
                self.store.driver.remove(some).await?;
            }
        }
        self.count(found, 0);
        Ok(())
    }

    /// Data that no link leads to.
    pub(super) async fn mark_data(&self, dead: &Dead, linked: &Linked) -> Result<Vec<Candidate>> {
        let mut found = Vec::new();
        let all = self.store.scan(&Prefix::DataShards, |key| match key {
            Key::Data(data) => Some(data),
            _ => None,
        });
        futures::pin_mut!(all);
        while let Some(data) = all.try_next().await? {
            let key = Key::Data(data);
            if !linked.contains(data) && self.is_old(&key) && !dead.contains(&key) && !self.gone.contains(&key) {
                let bytes = self.store.driver.size(&key).await?.unwrap_or_default();
                found.push(Candidate { key, why: Why::Unlinked, bytes });
            }
        }
        self.only_old(found).await
    }
}

impl Survey {
    /// Whether an index holds a record, or a subject that is there.
    fn holds(&self, digest: &Digest, record: Ulid) -> bool {
        let has_subject = self.subjects.get(&record).is_some_and(|subject| self.recorded.contains(subject));
        self.named.contains(digest) || has_subject
    }
}

/// Of several records of one digest that nobody named dead, the one to keep: one that a tag names, else the youngest.
fn keeper(names: &[RecordName], tagged: &Tagged, lives: impl Fn(&RecordName) -> bool) -> Option<RecordName> {
    if names.len() < 2 {
        return None;
    }
    names.iter().copied().filter(lives).max_by_key(|name| (tagged.contains(&name.record), name.record))
}

const fn data_of(key: &Key) -> Option<Ulid> {
    match key {
        Key::Link { name, .. } => Some(name.data),
        _ => None,
    }
}
