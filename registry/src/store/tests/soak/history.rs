//! What clients asked for, and when: by it a reader knows what must be there and what must not.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use berth_oci::Digest;

/// A blob or a manifest of a repository.
pub(super) type Thing = (&'static str, Digest);

/// A moment: a number that only grows.
pub(super) type Moment = u64;

/// When something was asked for last.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    under_way: usize,
    ended: Moment,
}

/// Requests of one kind.
#[derive(Debug, Default)]
struct Requests(Mutex<HashMap<Thing, Asked>>);

impl Requests {
    fn change(&self, things: &[Thing], change: impl Fn(&mut Asked)) {
        let mut asked = self.0.lock().unwrap();
        things.iter().for_each(|thing| change(asked.entry(thing.clone()).or_default()));
    }

    fn any_since(&self, thing: &Thing, since: Moment) -> bool {
        self.0.lock().unwrap().get(thing).is_some_and(|asked| asked.under_way > 0 || asked.ended > since)
    }
}

/// What all clients asked for.
#[derive(Debug, Default)]
pub(super) struct History {
    now: AtomicU64,
    deletions: Requests,
    puts: Requests,
}

/// A request under way.
pub(super) struct Span<'a> {
    history: &'a History,
    requests: &'a Requests,
    things: Vec<Thing>,
    pub(super) began: Moment,
}

impl Drop for Span<'_> {
    fn drop(&mut self) {
        let ended = self.history.now();
        self.requests.change(&self.things, |asked| {
            asked.under_way -= 1;
            asked.ended = ended;
        });
    }
}

impl History {
    fn now(&self) -> Moment {
        self.now.fetch_add(1, Ordering::SeqCst)
    }

    fn begin<'a>(&'a self, requests: &'a Requests, things: Vec<Thing>) -> Span<'a> {
        requests.change(&things, |asked| asked.under_way += 1);
        Span { history: self, requests, things, began: self.now() }
    }

    /// Somebody deletes something.
    pub(super) fn deletes(&self, thing: &Thing) -> Span<'_> {
        self.begin(&self.deletions, vec![thing.clone()])
    }

    /// Somebody brings these, or relies on them.
    pub(super) fn puts(&self, things: Vec<Thing>) -> Span<'_> {
        self.begin(&self.puts, things)
    }

    /// Whether a client may have deleted it, if it was put from `since` on.
    pub(super) fn was_deleted(&self, thing: &Thing, since: Moment) -> bool {
        self.deletions.any_since(thing, since)
    }

    /// Whether a client may have brought it, if it was deleted from `since` on.
    pub(super) fn was_put(&self, thing: &Thing, since: Moment) -> bool {
        self.puts.any_since(thing, since)
    }
}
