//! The store: write-once keys with an age, tags, and the dead batches. Each method is one operation that a driver offers,
//! or a list of one prefix.

use crate::key::{Digest, Key, Repo, Tag, Ulid};

/// How old a key looks: 0 when written, one more for each half of the grace that passes.
pub(crate) type Age = u8;
/// The age at which the grace is over.
pub(crate) const OLD: Age = 2;

/// What a tag holds: a digest, and the exact record it was written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Target {
    pub(crate) digest: Digest,
    pub(crate) record: Ulid,
}

/// Everything at rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Store {
    keys: Vec<(Key, Age)>,
    tags: Vec<((Repo, Tag), Target)>,
    dead: Vec<(u8, Vec<Key>)>,
}

impl Store {
    pub(crate) fn exists(&self, key: Key) -> bool {
        self.keys.binary_search_by_key(&key, |(key, _)| *key).is_ok()
    }

    pub(crate) fn age(&self, key: Key) -> Option<Age> {
        self.keys.iter().find(|(other, _)| *other == key).map(|(_, age)| *age)
    }

    pub(crate) fn list(&self) -> impl Iterator<Item = (Key, Age)> + '_ {
        self.keys.iter().copied()
    }

    pub(crate) fn put(&mut self, key: Key, age: Age) {
        if let Err(at) = self.keys.binary_search_by_key(&key, |(key, _)| *key) {
            self.keys.insert(at, (key, age));
        }
    }

    pub(crate) fn delete(&mut self, key: Key) {
        self.keys.retain(|(other, _)| *other != key);
    }

    /// The links of a digest in a repository, with their data and age: `list r/<repo>/_b/<digest>/`.
    pub(crate) fn links(&self, repo: Repo, digest: Digest) -> impl Iterator<Item = (Key, Ulid, Age)> + '_ {
        self.keys.iter().filter_map(move |(key, age)| match *key {
            Key::Link(r, d, _, data) if r == repo && d == digest => Some((*key, data, *age)),
            _ => None,
        })
    }

    /// The records of a digest in a repository: `list r/<repo>/_m/<digest>/`.
    pub(crate) fn records(&self, repo: Repo, digest: Digest) -> impl Iterator<Item = Key> + '_ {
        self.keys
            .iter()
            .map(|(key, _)| *key)
            .filter(move |key| matches!(*key, Key::Record(r, d, _) if r == repo && d == digest))
    }

    pub(crate) fn tag(&self, repo: Repo, tag: Tag) -> Option<Target> {
        self.tags.iter().find(|(name, _)| *name == (repo, tag)).map(|(_, target)| *target)
    }

    pub(crate) fn tags(&self) -> impl Iterator<Item = (Repo, Tag, Target)> + '_ {
        self.tags.iter().map(|((repo, tag), target)| (*repo, *tag, *target))
    }

    pub(crate) fn put_tag(&mut self, repo: Repo, tag: Tag, target: Target) {
        self.delete_tag(repo, tag);
        let at = self.tags.partition_point(|(name, _)| *name < (repo, tag));
        self.tags.insert(at, ((repo, tag), target));
    }

    pub(crate) fn delete_tag(&mut self, repo: Repo, tag: Tag) {
        self.tags.retain(|(name, _)| *name != (repo, tag));
    }

    /// `list g/dead/`, and whether one of the batches names this key.
    pub(crate) fn names_dead(&self, key: Key) -> bool {
        self.dead.iter().any(|(_, names)| names.contains(&key))
    }

    pub(crate) fn batches(&self) -> &[(u8, Vec<Key>)] {
        &self.dead
    }

    pub(crate) fn put_batch(&mut self, run: u8, names: Vec<Key>) {
        self.dead.push((run, names));
        self.dead.sort();
    }

    pub(crate) fn retire_batch(&mut self, run: u8) {
        self.dead.retain(|(other, _)| *other != run);
    }

    /// Half of the grace passes.
    pub(crate) fn grow_older(&mut self) {
        for (_, age) in &mut self.keys {
            *age = (*age + 1).min(OLD);
        }
    }
}
