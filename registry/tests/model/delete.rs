//! The clients' deletions.

use crate::key::{Digest, Key, Repo, Tag};
use crate::protocol::{Actor, Next, Turn};
use crate::rules::Request;

/// What a deletion still has to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Delete {
    /// Tags that the back-references named.
    tags: Vec<Tag>,
    /// A tag that was read and named the digest: only where the store has no conditional deletion.
    read: Option<Tag>,
    back_references: Vec<Key>,
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
                if turn.store().records(repo, digest).next().is_none() {
                    return turn.step("delete: MANIFEST_UNKNOWN", None, |next| next.become_actor(Actor::Refused));
                }
                let back: Vec<_> = turn
                    .store()
                    .list()
                    .map(|(key, _)| key)
                    .filter(|key| matches!(*key, Key::BackReference(r, d, ..) if r == repo && d == digest))
                    .collect();
                let mut tags: Vec<_> = back
                    .iter()
                    .filter_map(|key| if let Key::BackReference(_, _, tag, _) = key { Some(*tag) } else { None })
                    .collect();
                tags.dedup();
                turn.step("delete: list the back-references", None, |next| {
                    Self { tags, back_references: back, ..Self::default() }.stay(next);
                });
            }
            _ => {}
        }
    }

    pub(crate) fn steps(self, turn: &mut Turn<'_>) {
        let Request::DeleteManifest { repo, digest } = turn.protocol.scenario.requests[turn.who] else {
            return self.delete_key(turn);
        };
        let tags_first = turn.protocol.rules.tags_before_records;
        let records_are_due = self.keys.is_empty() && !self.records_listed;
        if !self.tags.is_empty() && (tags_first || self.records_listed && self.keys.is_empty()) {
            self.delete_tag(turn, repo, digest);
        } else if records_are_due {
            self.list_records(turn, repo, digest);
        } else {
            self.delete_key(turn);
        }
    }

    fn delete_tag(mut self, turn: &mut Turn<'_>, repo: Repo, digest: Digest) {
        let Some(tag) = self.tags.first().copied() else { return };
        let names_it = turn.store().tag(repo, tag).is_some_and(|target| target.digest == digest);
        if turn.protocol.rules.untag_compares {
            self.tags.remove(0);
            return turn.step("delete: the tag if it names the digest", None, |next| {
                if names_it {
                    next.delete_tag(repo, tag);
                }
                self.stay_or_answer(next);
            });
        }
        if self.read == Some(tag) || !names_it {
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

    /// Listed after the back-references: so every back-reference that goes takes its record with it.
    fn list_records(mut self, turn: &mut Turn<'_>, repo: Repo, digest: Digest) {
        let entries = turn
            .store()
            .list()
            .map(|(key, _)| key)
            .filter(|key| matches!(*key, Key::Referrer(r, _, d, _) if r == repo && d == digest));
        self.keys = entries.collect();
        self.keys.append(&mut self.back_references);
        self.keys.extend(turn.store().records(repo, digest));
        self.records_listed = true;
        turn.step("delete: list the records", None, |next| self.stay_or_answer(next));
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
        if self.tags.is_empty() && self.keys.is_empty() && self.records_listed {
            next.answer(&[]);
        } else {
            self.stay(next);
        }
    }

    fn stay(self, next: &mut Next<'_>) {
        next.become_actor(Actor::Delete(self));
    }
}
