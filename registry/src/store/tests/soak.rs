//! The soak: pushes, deletions and re-pushes of few things by many at once, beside collectors that never rest, with next to no
//! grace, and requests that die or fail at any operation. Whatever was answered is looked at again and again, by what the
//! history of all requests allows; in the end all garbage must be gone.
//!
//! `BERTH_SOAK` says how many pushes, deletions and re-pushes.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use berth_contract::config::Untagged;

use super::collect::{kept, tick};
use super::*;
use crate::store::driver::{Object, Posix};
use crate::store::{Collected, Terms};

mod end;
mod history;
mod pusher;
mod unhurried;

use history::History;
use pusher::Pusher;
use unhurried::{End, Unhurried, short_lived};

const REPOSITORIES: [&str; 3] = ["a", "a/b", "c"];
const PUSHERS: usize = 8;
const COLLECTORS: usize = 2;
/// The smallest that leaves a request time on a machine with much else to do: it has half of it.
const GRACE: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_answered_is_lost_in_a_directory() {
    let memory = Path::new("/dev/shm");
    let root = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    soak("a directory", Unhurried::store(Arc::new(Posix::open(root.path()).unwrap()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_answered_is_lost_in_a_bucket() {
    soak("a bucket", Unhurried::store(Arc::new(Object::in_memory()))).await;
}

/// What everybody shares.
struct World {
    store: Store,
    history: History,
    requests: u64,
    begun: AtomicU64,
    stop: AtomicBool,
    tally: Tally,
    collections: Collections,
}

impl World {
    /// Until there were so many requests, and collectors have taken something of each kind in their midst.
    fn goes_on(&self) -> bool {
        let begun = self.begun.fetch_add(1, Ordering::SeqCst);
        begun < self.requests || begun < 100 * self.requests && !self.collections.took_of_each_kind()
    }
}

/// What happened, in numbers.
#[derive(Debug, Default)]
struct Tally {
    manifests: AtomicU64,
    pushed_again: AtomicU64,
    blobs: AtomicU64,
    deletions: AtomicU64,
    not_answered: AtomicU64,
    refused: AtomicU64,
    looks: AtomicU64,
    excused: AtomicU64,
    seen_gone: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

async fn soak(place: &str, store: Store) {
    let requests = std::env::var("BERTH_SOAK").map_or(300, |count| count.parse().unwrap());
    let world = Arc::new(World {
        store: store.with_grace(GRACE),
        history: History::default(),
        requests,
        begun: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        tally: Tally::default(),
        collections: Collections::default(),
    });
    let began = Instant::now();
    let collectors: Vec<_> = (0..COLLECTORS).map(|_| tokio::spawn(collect_without_rest(Arc::clone(&world)))).collect();
    let pushers: Vec<_> = (0..PUSHERS).map(|own| tokio::spawn(Pusher::new(Arc::clone(&world), own).run())).collect();
    let mut done = Vec::new();
    for pusher in pushers {
        done.push(pusher.await.unwrap());
    }
    world.stop.store(true, Ordering::Relaxed);
    for collector in collectors {
        collector.await.unwrap();
    }
    eprintln!("{place}: {:.0} s: {:#?}\n{:#?}", began.elapsed().as_secs_f32(), world.tally, world.collections);
    assert!(world.collections.took_of_each_kind(), "nothing was collected meanwhile");
    end::all_is_there_and_no_more(&world, done).await;
    end::nothing_is_left_of_nothing(&world.store).await;
}

/// What collections took.
#[derive(Debug, Default)]
struct Collections {
    runs: AtomicU64,
    died_or_failed: AtomicU64,
    records: AtomicU64,
    links: AtomicU64,
    data: AtomicU64,
    entries: AtomicU64,
    spared: AtomicU64,
}

impl Collections {
    fn took(&self, collected: &Collected) {
        let Collected { manifests, links, blobs, entries, spared, .. } = collected;
        let taken = [
            (&self.records, manifests),
            (&self.links, links),
            (&self.data, blobs),
            (&self.entries, entries),
            (&self.spared, spared),
        ];
        for (counter, taken) in taken {
            counter.fetch_add(*taken, Ordering::Relaxed);
        }
    }

    fn took_of_each_kind(&self) -> bool {
        [&self.records, &self.links, &self.data].iter().all(|taken| taken.load(Ordering::Relaxed) > 0)
    }
}

const TERMS: Terms = Terms { untagged: Untagged::Delete, dry_run: false };

async fn collect_without_rest(world: Arc<World>) {
    while !world.stop.load(Ordering::Relaxed) {
        count(&world.collections.runs);
        if fastrand::u8(..4) > 0 {
            world.collections.took(&world.store.collect(TERMS, &mut |_| {}).await.unwrap());
            continue;
        }
        let end = [End::Dies, End::FailsBefore, End::FailsAfter][fastrand::usize(..3)];
        let collection = async { world.store.collect(TERMS, &mut |_| {}).await };
        match short_lived(fastrand::u64(1..400), end, collection).await {
            Some(Ok(collected)) => world.collections.took(&collected),
            Some(Err(_)) | None => count(&world.collections.died_or_failed),
        }
    }
}
