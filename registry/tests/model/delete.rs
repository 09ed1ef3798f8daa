//! The clients' deletions.

use crate::key::{Digest, Key, Repo, Tag, Ulid};
use crate::protocol::{Actor, Next, Turn};
use crate::rules::Request;

/// What a deletion still has to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Delete {
    /// The records that there were at the start: exactly these go.
    records: Vec<Key>,
    /// The back-references of these records were listed.
    listed: bool,
    /// Tags that they named.
    tags: Vec<Tag>,
    /// A tag that was read and named one of the records: only where the store has no conditional deletion.
    read: Option<Tag>,
    /// Exact names, in the order in which they go.
    keys: Vec<Key>,
}

impl Delete {
    /// The first step: a list, or for a tag the deletion itself.
    pub(crate) fn begin(turn: &mut Turn<'_>) {
        match turn.protocol.scenario.requests[turn.who] {
            Request::DeleteTag { repo, tag } => turn.step("delete: the tag, 202", None, |next| {
                next.delete_tag(repo, tag);
                next.answer(&[]);
            }),
            Request::DeleteBlob { repo, digest } => {
                let keys: Vec<_> = turn.store().links(repo, digest).map(|(link, ..)| link).collect();
                if keys.is_empty() {
                    return turn.step("delete: BLOB_UNKNOWN", None, |next| next.become_actor(Actor::Refused));
                }
                turn.step("delete: list the links", None, |next| {
                    Self { keys, listed: true, ..Self::default() }.stay(next);
                });
            }
            Request::DeleteManifest { repo, digest } => {
                let records: Vec<_> = turn.store().records(repo, digest).collect();
                if records.is_empty() {
                    return turn.step("delete: MANIFEST_UNKNOWN", None, |next| next.become_actor(Actor::Refused));
                }
                turn.step("delete: list the records", None, |next| Self { records, ..Self::default() }.stay(next));
            }
            _ => {}
        }
    }

    pub(crate) fn steps(self, turn: &mut Turn<'_>) {
        let Request::DeleteManifest { repo, digest } = turn.protocol.scenario.requests[turn.who] else {
            return self.delete_key(turn);
        };
        let tags_are_due = turn.protocol.rules.tags_before_records || self.keys.is_empty();
        if !self.listed {
            self.list_back_references(turn, repo, digest);
        } else if !self.tags.is_empty() && tags_are_due {
            self.delete_tag(turn, repo);
        } else {
            self.delete_key(turn);
        }
    }

    /// Only those of the records that go: another one's tag must still be found by the next deletion.
    fn list_back_references(mut self, turn: &mut Turn<'_>, repo: Repo, digest: Digest) {
        let goes = |record: Ulid| self.records.contains(&Key::Record(repo, digest, record));
        let (mut backs, mut entries) = (Vec::new(), Vec::new());
        for (key, _) in turn.store().list() {
            match key {
                Key::BackReference(r, d, tag, record) if r == repo && d == digest && goes(record) => {
                    backs.push(key);
                    self.tags.push(tag);
                }
                Key::Referrer(r, _, d, record) if r == repo && d == digest && goes(record) => entries.push(key),
                _ => {}
            }
        }
        self.tags.dedup();
        self.listed = true;
        self.keys = [self.records.clone(), entries, backs].concat();
        turn.step("delete: list the back-references", None, |next| self.stay(next));
    }

    fn delete_tag(mut self, turn: &mut Turn<'_>, repo: Repo) {
        let Some(tag) = self.tags.first().copied() else { return };
        let by_name = turn.protocol.rules.tag_names_record;
        let names_one = turn.store().tag(repo, tag).is_some_and(|target| {
            let names = |record: Ulid| !by_name || target.record == record;
            self.records
                .iter()
                .any(|key| matches!(*key, Key::Record(_, d, record) if d == target.digest && names(record)))
        });
        if turn.protocol.rules.untag_compares {
            self.tags.remove(0);
            return turn.step("delete: the tag if it names one of the records", None, |next| {
                if names_one {
                    next.delete_tag(repo, tag);
                }
                self.stay_or_answer(next);
            });
        }
        if self.read == Some(tag) || !names_one {
            let deletes = self.read.take() == Some(tag);
            self.tags.remove(0);
            return turn.step("delete: the tag that was read", None, |next| {
                if deletes {
                    next.delete_tag(repo, tag);
                }
                self.stay_or_answer(next);
            });
        }
        self.read = Some(tag);
        turn.step("delete: read the tag", None, |next| self.stay(next));
    }

    fn delete_key(mut self, turn: &mut Turn<'_>) {
        if self.keys.is_empty() {
            return;
        }
        let key = self.keys.remove(0);
        turn.step("delete:", Some(key), |next| {
            next.delete(key);
            self.stay_or_answer(next);
        });
    }

    fn stay_or_answer(self, next: &mut Next<'_>) {
        if self.tags.is_empty() && self.keys.is_empty() {
            next.answer(&[]);
        } else {
            self.stay(next);
        }
    }

    fn stay(self, next: &mut Next<'_>) {
        next.become_actor(Actor::Delete(self));
    }
}
