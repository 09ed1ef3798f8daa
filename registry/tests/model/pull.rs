//! A reader: GET by tag, then GET of the blobs.

use crate::key::{Digest, Key, Repo, Tag};
use crate::protocol::{Actor, Next, Turn};
use crate::rules::Request;
use crate::store::Target;

/// What a reader remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Pull {
    target: Option<Target>,
    /// Its record was not there.
    gone: bool,
    /// The manifest that was read.
    manifest: Option<Digest>,
    /// The child that comes next, the links that were listed for it, and those of them that are still to try.
    child: u8,
    listed: Vec<Key>,
    left: Vec<Key>,
}

impl Pull {
    pub(crate) fn steps(self, turn: &mut Turn<'_>) {
        let Request::Pull { repo, tag } = turn.protocol.scenario.requests[turn.who] else { return };
        let Some(manifest) = self.manifest else { return self.resolve(turn, repo, tag) };
        let children = turn.protocol.scenario.children(manifest);
        match children.get(usize::from(self.child)) {
            Some(blob) if self.left.is_empty() => self.list_links(turn, repo, *blob),
            Some(_) => self.read_data(turn, children.len()),
            None => {}
        }
    }

    /// A record that is gone may only mean that the tag has moved on between the two reads.
    fn resolve(mut self, turn: &mut Turn<'_>, repo: Repo, tag: Tag) {
        let Some(target) = self.target.filter(|_| !self.gone) else {
            let target = turn.store().tag(repo, tag);
            let absent =
                target.is_none() || self.gone && (self.target == target || !turn.protocol.rules.reader_looks_again);
            self.target = target;
            self.gone = false;
            return turn.step(
                "pull: read the tag",
                None,
                |next| if absent { not_found(next) } else { self.stay(next) },
            );
        };
        let record = Key::Record(repo, target.digest, target.record);
        if !turn.has(record) {
            self.gone = true;
            return turn.step("pull: the record is gone", Some(record), |next| self.stay(next));
        }
        let done = turn.protocol.scenario.children(target.digest).is_empty();
        self.manifest = Some(target.digest);
        turn.step("pull: read the record", Some(record), |next| {
            if done { next.become_actor(Actor::Answered) } else { self.stay(next) }
        });
    }

    /// Lists the links, once more if all of the last list led nowhere.
    fn list_links(mut self, turn: &mut Turn<'_>, repo: Repo, blob: Digest) {
        let links: Vec<_> = turn.store().links(repo, blob).map(|(link, ..)| link).collect();
        let gives_up = links.is_empty()
            || links == self.listed
            || !self.listed.is_empty() && !turn.protocol.rules.reader_looks_again;
        self.listed.clone_from(&links);
        self.left = links;
        turn.step("pull: list the links", None, |next| if gives_up { not_found(next) } else { self.stay(next) });
    }

    fn read_data(mut self, turn: &mut Turn<'_>, children: usize) {
        let link = self.left.remove(0);
        let Key::Link(_, _, _, data) = link else { return };
        if !turn.has(Key::Data(data)) {
            return turn.step("pull: the data is gone of", Some(link), |next| self.stay(next));
        }
        self.child += 1;
        self.left.clear();
        self.listed.clear();
        let done = usize::from(self.child) == children;
        turn.step("pull: read the data of", Some(link), |next| {
            if done { next.become_actor(Actor::Answered) } else { self.stay(next) }
        });
    }

    fn stay(self, next: &mut Next<'_>) {
        next.become_actor(Actor::Pull(self));
    }
}

/// In the scenarios with a reader nobody deletes what it reads.
fn not_found(next: &mut Next<'_>) {
    next.become_actor(Actor::Refused);
    next.state.broken.pull = true;
}
