//! The collector: mark, batch, mark again, delete, retire.

use crate::key::{Digest, Key, Repo, Ulid};
use crate::network::Place;
use crate::protocol::{Actor, Next, Protocol, State, Turn};
use crate::rules::Rules;
use crate::store::{OLD, Store, Target};

/// What a collector remembers. It forgets everything between runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Collector {
    step: Step,
    batch: u8,
    /// What may still be deleted: first what the batch names, then what the second mark did not spare.
    kill: Vec<Key>,
    /// What the batches name, from their list until the keepers are chosen.
    dead: Vec<Key>,
    /// Of `kill`, what is a duplicate of something that stays, and that keeper.
    redundant: Vec<(Key, Key)>,
    runs: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Idle,
    WriteBatch,
    /// On a network: lets the n-th wait pass before the second mark.
    Wait(u8),
    /// The second mark, list by list.
    ListDead,
    Keepers,
    KeepersData,
    Intents(Repo),
    Records(Repo),
    Tags(Repo),
    Links(Repo),
    Delete,
    /// On a network: until nobody is shown any more what was deleted.
    WaitToRetire,
    Retire,
    /// Gives what was spared a fresh incarnation: only under a seeded bug.
    Revive,
}

impl Collector {
    pub(crate) fn new(runs: u8) -> Self {
        Self { step: Step::Idle, batch: 0, kill: Vec::new(), dead: Vec::new(), redundant: Vec::new(), runs }
    }

    pub(crate) fn steps(self, turn: &mut Turn<'_>) {
        match self.step {
            Step::Idle => self.idle(turn),
            Step::WriteBatch => self.write_batch(turn),
            Step::Wait(_) | Step::WaitToRetire => self.wait(turn),
            Step::ListDead => self.list_dead(turn),
            Step::Keepers => self.list_keepers(turn),
            Step::KeepersData => self.check_keepers(turn),
            Step::Intents(repo) => self.mark_again(turn, "collect: mark 2, list intents", repo),
            Step::Records(repo) => self.mark_again(turn, "collect: mark 2, list records", repo),
            Step::Tags(repo) => self.mark_again(turn, "collect: mark 2, list tags", repo),
            Step::Links(repo) => self.mark_again(turn, "collect: mark 2, list links", repo),
            Step::Delete => self.delete(turn),
            Step::Retire => self.retire(turn),
            Step::Revive => self.revive(turn),
        }
    }

    fn idle(self, turn: &mut Turn<'_>) {
        if self.runs == 0 {
            return;
        }
        let own = u8::try_from(turn.who).unwrap_or(u8::MAX) * 4 + self.runs;
        let begun = Self { runs: self.runs - 1, ..self.clone() };
        for (run, names) in turn.store().batches() {
            let taken =
                Self { step: begun.first_of_second_mark(turn), batch: *run, kill: names.clone(), ..begun.clone() };
            turn.step("collect: takes over a batch", None, |next| {
                taken.stay(next);
                next.begin_to_wait();
            });
        }
        let mut marks = vec![("collect: mark 1", garbage(turn.protocol, turn.store(), Ages::Old))];
        marks.extend(torn_marks(turn).into_iter().map(|kill| ("collect: torn mark 1", kill)));
        for (what, kill) in marks.into_iter().filter(|(_, kill)| !kill.is_empty()) {
            let run = Self { step: Step::WriteBatch, batch: own, kill, ..begun.clone() };
            turn.step(what, None, |next| run.stay(next));
        }
        for entry in entries_of_gone_records(turn.protocol, turn.store()) {
            match entry {
                Key::BackReference(repo, digest, tag, record)
                    if turn.store().tag(repo, tag) == Some(Target { digest, record }) =>
                {
                    turn.step("collect: a tag if it still names the gone", Some(entry), |next| {
                        next.delete_tag(repo, tag);
                    });
                }
                _ => turn.step("collect: the record is gone of", Some(entry), |next| next.delete(entry)),
            }
        }
    }

    fn write_batch(mut self, turn: &mut Turn<'_>) {
        self.step = self.first_of_second_mark(turn);
        turn.step("collect: write the dead batch", None, |next| {
            next.put_batch(self.batch, self.kill.clone());
            self.stay(next);
            next.begin_to_wait();
        });
    }

    /// A batch that is taken over may have been written a moment ago: on a network it is waited for like the own one.
    fn first_of_second_mark(&self, turn: &Turn<'_>) -> Step {
        match turn.protocol.rules {
            Rules { second_mark: false, .. } => Step::Delete,
            Rules { waits: 1.., .. } if turn.protocol.scenario.place != Place::Local => Step::Wait(1),
            _ => Step::ListDead,
        }
    }

    fn wait(mut self, turn: &mut Turn<'_>) {
        self.step = match self.step {
            Step::Wait(n) if n < turn.protocol.rules.waits => Step::Wait(n + 1),
            Step::Wait(_) => Step::ListDead,
            _ => Step::Retire,
        };
        turn.step("collect: all see by now what had changed when the wait began", None, |next| {
            next.end_of_wait();
            next.begin_to_wait();
            self.stay(next);
        });
    }

    /// Whether its next step reads a list.
    pub(crate) fn reads_lists(&self) -> bool {
        match self.step {
            Step::WriteBatch | Step::Wait(_) | Step::KeepersData | Step::Delete | Step::WaitToRetire => false,
            Step::Idle | Step::ListDead | Step::Keepers | Step::Retire | Step::Revive => true,
            Step::Intents(_) | Step::Records(_) | Step::Tags(_) | Step::Links(_) => true,
        }
    }

    /// A duplicate may go if something that no batch names stands for it. This list of the batches comes after the own batch.
    fn list_dead(mut self, turn: &mut Turn<'_>) {
        if turn.protocol.rules.keeper_is_not_dead {
            self.dead = turn.store().batches().iter().flat_map(|(_, names)| names.clone()).collect();
            self.dead.sort_unstable();
            self.dead.dedup();
        }
        self.step = Step::Keepers;
        turn.step("collect: mark 2, list dead", None, |next| self.stay(next));
    }

    fn list_keepers(mut self, turn: &mut Turn<'_>) {
        let lives = |key: Key| {
            let data_is_dead = matches!(key, Key::Link(_, _, _, data) if self.dead.contains(&Key::Data(data)));
            !self.dead.contains(&key) && !data_is_dead
        };
        let keepers =
            |key: Key| same_digest(turn.store(), key).filter(|other| lives(*other)).map(move |other| (key, other));
        self.redundant = self.kill.iter().flat_map(|key| keepers(*key)).collect();
        self.dead.clear();
        self.step = Step::KeepersData;
        turn.step("collect: mark 2, list duplicates", None, |next| self.stay(next));
    }

    fn check_keepers(mut self, turn: &mut Turn<'_>) {
        self.redundant.retain(|(_, keeper)| match *keeper {
            Key::Link(_, _, _, data) => turn.has(Key::Data(data)),
            _ => true,
        });
        self.step = Step::first_list(turn, 0);
        turn.step("collect: mark 2, check the keepers' data", None, |next| self.stay(next));
    }

    fn mark_again(mut self, turn: &mut Turn<'_>, what: &'static str, repo: Repo) {
        let store = turn.store();
        let spared: Vec<_> =
            self.kill.iter().copied().filter(|key| self.spares(turn.protocol, store, repo, *key)).collect();
        self.kill.retain(|key| !spared.contains(key));
        self.step = self.step.after(turn, repo);
        if self.step == Step::Delete {
            self.redundant.clear();
        }
        turn.step(what, spared.first().copied(), |next| self.stay(next));
    }

    /// Whether the list that is being read keeps this key.
    fn spares(&self, protocol: &Protocol, store: &Store, repo: Repo, key: Key) -> bool {
        let only_duplicates = !protocol.scenario.untagged_go;
        let is_redundant = self.redundant.iter().any(|(duplicate, _)| *duplicate == key);
        match (self.step, key) {
            (Step::Intents(_), Key::Record(r, digest, record)) if r == repo => {
                let its_request_is_at_work =
                    protocol.rules.intent_spares_its_record && store.exists(Key::Intent(repo, digest, record));
                its_request_is_at_work || !is_redundant && names_child(protocol, store, Kind::Intent, repo, digest)
            }
            (Step::Intents(_), Key::Link(r, digest, ..)) if r == repo => {
                !is_redundant && names_child(protocol, store, Kind::Intent, repo, digest)
            }
            (Step::Records(_), Key::Link(r, digest, ..)) if r == repo => {
                !is_redundant && names_child(protocol, store, Kind::Record, repo, digest)
            }
            (Step::Records(_), Key::Record(r, digest, _)) if r == repo => {
                let subject = protocol.scenario.subject(digest);
                let subject_lives = subject.is_some_and(|subject| store.records(repo, subject).next().is_some());
                let named = names_child(protocol, store, Kind::Record, repo, digest) || subject_lives;
                !is_redundant && (only_duplicates || named)
            }
            (Step::Tags(_), Key::Record(r, ..)) if r == repo => store.tags().any(|(r, tag, target)| {
                let leads_to_it = matches!(key, Key::Record(_, digest, record)
                    if store.exists(Key::BackReference(r, digest, tag, record)));
                r == repo && names(protocol, target, key) && (leads_to_it || !protocol.rules.tag_names_record)
            }),
            (Step::Links(_), Key::Data(data)) => store.list().any(|(link, age)| match link {
                Key::Link(r, digest, _, to) if r == repo && to == data && !self.kill.contains(&link) => {
                    let lives = age < OLD || names_child(protocol, store, Kind::Record, repo, digest);
                    protocol.rules.any_link_spares || lives
                }
                _ => false,
            }),
            _ => false,
        }
    }

    fn delete(mut self, turn: &mut Turn<'_>) {
        let mut left: Vec<_> = self.kill.iter().copied().filter(|key| turn.has(*key)).collect();
        left.sort_unstable();
        if !turn.protocol.rules.links_before_data {
            left.reverse();
        }
        let Some(key) = left.first().copied() else {
            self.kill.clear();
            if turn.protocol.scenario.place != Place::Local && turn.protocol.rules.waits_before_retiring {
                self.step = Step::WaitToRetire;
                return turn.step("collect: all is deleted", None, |next| {
                    self.stay(next);
                    next.begin_to_wait();
                });
            }
            self.step = Step::Retire;
            return self.retire(turn);
        };
        left.remove(0);
        left.sort_unstable();
        self.kill = left;
        turn.step("collect: delete", Some(key), |next| {
            self.stay(next);
            next.delete(key);
        });
    }

    fn retire(mut self, turn: &mut Turn<'_>) {
        let batch = self.batch;
        let names = turn.store().batches().iter().find(|(run, _)| *run == batch).map(|(_, names)| names.clone());
        let all_gone = names.as_ref().is_some_and(|names| !names.iter().any(|key| turn.has(*key)));
        if !all_gone && !turn.protocol.rules.spared_is_left {
            self.kill = names.unwrap_or_default();
            self.kill.retain(|key| turn.has(*key));
            self.step = Step::Revive;
            return turn.step("collect: read what was spared", None, |next| self.stay(next));
        }
        let retires = all_gone || !turn.protocol.rules.dead_is_final;
        let what = if retires { "collect: retire the batch" } else { "collect: what was spared stays dead" };
        turn.step(what, None, |next| {
            if retires {
                next.retire_batch(batch);
            }
            Self::new(self.runs).stay(next);
        });
    }

    fn revive(mut self, turn: &mut Turn<'_>) {
        let fresh = u8::try_from(10 * (turn.who + 1) + self.kill.len()).unwrap_or(u8::MAX);
        let Some(key) = self.kill.pop() else {
            return turn.step("collect: the spared have others", None, |next| Self::new(self.runs).stay(next));
        };
        turn.step("collect: a fresh incarnation of", Some(key), |next| {
            match key {
                Key::Record(repo, digest, _) => next.write(Key::Record(repo, digest, fresh)),
                Key::Link(repo, digest, ..) => {
                    next.write(Key::Data(fresh));
                    next.write(Key::Link(repo, digest, fresh, fresh));
                }
                _ => {}
            }
            self.stay(next);
        });
    }

    fn stay(self, next: &mut Next<'_>) {
        next.become_actor(Actor::Collector(self));
    }
}

impl Step {
    fn first_list(turn: &Turn<'_>, repo: Repo) -> Self {
        if turn.protocol.rules.intents_first { Self::Intents(repo) } else { Self::Records(repo) }
    }

    fn after(self, turn: &Turn<'_>, repo: Repo) -> Self {
        let intents_first = turn.protocol.rules.intents_first;
        match self {
            Self::Intents(_) if intents_first => Self::Records(repo),
            Self::Records(_) if !intents_first => Self::Intents(repo),
            Self::Intents(_) | Self::Records(_) => Self::Tags(repo),
            Self::Tags(_) if turn.protocol.scenario.uses(repo + 1) => Self::first_list(turn, repo + 1),
            Self::Tags(_) => Self::Links(0),
            Self::Links(_) if turn.protocol.scenario.uses(repo + 1) => Self::Links(repo + 1),
            _ => Self::Delete,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Intent,
    Record,
}

/// Whether an intent or a record of this repository names this digest as a child.
fn names_child(protocol: &Protocol, store: &Store, kind: Kind, repo: Repo, child: Digest) -> bool {
    store.list().any(|(key, _)| match key {
        Key::Intent(r, digest, _) => {
            kind == Kind::Intent && r == repo && protocol.scenario.children(digest).contains(&child)
        }
        Key::Record(r, digest, _) => {
            kind == Kind::Record && r == repo && protocol.scenario.children(digest).contains(&child)
        }
        _ => false,
    })
}

/// The other records or links that could stand for this one.
fn same_digest(store: &Store, key: Key) -> impl Iterator<Item = Key> + '_ {
    store.list().map(|(other, _)| other).filter(move |other| match (key, *other) {
        (Key::Record(r, d, _), Key::Record(repo, digest, _)) | (Key::Link(r, d, ..), Key::Link(repo, digest, ..)) => {
            *other != key && r == repo && d == digest
        }
        _ => false,
    })
}

fn is_whole(store: &Store, repo: Repo, target: Target) -> bool {
    store.exists(Key::Record(repo, target.digest, target.record))
}

/// A referrer entry or a back-reference carries its record's ULID. A record that is gone never comes back, so the entry is
/// garbage for ever and needs no batch; only one that is young may still be waiting for its record.
fn entries_of_gone_records(protocol: &Protocol, store: &Store) -> Vec<Key> {
    let gone = |repo: Repo, digest: Digest, record: Ulid| !store.exists(Key::Record(repo, digest, record));
    let may_go = |age: u8| age >= OLD || !protocol.rules.entries_have_grace;
    let entries = store.list().filter(|(key, age)| match *key {
        Key::Referrer(repo, _, digest, record) | Key::BackReference(repo, digest, _, record) => {
            may_go(*age) && gone(repo, digest, record)
        }
        _ => false,
    });
    entries.map(|(key, _)| key).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ages {
    Old,
    Any,
}

/// What the first mark finds.
fn garbage(protocol: &Protocol, store: &Store, ages: Ages) -> Vec<Key> {
    let old = |age: u8| age >= OLD || ages == Ages::Any || !protocol.rules.grace;
    let mut found: Vec<Key> = Vec::new();
    for (key, age) in store.list().filter(|(key, age)| old(*age) && !store.names_dead(*key)) {
        let is_garbage = match key {
            Key::Intent(..) => age >= OLD || ages == Ages::Any && protocol.scenario.place == Place::Local,
            Key::Record(repo, digest, _) => {
                let tagged = seems_tagged(protocol, store, key);
                let subject = protocol.scenario.subject(digest);
                let held = names_child(protocol, store, Kind::Record, repo, digest)
                    || names_child(protocol, store, Kind::Intent, repo, digest)
                    || subject.is_some_and(|subject| store.records(repo, subject).next().is_some());
                !tagged && (protocol.scenario.untagged_go && !held || is_spare(protocol, store, key))
            }
            Key::Link(repo, digest, _, data) => {
                let named = names_child(protocol, store, Kind::Record, repo, digest)
                    || names_child(protocol, store, Kind::Intent, repo, digest);
                !named || !store.exists(Key::Data(data)) || is_spare(protocol, store, key)
            }
            Key::Data(data) => !store
                .list()
                .any(|(link, _)| matches!(link, Key::Link(_, _, _, to) if to == data) && !found.contains(&link)),
            Key::Referrer(..) | Key::BackReference(..) => false,
        };
        if is_garbage {
            found.push(key);
        }
    }
    found
}

fn names(protocol: &Protocol, target: Target, key: Key) -> bool {
    matches!(key, Key::Record(_, digest, record)
        if digest == target.digest && (record == target.record || !protocol.rules.tag_names_record))
}

/// The first mark reads no tag to which one back-reference leads: it names that record, unless that is gone.
fn seems_tagged(protocol: &Protocol, store: &Store, key: Key) -> bool {
    let Key::Record(repo, ..) = key else { return false };
    store.tags().filter(|(r, ..)| *r == repo).any(|(_, tag, target)| {
        let mut leading = store.list().filter_map(|(back, _)| match back {
            Key::BackReference(r, digest, t, record) if r == repo && t == tag => Some(Target { digest, record }),
            _ => None,
        });
        let only = leading.next().filter(|_| leading.next().is_none());
        names(protocol, only.unwrap_or(target), key)
    })
}

/// A duplicate that is not the one to keep: of those that no batch names the tagged ones are kept, else the newest.
fn is_spare(protocol: &Protocol, store: &Store, key: Key) -> bool {
    let lives = |other: Key| match other {
        Key::Link(_, _, _, data) => {
            !store.names_dead(other) && !store.names_dead(Key::Data(data)) && store.exists(Key::Data(data))
        }
        _ => !store.names_dead(other),
    };
    let rank = |other: Key| (lives(other), seems_tagged(protocol, store, other), other);
    same_digest(store, key).any(|other| lives(other) && rank(other) > rank(key))
}

/// The worst first marks: everything that is old, or any one of several that could stand for each other.
fn torn_marks(turn: &Turn<'_>) -> Vec<Vec<Key>> {
    if !turn.protocol.scenario.wild {
        return Vec::new();
    }
    let store = turn.store();
    let collectable = |key: Key| !matches!(key, Key::Referrer(..) | Key::BackReference(..)) && !store.names_dead(key);
    let old: Vec<Key> =
        store.list().filter(|(key, age)| *age >= OLD && collectable(*key)).map(|(key, _)| key).collect();
    let duplicates = old.iter().filter(|key| same_digest(store, **key).next().is_some());
    duplicates.map(|key| vec![*key]).chain([old.clone()]).collect()
}

/// Nobody is at work, nothing is dead, and a mark that ignores the grace finds nothing.
pub(crate) fn everything_is_reclaimed(protocol: &Protocol, state: &State) -> bool {
    let at_rest = |actor: &Actor| !actor.is_in_flight() && !matches!(actor, Actor::Waiting | Actor::Put(_));
    state
        .actors
        .iter()
        .all(|actor| at_rest(actor) && !matches!(actor, Actor::Collector(collector) if collector.step != Step::Idle))
        && state.store.batches().is_empty()
        && garbage(protocol, &state.store, Ages::Any).is_empty()
        && entries_of_gone_records(protocol, &state.store).is_empty()
        && state.store.tags().all(|(repo, _, target)| is_whole(&state.store, repo, target))
}
