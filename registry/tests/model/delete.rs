//! The clients' deletions.

use crate::key::{Digest, Key, Repo, Ulid};
use crate::protocol::{Actor, Next, Turn};
use crate::rules::Request;

/// What a deletion still has to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Delete {
    /// The back-references that there were at the start.
    backs: Vec<Key>,
    /// Those of them whose tags are still to be looked at.
    tags: Vec<Key>,
    /// A tag that was read and named the record: only where the store has no conditional deletion.
    read: bool,
    records_listed: bool,
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
                    Self { keys, records_listed: true, ..Self::default() }.stay(next);
                });
            }
            Request::DeleteManifest { repo, digest } => {
                let of_digest = |key: &Key| matches!(*key, Key::BackReference(r, d, ..) if r == repo && d == digest);
                let backs: Vec<_> = turn.store().list().map(|(key, _)| key).filter(of_digest).collect();
                turn.step("delete: list the back-references", None, |next| {
                    Self { tags: backs.clone(), backs, ..Self::default() }.stay(next);
                });
            }
            _ => {}
        }
    }

    pub(crate) fn steps(self, turn: &mut Turn<'_>) {
        let Request::DeleteManifest { repo, digest } = turn.protocol.scenario.requests[turn.who] else {
            return self.delete_key(turn);
        };
        let tags_are_due = turn.protocol.rules.tags_before_records || self.records_listed && self.keys.is_empty();
        if !self.tags.is_empty() && tags_are_due {
            self.delete_tag(turn);
        } else if self.records_listed {
            self.delete_key(turn);
        } else {
            self.list_records(turn, repo, digest);
        }
    }

    /// The tag of one back-reference, if it still names that record.
    fn delete_tag(mut self, turn: &mut Turn<'_>) {
        let Some(Key::BackReference(repo, digest, tag, record)) = self.tags.first().copied() else { return };
        let by_name = turn.protocol.rules.tag_names_record;
        let target = turn.store().tag(repo, tag);
        let names_it = target.is_some_and(|target| target.digest == digest && (!by_name || target.record == record));
        if !turn.protocol.rules.untag_compares && names_it && !self.read {
            self.read = true;
            return turn.step("delete: read the tag", None, |next| self.stay(next));
        }
        let deletes = if turn.protocol.rules.untag_compares { names_it } else { self.read };
        self.read = false;
        self.tags.remove(0);
        turn.step("delete: the tag if it names the record", None, |next| {
            if deletes {
                next.delete_tag(repo, tag);
            }
            self.stay_or_answer(next);
        });
    }

    /// Listed after the back-references: so no tag of a record that was there at the start is left. A back-reference comes
    /// before its record, so one that was listed may still be waiting for it, and stays.
    fn list_records(mut self, turn: &mut Turn<'_>, repo: Repo, digest: Digest) {
        let records: Vec<_> = turn.store().records(repo, digest).collect();
        if records.is_empty() {
            return turn.step("delete: MANIFEST_UNKNOWN", None, |next| next.become_actor(Actor::Refused));
        }
        let goes = |ulid: Ulid| records.contains(&Key::Record(repo, digest, ulid));
        if turn.protocol.rules.delete_leaves_others_entries {
            self.backs.retain(|back| matches!(*back, Key::BackReference(_, _, _, ulid) if goes(ulid)));
        }
        let of_records =
            |key: &Key| matches!(*key, Key::Referrer(r, _, d, ulid) if r == repo && d == digest && goes(ulid));
        let entries = turn.store().list().map(|(key, _)| key).filter(of_records).collect();
        self.keys = [records, entries, std::mem::take(&mut self.backs)].concat();
        self.records_listed = true;
        turn.step("delete: list the records", None, |next| self.stay(next));
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
        if self.records_listed && self.tags.is_empty() && self.keys.is_empty() {
            next.answer(&[]);
        } else {
            self.stay(next);
        }
    }

    fn stay(self, next: &mut Next<'_>) {
        next.become_actor(Actor::Delete(self));
    }
}
