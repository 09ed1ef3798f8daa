//! PUT manifest.

use crate::key::{Digest, Key, Repo, Tag, Ulid};
use crate::network::Place;
use crate::protocol::{Actor, Next, Protocol, Turn};
use crate::rules::{Phase, Request};
use crate::store::Target;

/// What a request that puts a manifest remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Put {
    pub(crate) sub: Sub,
    phase: u8,
    /// How far within the phase.
    at: u8,
    /// Links and child records that the answer will rely on.
    relied: Vec<Key>,
    /// The child that is being put again, and the child of that which is, and so on.
    remakes: Vec<Remake>,
    /// Fresh incarnations that are trusted without a look: only under a seeded bug.
    trusted: Vec<Key>,
    /// What to remove at the end (intents) or on refusal (everything).
    wrote: Vec<Key>,
    /// The ULID of its intent and of its record.
    record: Option<Ulid>,
    ulids: Ulid,
}

/// A child that is being put again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Remake {
    /// Where it is in `relied`.
    n: u8,
    /// From where on `relied` holds its own children.
    first: u8,
    /// The ULID of its intent, entry and record.
    record: Ulid,
    has_entry: bool,
}

/// A step within a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Sub {
    /// Finds something to rely on for the n-th child.
    Validate(u8),
    /// The n-th child of a dead index is absent: checks that the index is still there.
    CheckSource(u8),
    /// Going through the phases.
    Phase,
    /// Writes the intent of the child that is put again.
    ChildIntent,
    /// Removes it, when the child's record is written.
    RemoveChildIntent(Key),
    /// Copies the data of the n-th thing relied on.
    CopyData(u8),
    /// Links that copy.
    LinkCopy(u8, Ulid),
    /// Reads the n-th thing, a record named dead, to put it again.
    ReadChild(u8),
    /// Writes it again without a look at its children: only under a seeded bug.
    WriteCopy(u8),
    /// Looks for something else that can stand for the n-th thing.
    FindAnother(u8),
    Refuse,
    RemoveIntents,
}

impl Default for Sub {
    fn default() -> Self {
        Self::Validate(0)
    }
}

struct Asked {
    repo: Repo,
    digest: Digest,
    tags: &'static [Tag],
}

impl Put {
    /// Whether its next step reads a list.
    pub(crate) fn reads_lists(&self, protocol: &Protocol) -> bool {
        let phase = protocol.rules.put.get(usize::from(self.phase));
        matches!(self.sub, Sub::Validate(_) | Sub::FindAnother(_))
            || self.sub == Sub::Phase && phase == Some(&Phase::ListDead)
    }

    pub(crate) fn steps(mut self, turn: &mut Turn<'_>) {
        let Request::Put { repo, digest, tags } = turn.protocol.scenario.requests[turn.who] else { return };
        let asked = Asked { repo, digest, tags };
        self.skip_what_is_empty(turn, &asked);
        match self.sub {
            Sub::Validate(n) => self.validate(n, turn, &asked),
            Sub::Phase => self.phase(turn, &asked),
            Sub::CheckSource(n) => self.check_source(n, turn),
            Sub::ChildIntent => {
                let Some(remake) = self.remakes.last() else { return };
                let intent = Key::Intent(repo, self.manifest_in_hand(&asked), remake.record);
                self.wrote.push(intent);
                self.listing_again(turn);
                turn.step("put: write the child's intent", Some(intent), |next| self.after_write(next, intent));
            }
            Sub::RemoveChildIntent(intent) => {
                self.sub = Sub::Phase;
                turn.step("put: remove the child's intent", Some(intent), |next| {
                    self.stay(next);
                    next.delete(intent);
                });
            }
            Sub::CopyData(n) => {
                let Key::Link(_, _, _, old) = self.relied[usize::from(n)] else { return };
                if turn.has(Key::Data(old)) {
                    let fresh = self.ulid(turn);
                    self.sub = Sub::LinkCopy(n, fresh);
                    turn.step("put: copy dead data", Some(Key::Data(fresh)), |next| {
                        self.after_write(next, Key::Data(fresh));
                    });
                } else {
                    self.sub = Sub::FindAnother(n);
                    turn.step("put: dead data is gone", Some(Key::Data(old)), |next| self.stay(next));
                }
            }
            Sub::LinkCopy(n, data) => {
                let Key::Link(_, blob, _, _) = self.relied[usize::from(n)] else { return };
                let link = Key::Link(repo, blob, self.ulid(turn), data);
                self.replace(n, link, turn);
                turn.step("put: link the copy", Some(link), |next| self.after_write(next, link));
            }
            Sub::ReadChild(n) => {
                let child = self.relied[usize::from(n)];
                if !turn.has(child) {
                    self.sub = Sub::FindAnother(n);
                } else if turn.protocol.rules.child_is_put {
                    let first = u8::try_from(self.relied.len()).unwrap_or(u8::MAX);
                    let record = self.ulid(turn);
                    self.remakes.push(Remake { n, first, record, has_entry: false });
                    self.sub = Sub::Validate(0);
                } else {
                    self.sub = Sub::WriteCopy(n);
                }
                turn.step("put: read the dead child", Some(child), |next| self.stay(next));
            }
            Sub::WriteCopy(n) => {
                let Key::Record(_, child, _) = self.relied[usize::from(n)] else { return };
                let record = Key::Record(repo, child, self.ulid(turn));
                self.replace(n, record, turn);
                turn.step("put: copy the child's record", Some(record), |next| self.after_write(next, record));
            }
            Sub::FindAnother(n) => self.find_another(n, turn, &asked),
            Sub::Refuse => self.refuse(turn, &asked),
            Sub::RemoveIntents => self.remove_intents(turn),
        }
    }

    /// The manifest whose children are being relied on: the child that is put again, or the one asked for.
    fn manifest_in_hand(&self, asked: &Asked) -> Digest {
        match self.remakes.last().map(|remake| self.relied[usize::from(remake.n)]) {
            Some(Key::Record(_, child, _)) => child,
            _ => asked.digest,
        }
    }

    fn skip_what_is_empty(&mut self, turn: &Turn<'_>, asked: &Asked) {
        if let Sub::Validate(n) = self.sub {
            let manifest = self.manifest_in_hand(asked);
            if usize::from(n) == turn.protocol.scenario.children(manifest).len() {
                self.sub = if self.remakes.is_empty() { Sub::Phase } else { Sub::ChildIntent };
            }
        }
    }

    fn validate(&self, n: u8, turn: &mut Turn<'_>, asked: &Asked) {
        let child = turn.protocol.scenario.children(self.manifest_in_hand(asked))[usize::from(n)];
        let found = candidates(turn, asked.repo, child);
        if found.is_empty() {
            let mut put = self.clone();
            put.sub = match put.remakes.last() {
                _ if turn.protocol.scenario.is_blob(child) => Sub::Refuse,
                Some(_) if turn.protocol.rules.sparse_is_checked => Sub::CheckSource(n),
                _ => Sub::Validate(n + 1),
            };
            turn.step("put: validate, a child is absent", None, |next| put.stay(next));
        }
        for key in found {
            let mut put = self.clone();
            put.relied.push(key);
            put.sub = Sub::Validate(n + 1);
            turn.step("put: validate, finds", Some(key), |next| put.stay(next));
        }
    }

    /// The record of an index keeps its entries. So one that is absent while the record is there was never there, or a client
    /// deleted it. If the record is gone, both may have been collected.
    fn check_source(mut self, n: u8, turn: &mut Turn<'_>) {
        let Some(remake) = self.remakes.last().copied() else { return };
        let source = self.relied[usize::from(remake.n)];
        if turn.has(source) {
            self.sub = Sub::Validate(n + 1);
        } else {
            self.remakes.pop();
            self.relied.truncate(usize::from(remake.first));
            self.sub = Sub::FindAnother(remake.n);
        }
        turn.step("put: check the dead child that lacks one", Some(source), |next| self.stay(next));
    }

    fn phase(mut self, turn: &mut Turn<'_>, asked: &Asked) {
        let Asked { repo, digest, tags } = *asked;
        match turn.protocol.rules.put[usize::from(self.phase)] {
            Phase::Intent => {
                let intent = Key::Intent(repo, digest, self.own_record(turn));
                self.wrote.push(intent);
                self.finish_phase(turn, asked, "put: write the intent", Some(intent), |next| next.write(intent));
            }
            Phase::ListDead => self.list_dead(turn, asked),
            Phase::Check => self.check(turn, asked),
            Phase::Record => {
                let record = Key::Record(repo, digest, self.own_record(turn));
                self.wrote.push(record);
                self.finish_phase(turn, asked, "put: write the record", Some(record), |next| next.write(record));
            }
            Phase::Referrer => {
                let Some(subject) = turn.protocol.scenario.subject(digest) else { return };
                let entry = Key::Referrer(repo, subject, digest, self.own_record(turn));
                self.wrote.push(entry);
                self.finish_phase(turn, asked, "put: write the referrer entry", Some(entry), |next| next.write(entry));
            }
            Phase::BackReferences => {
                let back = Key::BackReference(repo, digest, tags[usize::from(self.at)], self.own_record(turn));
                self.wrote.push(back);
                self.finish_phase(turn, asked, "put: write the back-reference", Some(back), |next| next.write(back));
            }
            Phase::Tags => {
                let tag = tags[usize::from(self.at)];
                let target = Target { digest, record: self.own_record(turn) };
                let on = Key::BackReference(repo, digest, tag, target.record);
                self.finish_phase(turn, asked, "put: write the tag of", Some(on), |next| {
                    next.put_tag(repo, tag, target);
                });
            }
        }
    }

    fn list_dead(mut self, turn: &mut Turn<'_>, asked: &Asked) {
        let is_dead = |key: Key| {
            let data_is_dead = matches!(key, Key::Link(_, _, _, data) if turn.store().names_dead(Key::Data(data)));
            !self.trusted.contains(&key) && (turn.store().names_dead(key) || data_is_dead)
        };
        let Some((n, key)) = self.in_hand().find(|(_, key)| is_dead(*key)) else {
            return self.finish_phase(turn, asked, "put: list dead, nothing relied on is named", None, |_| {});
        };
        self.at = 0;
        self.sub = match key {
            Key::Record(..) => Sub::ReadChild(n),
            _ => Sub::CopyData(n),
        };
        turn.step("put: list dead, named is", Some(key), |next| self.stay(next));
    }

    /// One existence check per step: of a record, of a link, then of that link's data.
    fn check(mut self, turn: &mut Turn<'_>, asked: &Asked) {
        let mut checks = Vec::new();
        for (n, key) in self.in_hand() {
            checks.push((n, key));
            if let Key::Link(_, _, _, data) = key {
                checks.push((n, Key::Data(data)));
            }
        }
        let Some((n, key)) = checks.get(usize::from(self.at)).copied() else {
            return match self.remakes.last().copied() {
                Some(remake) => self.write_child_record(remake, turn, asked),
                None => self.finish_phase(turn, asked, "put: nothing to check", None, |_| {}),
            };
        };
        if !turn.has(key) {
            self.at = 0;
            self.sub = Sub::FindAnother(n);
            turn.step("put: check, missing is", Some(key), |next| self.stay(next));
        } else if usize::from(self.at) + 1 == checks.len() && self.remakes.is_empty() {
            self.finish_phase(turn, asked, "put: check, exists", Some(key), |_| {});
        } else {
            self.at += 1;
            turn.step("put: check, exists", Some(key), |next| self.stay(next));
        }
    }

    /// What the manifest in hand relies on, with where it is in `relied`.
    fn in_hand(&self) -> impl Iterator<Item = (u8, Key)> + '_ {
        let first = self.remakes.last().map_or(0, |remake| remake.first);
        (0u8..).zip(self.relied.iter().copied()).skip(usize::from(first))
    }

    /// The child's referrer entry, if it has a subject, and then its record.
    fn write_child_record(mut self, remake: Remake, turn: &mut Turn<'_>, asked: &Asked) {
        let child = self.manifest_in_hand(asked);
        if let Some(subject) = turn.protocol.scenario.subject(child).filter(|_| !remake.has_entry) {
            self.remakes.pop();
            self.remakes.push(Remake { has_entry: true, ..remake });
            let entry = Key::Referrer(asked.repo, subject, child, remake.record);
            return turn.step("put: write the child's entry", Some(entry), |next| self.after_write(next, entry));
        }
        let record = Key::Record(asked.repo, child, remake.record);
        let intent = Key::Intent(asked.repo, child, remake.record);
        self.relied.truncate(usize::from(remake.first));
        self.remakes.pop();
        self.replace(remake.n, record, turn);
        self.wrote.retain(|key| *key != intent);
        if !leaves_intents(turn.protocol) {
            self.sub = Sub::RemoveChildIntent(intent);
        }
        turn.step("put: write the child's record", Some(record), |next| self.after_write(next, record));
    }

    fn find_another(&self, n: u8, turn: &mut Turn<'_>, asked: &Asked) {
        let lost = self.relied[usize::from(n)];
        let (Key::Link(_, digest, ..) | Key::Record(_, digest, _)) = lost else { return };
        let others: Vec<_> = candidates(turn, asked.repo, digest).into_iter().filter(|key| *key != lost).collect();
        if others.is_empty() {
            let mut put = self.clone();
            put.sub = Sub::Refuse;
            turn.step("put: nothing else stands for", Some(lost), |next| put.stay(next));
        }
        for other in others {
            let mut put = self.clone();
            put.replace(n, other, turn);
            put.trusted.retain(|key| *key != other);
            turn.step("put: relies instead on", Some(other), |next| put.stay(next));
        }
    }

    fn refuse(mut self, turn: &mut Turn<'_>, asked: &Asked) {
        if leaves_intents(turn.protocol) {
            self.wrote.retain(|key| !matches!(key, Key::Intent(..)));
        }
        let Some(key) = self.wrote.pop() else {
            return turn.step("put: MANIFEST_BLOB_UNKNOWN", None, |next| next.become_actor(Actor::Refused));
        };
        let last = self.wrote.is_empty();
        turn.step("put: takes back", Some(key), |next| {
            next.become_actor(if last { Actor::Refused } else { Actor::Put(self) });
            if let Key::BackReference(repo, digest, tag, record) = key
                && next.state.store.tag(repo, tag) == Some(Target { digest, record })
                && repo == asked.repo
            {
                next.delete_tag(repo, tag);
            }
            next.delete(key);
        });
    }

    fn remove_intents(mut self, turn: &mut Turn<'_>) {
        let Some(intent) = self.wrote.pop() else { return };
        let last = self.wrote.is_empty();
        turn.step("put: remove the intent", Some(intent), |next| {
            next.become_actor(if last { Actor::Answered } else { Actor::Put(self) });
            next.delete(intent);
        });
    }

    /// Takes the last operation of a phase (or one of several) and moves on; answers when nothing is left to do.
    fn finish_phase(
        mut self,
        turn: &mut Turn<'_>,
        asked: &Asked,
        what: &'static str,
        on: Option<Key>,
        operation: impl FnOnce(&mut Next<'_>),
    ) {
        let program = turn.protocol.rules.put;
        let repeats = matches!(program[usize::from(self.phase)], Phase::BackReferences | Phase::Tags);
        if repeats && usize::from(self.at) + 1 < asked.tags.len() {
            self.at += 1;
        } else {
            self.at = 0;
            self.phase += 1;
        }
        let has_work = |phase: Phase| match phase {
            Phase::BackReferences | Phase::Tags => !asked.tags.is_empty(),
            Phase::Referrer => turn.protocol.scenario.subject(asked.digest).is_some(),
            Phase::Check => !self.relied.is_empty(),
            _ => true,
        };
        while program.get(usize::from(self.phase)).is_some_and(|phase| !has_work(*phase)) {
            self.phase += 1;
        }
        let done = usize::from(self.phase) == program.len();
        turn.step(what, on, |next| {
            operation(next);
            if !done {
                return self.stay(next);
            }
            let relied = std::mem::take(&mut self.relied);
            if next.answer(&relied) {
                self.wrote.retain(|key| matches!(key, Key::Intent(..)) && !leaves_intents(next.protocol));
                if !self.wrote.is_empty() {
                    let wrote = self.wrote;
                    next.become_actor(Actor::Put(Self { sub: Sub::RemoveIntents, wrote, ..Self::default() }));
                }
            }
        });
    }

    /// From now on relies on `key` for the n-th child, after another look at the dead.
    fn replace(&mut self, n: u8, key: Key, turn: &Turn<'_>) {
        self.relied[usize::from(n)] = key;
        if !turn.protocol.rules.fresh_is_checked {
            self.trusted.push(key);
        }
        self.listing_again(turn);
    }

    fn listing_again(&mut self, turn: &Turn<'_>) {
        self.sub = Sub::Phase;
        self.at = 0;
        let list = turn.protocol.rules.put.iter().position(|phase| *phase == Phase::ListDead);
        self.phase = list.and_then(|at| u8::try_from(at).ok()).unwrap_or(self.phase);
    }

    fn own_record(&mut self, turn: &Turn<'_>) -> Ulid {
        let record = self.record.unwrap_or_else(|| self.ulid(turn));
        self.record = Some(record);
        record
    }

    fn ulid(&mut self, turn: &Turn<'_>) -> Ulid {
        self.ulids += 1;
        u8::try_from(10 * (turn.who + 1)).unwrap_or(u8::MAX) + self.ulids - 1
    }

    fn after_write(self, next: &mut Next<'_>, key: Key) {
        self.stay(next);
        next.write(key);
    }

    fn stay(self, next: &mut Next<'_>) {
        next.become_actor(Actor::Put(self));
    }
}

/// A stale list of records would miss a manifest whose intent has just been removed.
fn leaves_intents(protocol: &Protocol) -> bool {
    protocol.scenario.place != Place::Local && protocol.rules.intents_are_left
}

/// What can be relied on for a child: links whose data exists, or records.
fn candidates(turn: &Turn<'_>, repo: Repo, child: Digest) -> Vec<Key> {
    let store = turn.store();
    if turn.protocol.scenario.is_blob(child) {
        store.links(repo, child).filter(|(_, data, _)| store.exists(Key::Data(*data))).map(|(link, ..)| link).collect()
    } else {
        store.records(repo, child).collect()
    }
}
