//! Directories that several clients share over a network. A client may be shown the list of a directory as it was a while ago: it
//! misses names that others have just written, and shows names that others have just removed. After `acdirmax` (one wait) it
//! may not. Reading a key by its name goes to the server, unless lookups are cached too.

use crate::key::Key;
use crate::protocol::{Next, State};
use crate::store::{Age, Store};

/// Where the keys are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Place {
    /// Everybody sees everything at once.
    #[default]
    Local,
    /// Lists may be stale (`lookupcache=none`).
    Network,
    /// A name that is gone may still seem to be there, too (`lookupcache=positive`).
    CachedLookups,
}

/// A change that other clients may not see yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Change {
    by: u8,
    what: Changed,
    /// One bit for each actor that is waiting and began to after the change.
    waited: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Changed {
    Written(Key),
    Removed(Key, Age),
    BatchWritten(u8),
    BatchRetired(u8, Vec<Key>),
}

impl Next<'_> {
    fn changed(&mut self, what: Changed) {
        if self.protocol.scenario.place == Place::Local {
            return;
        }
        let by = u8::try_from(self.who).unwrap_or(u8::MAX);
        self.state.unseen.push(Change { by, what, waited: 0 });
    }

    /// A key was written or removed. Data is looked up by its name, and of entries only collectors ask, when they are old.
    pub(crate) fn key_changed(&mut self, key: Key, before: Option<Age>) {
        match key {
            Key::Record(..) | Key::Intent(..) | Key::Link(..) => {}
            Key::Data(..) if self.protocol.scenario.place == Place::CachedLookups => {}
            _ => return,
        }
        match (before, self.state.store.exists(key)) {
            (None, true) => self.changed(Changed::Written(key)),
            (Some(age), false) => self.changed(Changed::Removed(key, age)),
            _ => {}
        }
    }

    pub(crate) fn put_batch(&mut self, run: u8, names: Vec<Key>) {
        self.state.store.put_batch(run, names);
        self.changed(Changed::BatchWritten(run));
    }

    pub(crate) fn retire_batch(&mut self, run: u8) {
        let names = self.state.store.batches().iter().find(|(other, _)| *other == run).map(|(_, names)| names.clone());
        self.state.store.retire_batch(run);
        if let Some(names) = names {
            self.changed(Changed::BatchRetired(run, names));
        }
    }

    /// Everything that has changed by now will be seen by all when this wait is over.
    pub(crate) fn begin_to_wait(&mut self) {
        for change in &mut self.state.unseen {
            change.waited |= 1 << self.who;
        }
    }

    pub(crate) fn end_of_wait(&mut self) {
        let bit = 1 << self.who;
        self.state.unseen.retain(|change| change.waited & bit == 0);
    }
}

/// What lists may show to an actor: each change of another one is seen or not.
pub(crate) fn views(state: &State, who: usize) -> Vec<Store> {
    let mut views = vec![state.store.clone()];
    for change in state.unseen.iter().rev().filter(|change| usize::from(change.by) != who) {
        let without = views.iter().map(|view| {
            let mut view = view.clone();
            match &change.what {
                Changed::Written(key) => view.delete(*key),
                Changed::Removed(key, age) => view.put(*key, *age),
                Changed::BatchWritten(run) => view.retire_batch(*run),
                Changed::BatchRetired(run, names) => view.put_batch(*run, names.clone()),
            }
            view
        });
        let without: Vec<Store> = without.collect();
        views.extend(without);
    }
    views.sort_unstable();
    views.dedup();
    views
}
