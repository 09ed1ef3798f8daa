//! Clients of a few tags and manifests, and the history of what they were answered.
//!
//! What is promised of one key, and checked:
//! - A *tag* is a register. A put that was answered 201 writes it; a deletion that was answered 202 clears it; 404 to either a
//!   read or a deletion says that it was clear. That a deletion is answered 202 does not say that the tag was there: it may have
//!   named a manifest that was deleted at that very moment.
//! - *Deleting a manifest* clears each tag that names it: for each tag it is one compare-and-swap, at some moment before the
//!   answer. Nothing is promised about several tags at the same moment, so each is a key of its own. Answered 404, it may have
//!   cleared tags all the same: another deletion took the manifest between its steps.
//! - One thing is not promised: *that a deletion waits for a put of the same manifest* that is under way. It may take the record
//!   before the put has written its tag. The tag is absent then from the moment at which the put writes it, be that after the answer
//!   to the deletion. So of a put during which its manifest was being deleted the tag may be put or cleared. Each history is first
//!   judged without that, and only one that is not linearizable is judged with it; they are counted.
//! - A *manifest* is a register as well: a put under any tag writes it, its deletion clears it.
//! - What was answered 5xx, or cut off, may happen once, at any later time: a request to the bucket may outlive its replica.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use berth_e2e::http::{Answer, Client};
use berth_e2e::image::{Blob, Manifest};
use berth_e2e::round_robin::served_by;
use fastrand::Rng;
use http::StatusCode;

use crate::REPLICAS;
use crate::linearizability::{Effect, Operation, Time, Value, explain};

const TAGS: [&str; 2] = ["latest", "v1"];
const MANIFESTS: u8 = 3;
const CLIENTS: u64 = 6;
/// Of each client, in one history.
const REQUESTS: usize = 24;
/// Of a hundred requests that their client does not wait for.
const IMPATIENT: u8 = 6;
/// Answers of each history's key that are falsified, one at a time.
const FALSIFIED: usize = 6;
/// Until anybody answers.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is put, read and deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Tag(&'static str),
    Manifest(u8),
}

/// A repository that nobody but these clients uses, and what they were answered.
struct Table {
    client: Client,
    repository: String,
    manifests: Vec<Manifest>,
    /// Whether the registry is to be told now and then that storage failed.
    storage_fails: bool,
    now: AtomicU64,
    history: Mutex<BTreeMap<Key, Vec<Operation>>>,
}

/// What histories there were.
#[derive(Default)]
struct Summary {
    histories: u64,
    operations: usize,
    unknown: usize,
    longest: usize,
    /// Keys of histories that are linearizable only if a manifest's deletion may clear a tag that is being put.
    put_while_deleted: usize,
    falsified: usize,
    found_out: usize,
    judging: Duration,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { histories, operations, unknown, longest, put_while_deleted, falsified, found_out, judging } = self;
        write!(
            f,
            "{histories} histories of tags and manifests are linearizable: {operations} operations, of which nobody knows \
             the outcome of {unknown}, up to {longest} on one key, judged in {judging:.1?}; \
             {put_while_deleted} times only because a manifest was deleted while it was put; of {falsified} with one false \
             answer {found_out} are not"
        )
    }
}

/// Makes so many histories, one after the other, and judges each. Says what there was.
///
/// # Errors
/// When one is not linearizable, or a registry answers what it must not.
pub(crate) async fn histories(client: Client, count: u64, seed: u64, storage_fails: bool) -> Result<String> {
    let mut summary = Summary::default();
    for number in 0..count {
        let table = Arc::new(Table::new(client.clone(), number, storage_fails).await?);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let random = Rng::with_seed(seed.wrapping_add(number * CLIENTS + client));
                tokio::spawn(Arc::clone(&table).play(random))
            })
            .collect();
        for client in clients {
            client.await?.with_context(|| format!("history {number}"))?;
        }
        table.read_everything().await?;
        table.judge(&mut summary, &mut Rng::with_seed(seed)).with_context(|| format!("history {number}"))?;
    }
    ensure!(summary.unknown > 0, "no request was interrupted: the test has lost its teeth");
    ensure!(summary.found_out * 10 > summary.falsified, "false answers are not found out: {summary}");
    ensure!(summary.put_while_deleted as u64 <= 1 + summary.histories / 20, "the exception is no exception: {summary}");
    Ok(summary.to_string())
}

impl Table {
    async fn new(client: Client, number: u64, storage_fails: bool) -> Result<Self> {
        let repository = format!("history/{number}");
        let config = |value: u8| Blob::new("application/vnd.oci.empty.v1+json", format!("{{\"history\":{value}}}"));
        let manifests = (0..MANIFESTS).map(|value| Manifest::of_blobs(config(value), Vec::new())).collect();
        let table =
            Self { client, repository, manifests, storage_fails, now: AtomicU64::new(0), history: Mutex::default() };
        for manifest in &table.manifests {
            table.push_blobs(manifest).await?;
        }
        Ok(table)
    }

    /// So often that each replica gets it, whether they share what they store or not.
    async fn push_blobs(&self, manifest: &Manifest) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for blob in manifest.blobs.iter().flat_map(|blob| [blob; REPLICAS]) {
            loop {
                let pushed = self.client.push_blob(&self.repository, &blob.digest, &blob.bytes).await;
                if pushed.is_ok_and(|answer| answer.status == StatusCode::CREATED) {
                    break;
                }
                ensure!(Instant::now() < deadline, "no blob can be pushed");
            }
        }
        Ok(())
    }

    async fn play(self: Arc<Self>, mut random: Rng) -> Result<()> {
        for _ in 0..REQUESTS {
            let (tag, value) = (TAGS[random.usize(..TAGS.len())], random.u8(..MANIFESTS));
            match random.u8(..20) {
                0..=5 => self.put(&mut random, tag, value).await?,
                6 | 7 => self.delete_tag(&mut random, tag).await?,
                8 | 9 => self.delete_manifest(&mut random, value).await?,
                10..=12 => drop(self.read(&mut random, Key::Manifest(value)).await?),
                _ => drop(self.read(&mut random, Key::Tag(tag)).await?),
            }
        }
        Ok(())
    }

    async fn put(&self, random: &mut Rng, tag: &'static str, value: u8) -> Result<()> {
        let manifest = &self.manifests[usize::from(value)];
        let (reference, tags) = match random.u8(..4) {
            0 => (format!("{}?tag={}&tag={}", manifest.digest, TAGS[0], TAGS[1]), TAGS.to_vec()),
            _ => (tag.to_owned(), vec![tag]),
        };
        let keys = tags.into_iter().map(Key::Tag).chain([Key::Manifest(value)]);
        let effects: Vec<_> = keys.map(|key| (key, Effect::Put(value))).collect();
        let start = self.tick();
        let answer = self.ask(random, self.client.put_manifest(&self.repository, &reference, manifest)).await?;
        match answer.map(|answer| answer.status) {
            Some(StatusCode::CREATED) => self.write_down(start, true, &effects),
            None => self.write_down(start, false, &effects),
            Some(status) => bail!("PUT {reference}: {status}"),
        }
        Ok(())
    }

    async fn delete_tag(&self, random: &mut Rng, tag: &'static str) -> Result<()> {
        let start = self.tick();
        let key = Key::Tag(tag);
        let answer = self.ask(random, self.client.delete(&self.path(key))).await?;
        match answer.map(|answer| answer.status) {
            Some(StatusCode::ACCEPTED) => self.write_down(start, true, &[(key, Effect::Remove)]),
            Some(StatusCode::NOT_FOUND) => self.write_down(start, true, &[(key, Effect::Read(None))]),
            None => self.write_down(start, false, &[(key, Effect::Remove)]),
            Some(status) => bail!("DELETE {tag}: {status}"),
        }
        Ok(())
    }

    async fn delete_manifest(&self, random: &mut Rng, value: u8) -> Result<()> {
        let start = self.tick();
        let key = Key::Manifest(value);
        let answer = self.ask(random, self.client.delete(&self.path(key))).await?;
        let tags = TAGS.map(|tag| (Key::Tag(tag), Effect::RemoveIf(value)));
        let own = |effect| [&tags[..], &[(key, effect)]].concat();
        match answer.map(|answer| answer.status) {
            Some(StatusCode::ACCEPTED) => self.write_down(start, true, &own(Effect::Remove)),
            Some(StatusCode::NOT_FOUND) => self.write_down(start, true, &own(Effect::Read(None))),
            None => self.write_down(start, false, &own(Effect::Remove)),
            Some(status) => bail!("DELETE manifest {value}: {status}"),
        }
        Ok(())
    }

    /// Returns whether there was an answer.
    async fn read(&self, random: &mut Rng, key: Key) -> Result<bool> {
        let start = self.tick();
        let Some(answer) = self.ask(random, self.client.get(&self.path(key))).await? else { return Ok(false) };
        let value = self.value_of(&answer).with_context(|| format!("{key:?}"))?;
        self.write_down(start, true, &[(key, Effect::Read(value))]);
        Ok(true)
    }

    /// The answer, unless it leaves open what happened.
    async fn ask(&self, random: &mut Rng, request: impl Future<Output = Result<Answer>>) -> Result<Option<Answer>> {
        let impatient = random.u8(..100) < IMPATIENT;
        let waits = if impatient { Duration::from_micros(random.u64(100..10_000)) } else { PATIENCE };
        // Whoever does not wait closes the connection.
        let Ok(Ok(answer)) = tokio::time::timeout(waits, request).await else { return Ok(None) };
        if !answer.status.is_server_error() {
            return Ok(Some(answer));
        }
        // A proxy says so of a replica that was killed; a replica, of its storage.
        let by_a_replica = served_by(&answer).is_ok();
        ensure!(self.storage_fails || !by_a_replica, "{} {:?}", answer.status, answer.body);
        Ok(None)
    }

    fn path(&self, key: Key) -> String {
        match key {
            Key::Tag(tag) => format!("/v2/{}/manifests/{tag}", self.repository),
            Key::Manifest(value) => {
                format!("/v2/{}/manifests/{}", self.repository, self.manifests[usize::from(value)].digest)
            }
        }
    }

    fn value_of(&self, answer: &Answer) -> Result<Value> {
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => {
                let bytes = self.manifests.iter().position(|manifest| manifest.bytes == answer.body);
                Ok(Some(u8::try_from(bytes.context("bytes that nobody put")?)?))
            }
            status => bail!("{status} {:?}", answer.body),
        }
    }

    fn tick(&self) -> Time {
        self.now.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn write_down(&self, start: Time, is_known: bool, effects: &[(Key, Effect)]) {
        let end = is_known.then(|| self.tick());
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, effect) in effects {
            history.entry(*key).or_default().push(Operation { effect: *effect, start, end });
        }
    }

    async fn read_everything(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let keys = TAGS.map(Key::Tag).into_iter().chain((0..MANIFESTS).map(Key::Manifest));
        for key in keys {
            // By each replica, as they take turns.
            for _ in 0..REPLICAS {
                while !self.read(&mut Rng::with_seed(0), key).await? {
                    ensure!(Instant::now() < deadline, "nobody reads {key:?}");
                }
            }
        }
        Ok(())
    }

    fn judge(&self, summary: &mut Summary, random: &mut Rng) -> Result<()> {
        let began = Instant::now();
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        summary.histories += 1;
        for (key, operations) in history.iter() {
            if let Err(violation) = explain(operations) {
                explain(&with_deletions_while_put(operations))
                    .map_err(|_| anyhow!("{key:?} is not linearizable: {violation}"))?;
                println!("{}, {key:?}: {violation}", self.repository);
                summary.put_while_deleted += 1;
            }
            summary.operations += operations.len();
            summary.unknown += operations.iter().filter(|operation| operation.end.is_none()).count();
            summary.longest = summary.longest.max(operations.len());
            let (falsified, found_out) = with_false_answers(operations, *key, random);
            summary.falsified += falsified;
            summary.found_out += found_out;
        }
        summary.judging += began.elapsed();
        Ok(())
    }
}

/// The same history, in which a put may come to nothing that ran at the same time as the deletion of its manifest.
fn with_deletions_while_put(operations: &[Operation]) -> Vec<Operation> {
    let overlap = |one: &Operation, other: &Operation| {
        one.end.is_none_or(|end| other.start < end) && other.end.is_none_or(|end| one.start < end)
    };
    let may_come_to_nothing = |put: &Operation, value: u8| {
        operations.iter().any(|other| other.effect == Effect::RemoveIf(value) && overlap(put, other))
    };
    let widened = operations.iter().map(|operation| match operation.effect {
        Effect::Put(value) if may_come_to_nothing(operation, value) => {
            Operation { effect: Effect::PutOrRemove(value), ..*operation }
        }
        _ => *operation,
    });
    widened.collect()
}

/// The same history with the answer to one read falsified, some times over: how many there were, and how many were found out.
/// Not all can be: while something is being written, or nobody knows whether it was, either answer is right.
fn with_false_answers(operations: &[Operation], key: Key, random: &mut Rng) -> (usize, usize) {
    let values: Vec<Value> = match key {
        Key::Tag(_) => [None].into_iter().chain((0..MANIFESTS).map(Some)).collect(),
        Key::Manifest(value) => vec![None, Some(value)],
    };
    let mut reads: Vec<usize> =
        (0..operations.len()).filter(|number| matches!(operations[*number].effect, Effect::Read(_))).collect();
    random.shuffle(&mut reads);
    reads.truncate(FALSIFIED);
    let found_out = reads.iter().filter(|number| {
        let mut falsified = operations.to_vec();
        let others: Vec<Value> =
            values.iter().copied().filter(|value| falsified[**number].effect != Effect::Read(*value)).collect();
        falsified[**number].effect = Effect::Read(others[random.usize(..others.len())]);
        explain(&falsified).is_err() && explain(&with_deletions_while_put(&falsified)).is_err()
    });
    (reads.len(), found_out.count())
}
