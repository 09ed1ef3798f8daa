//! The collector: finds what nothing refers to any more and deletes it, beside everything else that goes on.
//!
//! `docs/storage.md` has the steps and why they are safe; each has here the name that it has there and in the model. In one
//! line: name what seems to be garbage in a batch of the dead, on which nobody relies from then on, look again, and delete
//! what is garbage still. Any number of collectors may run at once, and each may die anywhere.
//!
//! Rooms: `contents` (what manifests name), `tagged` (which records tags name), `first_mark`, `second_mark`, `leftovers` (batches
//! that an earlier run did not finish), `runs` (when, and what came of it).

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::SystemTime;

use berth_oci::RepositoryName;
use futures::{StreamExt, TryStreamExt};
use ulid::Ulid;

use berth_contract::config::Untagged;

use super::Store;
use super::dead::{self, Dead};
use super::error::{Result, StoreErrorKind};
use super::layout::{Key, Prefix, decode};

mod contents;
mod first_mark;
mod leftovers;
mod runs;
mod second_mark;
mod tagged;

pub use runs::LastCollection;

/// What a collection may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What goes of manifests that no tag names.
    pub untagged: Untagged,
    /// Only say what would go.
    pub dry_run: bool,
}

/// Something that was deleted, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Garbage {
    /// Its key.
    pub key: String,
    /// Why it goes.
    pub why: Why,
    /// How many bytes it holds.
    pub bytes: u64,
}

/// Why something is garbage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Another one of the same digest stands beside it.
    Duplicate,
    /// A manifest that nothing names, where such are to go.
    Untagged,
    /// A blob that no manifest of its repository names.
    Unreferenced,
    /// Bytes that no repository links.
    Unlinked,
    /// It belongs to a manifest that is gone.
    OfNothing,
    /// An earlier collection named it and did not finish.
    LeftOver,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Duplicate => "the same is there once more",
            Self::Untagged => "no tag, no index and no subject holds it",
            Self::Unreferenced => "no manifest of the repository names it",
            Self::Unlinked => "no repository links it",
            Self::OfNothing => "its manifest is gone",
            Self::LeftOver => "an earlier collection did not finish",
        })
    }
}

/// What a collection did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Repositories that were looked at.
    pub repositories: u64,
    /// Repositories of which nothing was taken because they hold a damaged manifest: nobody knows what it names.
    pub left_alone: Vec<RepositoryName>,
    /// Records of manifests.
    pub manifests: u64,
    /// Memberships of blobs in repositories.
    pub links: u64,
    /// Blobs.
    pub blobs: u64,
    /// The bytes of manifests and blobs.
    pub bytes: u64,
    /// Entries and tags of manifests that are gone.
    pub entries: u64,
    /// What was named dead and referred to again before it was deleted.
    pub spared: u64,
}

impl Collected {
    /// Whether nothing was deleted.
    pub const fn is_nothing(&self) -> bool {
        self.manifests == 0 && self.links == 0 && self.blobs == 0 && self.entries == 0
    }
}

/// What a collection says while it is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It has looked at so many repositories of so many. It may look at all of them once more.
    Marked {
        /// So many.
        repositories: usize,
        /// Of so many.
        of: usize,
    },
    /// It deleted something, or would.
    Garbage(Garbage),
}

/// Whom a collection tells.
pub type Tell<'a> = &'a mut (dyn FnMut(Told) + Send + Sync);

impl Store {
    /// Deletes what nothing refers to any more and what is older than the grace, and leaves for all replicas when it was and
    /// what came of it.
    ///
    /// # Errors
    /// When storage fails. What was deleted before stays deleted; the next collection goes on.
    pub async fn collect(&self, terms: Terms, tell: Tell<'_>) -> Result<Collected> {
        let (run, now) = self.begin_run().await?;
        let mut collected = Collection::new(self, terms, now, tell).run().await;
        for _ in 0..MOST_TIMES_FULL {
            if !matches!(&collected, Err(error) if error.kind() == StoreErrorKind::Full) {
                break;
            }
            // What the batches name that found room goes first, and makes room for the rest.
            collected = Collection::new(self, terms, now, tell).run().await;
        }
        self.end_run(run, terms.dry_run, &collected).await?;
        collected
    }

    /// Tells what a collection would delete, and writes nothing at all.
    ///
    /// # Errors
    /// When storage fails.
    pub async fn look_for_garbage(&self, untagged: Untagged, tell: Tell<'_>) -> Result<Collected> {
        Collection::new(self, Terms { untagged, dry_run: true }, SystemTime::now(), tell).run().await
    }
}

/// Candidates that a round takes at a time, which bounds what a collection keeps in memory and what pushers have to read.
const ROUND: usize = 50_000;
/// Records whose names a round remembers: 32 MiB of them.
const MOST_KNOWN: usize = 1_000_000;
/// Keys that one batch names.
const BATCH: usize = 10_000;
/// Between batch and second mark: until pushers see the batch, and until the collector sees what they wrote before they did.
const WAITS_TO_MARK_AGAIN: u32 = 2;
/// Between the deletion and the end of the batch: until nobody is shown any more what was deleted.
const WAITS_TO_RETIRE: u32 = 1;
/// How often a collection begins again because there was no room for all that it had to write.
const MOST_TIMES_FULL: usize = 8;
/// Keys that are removed at a time.
pub(super) const REMOVED_AT_ONCE: usize = 1000;
/// Requests that are under way at the same time.
const PARALLEL: usize = 16;

/// A collection under way.
struct Collection<'a> {
    store: &'a Store,
    terms: Terms,
    /// By the clock of the place where things are stored.
    now: SystemTime,
    tell: Tell<'a>,
    done: Collected,
    /// What a dry run takes to be deleted.
    gone: HashSet<Key>,
}

/// Something that seems to be garbage.
#[derive(Clone, Debug)]
struct Candidate {
    key: Key,
    why: Why,
    bytes: u64,
}

/// Records and links that go through batch, second mark and deletion together.
#[derive(Default)]
struct Round {
    candidates: Vec<Candidate>,
    /// The records that the first mark has read, by repository: they name none of the candidates, and records do not change.
    known: HashMap<RepositoryName, HashSet<Ulid>>,
    most_known: usize,
}

impl Round {
    fn is_full(&self) -> bool {
        self.candidates.len() >= ROUND || self.most_known >= MOST_KNOWN
    }

    fn add(&mut self, repository: &RepositoryName, candidates: Vec<Candidate>, known: HashSet<Ulid>) {
        if !candidates.is_empty() {
            self.candidates.extend(candidates);
            self.most_known += known.len();
            self.known.insert(repository.clone(), known);
        }
    }
}

/// The data that links lead to. A fingerprint in the place of another keeps garbage until the next collection.
#[derive(Default)]
struct Linked(Vec<u64>);

impl Linked {
    fn add(&mut self, data: Ulid) {
        self.0.push(fingerprint(data));
    }

    fn sort(&mut self) {
        self.0.sort_unstable();
        self.0.dedup();
    }

    fn contains(&self, data: Ulid) -> bool {
        self.0.binary_search(&fingerprint(data)).is_ok()
    }
}

/// 64 of a ULID's 80 random bits.
const fn fingerprint(ulid: Ulid) -> u64 {
    let [_, _, _, _, _, _, _, _, a, b, c, d, e, f, g, h] = ulid.to_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

impl<'a> Collection<'a> {
    fn new(store: &'a Store, terms: Terms, now: SystemTime, tell: Tell<'a>) -> Self {
        Self { store, terms, now, tell, done: Collected::default(), gone: HashSet::new() }
    }

    async fn run(mut self) -> Result<Collected> {
        if !self.terms.dry_run {
            // What requests that died were about to record would hold what it names.
            self.store.sweep_intents().await?;
            self.done.spared += self.take_over().await?.spared;
        }
        loop {
            let before = self.done.manifests;
            self.one_level().await?;
            // What a manifest held is garbage only when it is gone: an index, then its manifests, then their blobs. What an earlier
            // collection named may have been held by what has gone since, and may hold more in its turn.
            let goes_on = self.done.manifests > before || (!self.terms.dry_run && self.take_over().await?.deleted > 0);
            if goes_on {
                continue;
            }
            if !self.terms.dry_run {
                self.store.sweep_hints().await?;
            }
            return Ok(self.done);
        }
    }

    /// Everything that is garbage now, but for what only garbage refers to.
    async fn one_level(&mut self) -> Result<()> {
        // What earlier collections named and did not delete is what a run begins with; a dry run counts it with the rest.
        let dead = if self.terms.dry_run { Dead::default() } else { self.store.dead().await? };
        let (mut round, mut linked) = (Round::default(), Linked::default());
        let repositories = self.repositories().await?;
        for (marked, repository) in repositories.iter().enumerate() {
            (self.tell)(Told::Marked { repositories: marked, of: repositories.len() });
            let marked = self.mark(repository, &dead, &mut linked).await?;
            round.add(repository, marked.candidates, marked.known);
            if round.is_full() {
                self.finish(std::mem::take(&mut round), &mut linked).await?;
            }
        }
        (self.tell)(Told::Marked { repositories: repositories.len(), of: repositories.len() });
        // The first level counts: what is emptied is no repository any more.
        self.done.repositories = self.done.repositories.max(repositories.len() as u64);
        self.finish(round, &mut linked).await?;
        linked.sort();
        let mut unlinked = self.mark_data(&dead, &linked).await?;
        while !unlinked.is_empty() {
            let round = unlinked.split_off(unlinked.len().saturating_sub(ROUND));
            self.finish_data(round).await?;
        }
        Ok(())
    }

    async fn repositories(&self) -> Result<Vec<RepositoryName>> {
        let names = self.store.driver.list(&Prefix::Repositories, usize::MAX).await?;
        Ok(names.iter().filter_map(|name| decode(name).ok()).collect())
    }

    /// Batch, second mark and deletion of records and links.
    async fn finish(&mut self, mut round: Round, linked: &mut Linked) -> Result<()> {
        if round.candidates.is_empty() {
            return Ok(());
        }
        let mut spared = HashSet::new();
        if !self.terms.dry_run {
            let batches = self.write_batches(&round.candidates).await?;
            self.until_all_see(WAITS_TO_MARK_AGAIN).await;
            spared = self.mark_again(&mut round).await?;
            self.delete(&round.candidates).await?;
            self.until_all_see(WAITS_TO_RETIRE).await;
            self.retire(batches, &spared).await?;
        }
        linked.0.extend(spared.iter().filter_map(|key| match key {
            Key::Link { name, .. } => Some(fingerprint(name.data)),
            _ => None,
        }));
        self.count(round.candidates, spared.len());
        Ok(())
    }

    /// The same for data.
    async fn finish_data(&mut self, mut candidates: Vec<Candidate>) -> Result<()> {
        let mut spared = HashSet::new();
        if !self.terms.dry_run {
            let batches = self.write_batches(&candidates).await?;
            self.until_all_see(WAITS_TO_MARK_AGAIN).await;
            spared = self.mark_data_again(&mut candidates).await?;
            self.delete(&candidates).await?;
            self.until_all_see(WAITS_TO_RETIRE).await;
            self.retire(batches, &spared).await?;
        }
        self.count(candidates, spared.len());
        Ok(())
    }

    /// On a network file system: waits so often until nobody is shown a list from before the wait any more.
    async fn until_all_see(&self, waits: u32) {
        tokio::time::sleep(self.store.driver.staleness() * waits).await;
    }

    /// From here on nobody relies on any of it.
    async fn write_batches(&self, candidates: &[Candidate]) -> Result<Vec<Batch>> {
        let mut batches = Vec::new();
        for names in candidates.chunks(BATCH) {
            let keys: Vec<Key> = names.iter().map(|candidate| candidate.key.clone()).collect();
            let batch = Ulid::generate();
            self.store.driver.create(vec![(Key::DeadBatch(batch), dead::write(&keys).into())], &[]).await?;
            batches.push(Batch { batch, keys });
        }
        Ok(batches)
    }

    /// Records, then links, then data: each durably gone before the next begins, so that nothing leads nowhere.
    async fn delete(&self, candidates: &[Candidate]) -> Result<()> {
        let of_kind = |kind: fn(&Key) -> bool| {
            candidates.iter().map(|candidate| candidate.key.clone()).filter(kind).collect::<Vec<_>>()
        };
        let records = of_kind(|key| matches!(key, Key::Record { .. }));
        let links = of_kind(|key| matches!(key, Key::Link { .. }));
        let data = of_kind(|key| matches!(key, Key::Data(_)));
        // Nobody trusts a hint. It goes first, because when its link is gone nobody would find it.
        let hints: Vec<Key> = links.iter().filter_map(super::blob::hint_of).collect();
        for keys in [records, hints, links, data] {
            for some in keys.chunks(REMOVED_AT_ONCE) {
                self.store.driver.remove(some).await?;
            }
        }
        Ok(())
    }

    /// A batch goes when all that it names is gone. What was spared stays dead.
    async fn retire(&self, batches: Vec<Batch>, spared: &HashSet<Key>) -> Result<()> {
        let is_done = |batch: &Batch| !batch.keys.iter().any(|key| spared.contains(key));
        let done: Vec<Key> = batches.iter().filter(|batch| is_done(batch)).map(|b| Key::DeadBatch(b.batch)).collect();
        self.store.driver.remove(&done).await
    }

    fn count(&mut self, candidates: Vec<Candidate>, spared: usize) {
        self.done.spared += spared as u64;
        for Candidate { key, why, bytes } in candidates {
            let counter = match &key {
                Key::Record { .. } => &mut self.done.manifests,
                Key::Link { .. } => &mut self.done.links,
                Key::Data(_) => &mut self.done.blobs,
                _ => &mut self.done.entries,
            };
            *counter += 1;
            if matches!(key, Key::Record { .. } | Key::Data(_)) {
                self.done.bytes += bytes;
            }
            (self.tell)(Told::Garbage(Garbage { key: key.to_string(), why, bytes }));
            if self.terms.dry_run {
                self.gone.insert(key);
            }
        }
    }

    /// Whether the grace has passed, as far as the name tells.
    fn is_old(&self, key: &Key) -> bool {
        key.ulid().is_some_and(|ulid| self.is_past(ulid.datetime()))
    }

    fn is_past(&self, time: SystemTime) -> bool {
        self.now.duration_since(time).is_ok_and(|age| age > self.store.grace)
    }

    /// Takes out what is young by the clock of the place. Names carry the time of the replica that gave them.
    async fn only_old(&self, candidates: Vec<Candidate>) -> Result<Vec<Candidate>> {
        let look = |candidate: Candidate| async move {
            let changed = self.store.driver.changed(&candidate.key).await?;
            Ok(changed.is_some_and(|changed| self.is_past(changed)).then_some(candidate))
        };
        let looked = futures::stream::iter(candidates).map(look).buffered(PARALLEL);
        looked.try_filter_map(|candidate| async { Ok(candidate) }).try_collect().await
    }
}

/// A batch of the dead, as it was written.
struct Batch {
    batch: Ulid,
    keys: Vec<Key>,
}
