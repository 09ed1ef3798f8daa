//! A number of places of which nobody takes all.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Up to `total` at a time, and of each key no more than it leaves free for others.
///
/// Who is alone gets half. Two that want everything come to rest at a third each, and leave a third; and so on. So there is a
/// place for whoever comes next, though nobody knows beforehand how many will.
///
/// `S` is what those of one key have in common while at least one of them is admitted.
#[derive(Debug)]
pub struct ConcurrencyLimit<K: Eq + Hash, S = ()>(Arc<Shared<K, S>>);

#[derive(Debug)]
struct Shared<K: Eq + Hash, S> {
    total: usize,
    places: Mutex<Places<K, S>>,
    /// Somebody has left.
    left: Notify,
}

#[derive(Debug)]
struct Places<K: Eq + Hash, S> {
    taken: usize,
    by_key: HashMap<K, (usize, Arc<S>)>,
}

impl<K: Clone + Eq + Hash, S: Default> ConcurrencyLimit<K, S> {
    /// A limit of `total` for all keys together.
    pub fn new(total: usize) -> Self {
        let places = Mutex::new(Places { taken: 0, by_key: HashMap::new() });
        Self(Arc::new(Shared { total, places, left: Notify::new() }))
    }

    /// A place, until it is dropped. `None`: all are taken, or `key` has as many as are left.
    pub fn admit(&self, key: K) -> Option<Admitted<K, S>> {
        let mut places = self.0.lock();
        let free = self.0.total.saturating_sub(places.taken);
        let own = places.by_key.get(&key).map_or(0, |(own, _)| *own);
        if own >= free {
            return None;
        }
        places.taken += 1;
        let (own, common) = places.by_key.entry(key.clone()).or_default();
        *own += 1;
        let common = Arc::clone(common);
        drop(places);
        Some(Admitted { limit: Arc::clone(&self.0), key, common })
    }
}

impl<K: Clone + Eq + Hash + Send + Sync, S: Default + Send + Sync> ConcurrencyLimit<K, S> {
    /// The same, for who waits so long for others to leave.
    pub async fn admit_within(&self, key: K, patience: Duration) -> Option<Admitted<K, S>> {
        let deadline = Instant::now() + patience;
        loop {
            let mut left = std::pin::pin!(self.0.left.notified());
            // Whoever leaves from here on is noticed.
            left.as_mut().enable();
            if let Some(admitted) = self.admit(key.clone()) {
                return Some(admitted);
            }
            tokio::time::timeout_at(deadline, left).await.ok()?;
        }
    }
}

impl<K: Eq + Hash, S> Shared<K, S> {
    fn lock(&self) -> MutexGuard<'_, Places<K, S>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub struct Admitted<K: Eq + Hash, S = ()> {
    limit: Arc<Shared<K, S>>,
    key: K,
    common: Arc<S>,
}

impl<K: Eq + Hash, S> Admitted<K, S> {
    /// What all of this key have in common.
    pub fn common(&self) -> &S {
        &self.common
    }
}

impl<K: Eq + Hash, S> Drop for Admitted<K, S> {
    fn drop(&mut self) {
        let mut places = self.limit.lock();
        places.taken = places.taken.saturating_sub(1);
        if let Some((own, _)) = places.by_key.get_mut(&self.key) {
            *own -= 1;
            if *own == 0 {
                places.by_key.remove(&self.key);
            }
        }
        drop(places);
        self.limit.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As many as `key` gets.
    fn all(limit: &ConcurrencyLimit<u8>, key: u8) -> Vec<Admitted<u8>> {
        std::iter::from_fn(|| limit.admit(key)).collect()
    }

    #[test]
    fn who_is_alone_gets_half_and_everyone_who_comes_later_finds_a_place() {
        let limit = ConcurrencyLimit::new(512);
        let first = all(&limit, 0);
        assert_eq!(first.len(), 256);
        let later: Vec<_> = (1..=8).map(|key| all(&limit, key)).collect();
        assert_eq!(later.iter().map(Vec::len).collect::<Vec<_>>(), [128, 64, 32, 16, 8, 4, 2, 1]);
        drop((first, later));
        assert_eq!(all(&limit, 9).len(), 256, "what was given back is there again");
        assert!(limit.0.lock().by_key.is_empty());
    }

    #[test]
    fn two_that_want_everything_come_to_rest_at_a_third_each() {
        let limit = ConcurrencyLimit::new(512);
        let mut greedy = [all(&limit, 0), all(&limit, 1)];
        for round in 0..2048 {
            let key = round % 2;
            greedy[key].pop();
            greedy[key].extend(all(&limit, u8::try_from(key).unwrap()));
        }
        assert!(greedy.iter().all(|places| (169..=172).contains(&places.len())), "{}", greedy[0].len());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_the_place_of_one_who_leaves_and_gives_up_in_time() {
        let limit = ConcurrencyLimit::<u8>::new(1);
        let only = limit.admit(0).unwrap();
        let begun = Instant::now();
        assert!(limit.admit_within(1, Duration::from_secs(10)).await.is_none());
        assert_eq!(begun.elapsed(), Duration::from_secs(10));
        let leaves = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            drop(only);
        };
        let (admitted, ()) = futures::join!(limit.admit_within(1, Duration::from_secs(10)), leaves);
        assert!(admitted.is_some());
        assert_eq!(begun.elapsed(), Duration::from_secs(13));
    }

    #[test]
    fn a_limit_of_one_is_one_and_of_none_is_none() {
        let limit = ConcurrencyLimit::new(1);
        let only = all(&limit, 0);
        assert_eq!((only.len(), all(&limit, 1).len()), (1, 0));
        assert!(ConcurrencyLimit::<u8>::new(0).admit(0).is_none());
    }

    proptest! {
        #[test]
        fn never_are_more_admitted_than_there_are_places(total in 0_usize..40, steps: Vec<(u8, bool)>) {
            let limit: ConcurrencyLimit<u8> = ConcurrencyLimit::new(total);
            let mut admitted: Vec<Admitted<u8>> = Vec::new();
            for (key, come) in steps {
                if come {
                    admitted.extend(limit.admit(key % 4));
                } else if !admitted.is_empty() {
                    admitted.swap_remove(usize::from(key) % admitted.len());
                }
                prop_assert!(admitted.len() <= total);
                prop_assert_eq!(limit.0.lock().taken, admitted.len());
            }
        }
    }
}
