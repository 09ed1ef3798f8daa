//! The end of an upload, and mounts.

use crate::key::{Digest, Key, Repo, Ulid};
use crate::protocol::{Actor, Next, Turn};
use crate::rules::Request;

/// What a request that makes a repository a member of a blob's readers remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct BlobPush {
    step: BlobStep,
    /// The data that the link leads to.
    data: Ulid,
    /// Its own link, or the one that it answers for.
    link: Option<Key>,
    /// The data with the bytes that this request received.
    own: Option<Ulid>,
    reuses: bool,
    ulids: Ulid,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum BlobStep {
    #[default]
    Begin,
    Choose,
    WriteLink,
    ListDead,
    CopyData,
    CheckLink,
    CheckData,
    RemoveLink,
}

impl BlobPush {
    pub(crate) fn steps(self, turn: &mut Turn<'_>) {
        let (repo, digest) = match turn.protocol.scenario.requests[turn.who] {
            Request::Mount { to, digest, .. } => (to, digest),
            Request::Finish { repo, digest } => (repo, digest),
            _ => return,
        };
        match self.step {
            BlobStep::Begin => self.begin(turn),
            BlobStep::Choose => self.choose(turn, repo, digest),
            BlobStep::WriteLink => self.write_link(turn, repo, digest),
            BlobStep::ListDead => self.list_dead(turn),
            BlobStep::CopyData => self.copy_data(turn),
            BlobStep::CheckLink => {
                let mut push = self;
                let exists = push.link.is_some_and(|link| turn.has(link));
                let link = push.link;
                if exists {
                    push.step = BlobStep::CheckData;
                } else {
                    push.use_own();
                }
                turn.step("finish: check the link", link, |next| push.stay(next));
            }
            BlobStep::CheckData => self.check_data(turn),
            BlobStep::RemoveLink => self.remove_link(turn),
        }
    }

    fn begin(mut self, turn: &mut Turn<'_>) {
        match turn.protocol.scenario.requests[turn.who] {
            Request::Mount { from, digest, .. } => {
                let links: Vec<_> = turn.store().links(from, digest).collect();
                for (link, data, _) in links {
                    let push = Self { step: BlobStep::WriteLink, data, ..self.clone() };
                    turn.step("mount: finds", Some(link), |next| push.stay(next));
                }
            }
            _ => {
                let own = self.ulid(turn);
                self.own = Some(own);
                self.step = BlobStep::Choose;
                turn.step("finish: write the data", Some(Key::Data(own)), |next| {
                    self.stay(next);
                    next.write(Key::Data(own));
                });
            }
        }
    }

    /// A hint or a link leads to older data; nothing about it is trusted yet.
    fn choose(self, turn: &mut Turn<'_>, repo: Repo, digest: Digest) {
        let mut own = self.clone();
        own.use_own();
        turn.step("finish: uses its own data", None, |next| own.stay(next));
        let older: Vec<_> = [0, 1].into_iter().flat_map(|repo| turn.store().links(repo, digest)).collect();
        for (link, data, age) in older {
            let push = Self { step: BlobStep::WriteLink, data, ..self.clone() };
            turn.step("finish: adopts the data of", Some(link), |next| push.stay(next));
            let rules = &turn.protocol.rules;
            let in_repo = matches!(link, Key::Link(r, ..) if r == repo);
            if in_repo && (rules.reuse_any_link || rules.reuse_young_link && age == 0) {
                let push = Self { step: BlobStep::ListDead, data, link: Some(link), reuses: true, ..self.clone() };
                turn.step("finish: relies on the young link", Some(link), |next| push.stay(next));
            }
        }
    }

    fn write_link(mut self, turn: &mut Turn<'_>, repo: Repo, digest: Digest) {
        let link = Key::Link(repo, digest, self.ulid(turn), self.data);
        self.link = Some(link);
        if self.own == Some(self.data) {
            return turn.step("finish: link its own data, 201", Some(link), |next| {
                next.write(link);
                next.answer(&[link]);
            });
        }
        self.step = BlobStep::ListDead;
        turn.step("mount/finish: write the link", Some(link), |next| {
            self.stay(next);
            next.write(link);
        });
    }

    fn list_dead(mut self, turn: &mut Turn<'_>) {
        let named = turn.store().names_dead(Key::Data(self.data))
            || self.link.is_some_and(|link| turn.store().names_dead(link));
        if !named {
            self.step = if self.reuses { BlobStep::CheckLink } else { BlobStep::CheckData };
            if !turn.protocol.rules.blob_is_checked {
                let link = self.link;
                return turn.step("mount/finish: list dead, 201", link, |next| {
                    next.answer(link.as_slice());
                });
            }
            return turn.step("mount/finish: list dead, not named", None, |next| self.stay(next));
        }
        if self.own.is_some() {
            self.use_own();
        } else {
            let keeps = turn.protocol.rules.mount_keeps_link;
            self.step = if keeps { BlobStep::CopyData } else { BlobStep::RemoveLink };
        }
        turn.step("mount/finish: list dead, named", None, |next| self.stay(next));
    }

    fn copy_data(mut self, turn: &mut Turn<'_>) {
        let old = Key::Data(self.data);
        if !turn.has(old) {
            self.step = BlobStep::RemoveLink;
            return turn.step("mount: dead data is gone", Some(old), |next| self.stay(next));
        }
        self.data = self.ulid(turn);
        self.step = BlobStep::WriteLink;
        let fresh = Key::Data(self.data);
        turn.step("mount: copy dead data", Some(fresh), |next| {
            self.stay(next);
            next.write(fresh);
        });
    }

    fn check_data(mut self, turn: &mut Turn<'_>) {
        let data = Key::Data(self.data);
        if turn.has(data) {
            let link = self.link;
            return turn.step("mount/finish: check the data, 201", Some(data), |next| {
                next.answer(link.as_slice());
            });
        }
        if self.reuses {
            self.use_own();
        } else {
            self.step = BlobStep::RemoveLink;
        }
        turn.step("mount/finish: check, missing is", Some(data), |next| self.stay(next));
    }

    /// Only the link to data that is gone is ever removed (unless a rule is broken).
    fn remove_link(mut self, turn: &mut Turn<'_>) {
        let Some(link) = self.link.take() else { return };
        let refused = self.own.is_none();
        if !refused {
            self.use_own();
        }
        turn.step("mount/finish: remove its own link", Some(link), |next| {
            next.become_actor(if refused { Actor::Refused } else { Actor::Blob(self) });
            next.delete(link);
        });
    }

    fn use_own(&mut self) {
        self.data = self.own.unwrap_or(u8::MAX);
        self.link = None;
        self.reuses = false;
        self.step = BlobStep::WriteLink;
    }

    fn ulid(&mut self, turn: &Turn<'_>) -> Ulid {
        self.ulids += 1;
        u8::try_from(10 * (turn.who + 1)).unwrap_or(u8::MAX) + self.ulids - 1
    }

    fn stay(self, next: &mut Next<'_>) {
        next.become_actor(Actor::Blob(self));
    }
}
