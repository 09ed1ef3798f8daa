//! What was asked of a registry and what it answered, and what may be seen of that at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use berth_oci::Digest;
use fastrand::Rng;

/// Something that is there or not, and if it is a tag, with a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Blob { repository: &'static str, digest: Digest },
    Manifest { repository: &'static str, digest: Digest },
    Tag { repository: &'static str, tag: String },
    Referrer { repository: &'static str, subject: Digest, digest: Digest },
}

/// What a key names: for all but tags, itself or nothing.
pub(crate) type Value = Option<Digest>;

/// The time of an event. No two have the same.
pub(crate) type Time = u64;

#[derive(Debug)]
struct Write {
    value: Value,
    start: Time,
    /// When it was acknowledged, if it was. Otherwise it may have taken effect until the registry died.
    acknowledged: Option<Time>,
}

#[derive(Debug)]
struct Read {
    key: Key,
    value: Value,
    start: Time,
    end: Time,
}

#[derive(Debug, Default)]
struct Events {
    writes: BTreeMap<Key, Vec<Write>>,
    /// The keys of `writes`, in the order of their first one.
    keys: Vec<Key>,
    reads: Vec<Read>,
    deaths: Vec<Time>,
}

/// Everything that happened.
#[derive(Debug, Default)]
pub(crate) struct History {
    now: AtomicU64,
    /// Whether blobs may go that no manifest names. Which ones do is looked at in the end.
    pub(crate) collects: bool,
    events: Mutex<Events>,
}

impl History {
    /// An empty one.
    pub(crate) fn new(collects: bool) -> Self {
        Self { collects, ..Self::default() }
    }

    /// The time of a new event.
    pub(crate) fn tick(&self) -> Time {
        self.now.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn events(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The registry is dead: nothing that it was doing will take effect any more.
    pub(crate) fn died(&self) {
        let now = self.tick();
        self.events().deaths.push(now);
    }

    /// A change, begun at `start`, has been acknowledged.
    pub(crate) fn acknowledged(&self, start: Time, changes: &[(Key, Value)]) {
        let end = self.tick();
        self.write(start, Some(end), changes);
    }

    /// Nobody knows what became of a change that was begun at `start`.
    pub(crate) fn interrupted_at(&self, start: Time, changes: &[(Key, Value)]) {
        self.write(start, None, changes);
    }

    fn write(&self, start: Time, acknowledged: Option<Time>, changes: &[(Key, Value)]) {
        let mut events = self.events();
        for (key, value) in changes {
            let write = Write { value: value.clone(), start, acknowledged };
            events.writes_of(key).push(write);
        }
    }

    /// A key was asked for from `start` on, and this was the answer.
    pub(crate) fn read(&self, start: Time, key: Key, value: Value) {
        let end = self.tick();
        self.events().reads.push(Read { key, value, start, end });
    }

    /// Something was refused, so this key must never be seen.
    pub(crate) fn refused(&self, key: &Key) {
        self.events().writes_of(key);
    }

    /// Every key that was ever written or refused.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.events().keys.clone()
    }

    /// One of them.
    pub(crate) fn any_key(&self, random: &mut Rng) -> Option<Key> {
        random.choice(&self.events().keys).cloned()
    }

    /// How many changes were cut off.
    pub(crate) fn interrupted(&self) -> usize {
        self.events().writes.values().flatten().filter(|write| write.acknowledged.is_none()).count()
    }

    /// How many changes were acknowledged.
    pub(crate) fn acknowledged_changes(&self) -> usize {
        self.events().writes.values().flatten().filter(|write| write.acknowledged.is_some()).count()
    }

    /// What a read from now on may see.
    pub(crate) fn allowed_now(&self, key: &Key) -> BTreeSet<Value> {
        let now = self.tick();
        self.and_collected(key, self.events().allowed(key, now, now))
    }

    /// The reads that saw what they could not have.
    pub(crate) fn impossible_reads(&self) -> Vec<String> {
        let events = self.events();
        let allowed = |read: &Read| self.and_collected(&read.key, events.allowed(&read.key, read.start, read.end));
        let impossible = |read: &&Read| !allowed(read).contains(&read.value);
        let describe = |read: &Read| format!("{read:?}, but there was: {:?}", events.writes.get(&read.key));
        events.reads.iter().filter(impossible).map(describe).collect()
    }

    fn and_collected(&self, key: &Key, mut allowed: BTreeSet<Value>) -> BTreeSet<Value> {
        if self.collects && matches!(key, Key::Blob { .. }) {
            allowed.insert(None);
        }
        allowed
    }

    /// What was done to a key, for a human.
    pub(crate) fn of(&self, key: &Key) -> String {
        format!("{:?}", self.events().writes.get(key))
    }
}

impl Events {
    fn writes_of(&mut self, key: &Key) -> &mut Vec<Write> {
        if !self.writes.contains_key(key) {
            self.keys.push(key.clone());
        }
        self.writes.entry(key.clone()).or_default()
    }

    /// A read from `start` to `end` may see any write that began before it ended and that no acknowledged write followed
    /// and finished in time.
    fn allowed(&self, key: &Key, start: Time, end: Time) -> BTreeSet<Value> {
        let first = Write { value: None, start: 0, acknowledged: Some(0) };
        let writes = || std::iter::once(&first).chain(self.writes.get(key).into_iter().flatten());
        let newest =
            writes().filter(|write| write.acknowledged.is_some_and(|at| at < start)).map(|write| write.start).max();
        let may_be_seen =
            |write: &&Write| write.start < end && newest.is_none_or(|newest| newest <= self.end_of(write));
        writes().filter(may_be_seen).map(|write| write.value.clone()).collect()
    }

    fn end_of(&self, write: &Write) -> Time {
        let death = || self.deaths.iter().copied().find(|death| *death > write.start);
        write.acknowledged.or_else(death).unwrap_or(Time::MAX)
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events = self.events();
        let count = |name: &str, of: fn(&Key) -> bool| {
            let writes = || events.writes.iter().filter(|(key, _)| of(key)).flat_map(|(_, writes)| writes);
            let acknowledged = writes().filter(|write| write.acknowledged.is_some()).count();
            format!("{name} {acknowledged}+{}", writes().count() - acknowledged)
        };
        let counts = [
            count("blobs", |key| matches!(key, Key::Blob { .. })),
            count("manifests", |key| matches!(key, Key::Manifest { .. })),
            count("tags", |key| matches!(key, Key::Tag { .. })),
            count("referrers", |key| matches!(key, Key::Referrer { .. })),
        ];
        let refused = events.writes.values().filter(|writes| writes.is_empty()).count();
        let reads = events.reads.len();
        write!(f, "changes acknowledged+interrupted: {}; {refused} refused; {reads} reads", counts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use berth_oci::Algorithm;

    use super::*;

    fn tag() -> Key {
        Key::Tag { repository: "a", tag: "latest".into() }
    }

    fn value(text: &str) -> Value {
        Some(Digest::of(Algorithm::Sha256, text.as_bytes()))
    }

    fn allowed_after(story: impl FnOnce(&History)) -> BTreeSet<Value> {
        let history = History::default();
        story(&history);
        history.allowed_now(&tag())
    }

    #[test]
    fn only_the_last_of_consecutive_writes_may_be_seen() {
        let allowed = allowed_after(|history| {
            history.acknowledged(history.tick(), &[(tag(), value("one"))]);
            history.acknowledged(history.tick(), &[(tag(), value("two"))]);
        });
        assert_eq!(allowed, BTreeSet::from([value("two")]));
    }

    #[test]
    fn either_of_two_concurrent_writes_may_be_seen_but_no_longer_what_was_before() {
        let allowed = allowed_after(|history| {
            let (one, two) = (history.tick(), history.tick());
            history.acknowledged(one, &[(tag(), value("one"))]);
            history.acknowledged(two, &[(tag(), value("two"))]);
        });
        assert_eq!(allowed, BTreeSet::from([value("one"), value("two")]));
    }

    #[test]
    fn an_interrupted_write_may_be_seen_or_not_until_one_that_began_after_the_death_is_acknowledged() {
        let interrupted = |history: &History| {
            history.interrupted_at(history.tick(), &[(tag(), value("lost"))]);
            history.died();
        };
        assert_eq!(allowed_after(interrupted), BTreeSet::from([None, value("lost")]));
        let allowed = allowed_after(|history| {
            interrupted(history);
            history.acknowledged(history.tick(), &[(tag(), value("kept"))]);
        });
        assert_eq!(allowed, BTreeSet::from([value("kept")]));
    }

    #[test]
    fn a_read_that_sees_an_overwritten_value_is_impossible() {
        let history = History::default();
        history.acknowledged(history.tick(), &[(tag(), value("one"))]);
        history.acknowledged(history.tick(), &[(tag(), value("two"))]);
        history.read(history.tick(), tag(), value("two"));
        assert!(history.impossible_reads().is_empty());
        history.read(history.tick(), tag(), value("one"));
        assert_eq!(history.impossible_reads().len(), 1);
    }
}
