//! A driver whose reads are coalesced: however many ask for the same at the same time, a few requests are made. When a new image
//! starts on every node at once, each of its small objects is asked for by all of them, and a bucket sells requests.
//!
//! Nobody is given an answer to a request that had begun before they asked: it may be older than a write that was answered
//! meanwhile. Who comes while one is under way waits for its end, and shares the next one with all who came until then.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::Hash;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::future::{BoxFuture, Shared};
use futures::stream::BoxStream;
use futures::{FutureExt, TryStreamExt};

use super::{Content, Driver, Honoured, Page, Stage, UnfitError};
use crate::store::error::{Result, StoreError};
use crate::store::layout::{Key, Prefix};

/// The driver behind, asked less.
#[derive(Debug)]
pub(crate) struct Coalesced {
    behind: Arc<dyn Driver>,
    reads: Flights<Key, Option<Bytes>>,
    sizes: Flights<Key, Option<u64>>,
    small_ranges: Flights<(Key, Range<u64>), Option<Part>>,
    lists: Flights<(Prefix, usize), Vec<String>>,
}

/// How long a request waits for the one before it. Most take milliseconds; one may hang for as long as a connection does.
const PATIENCE: Duration = Duration::from_secs(1);

/// The size of a whole value, and a range of it.
type Part = (u64, Bytes);

/// What is held for all who want it, in bytes: the configuration of an image, but no layer. A larger range is each reader's own.
const SMALL: u64 = 64 << 10;

impl Coalesced {
    pub(crate) fn new(behind: Arc<dyn Driver>) -> Self {
        Self {
            behind,
            reads: Flights::default(),
            sizes: Flights::default(),
            small_ranges: Flights::default(),
            lists: Flights::default(),
        }
    }
}

#[async_trait]
impl Driver for Coalesced {
    async fn read(&self, key: &Key) -> Result<Option<Bytes>> {
        let (behind, wanted) = (Arc::clone(&self.behind), key.clone());
        self.reads.join(key.clone(), async move { behind.read(&wanted).await }).await
    }

    async fn size(&self, key: &Key) -> Result<Option<u64>> {
        let (behind, wanted) = (Arc::clone(&self.behind), key.clone());
        self.sizes.join(key.clone(), async move { behind.size(&wanted).await }).await
    }

    async fn open(&self, key: &Key, range: Range<u64>) -> Result<Option<Content>> {
        if range.end.saturating_sub(range.start) > SMALL {
            return self.behind.open(key, range).await;
        }
        let (behind, wanted) = (Arc::clone(&self.behind), (key.clone(), range.clone()));
        let read = async move {
            let (key, range) = wanted;
            let Some(content) = behind.open(&key, range).await? else { return Ok(None) };
            let size = content.size();
            let bytes = content.stream().try_fold(BytesMut::new(), |mut bytes, piece| {
                bytes.extend_from_slice(&piece);
                futures::future::ok(bytes)
            });
            let bytes = bytes.await.map_err(|error| StoreError::io(format_args!("read {key}"), error))?;
            Ok(Some((size, bytes.freeze())))
        };
        let read = self.small_ranges.join((key.clone(), range), read).await?;
        Ok(read.map(|(size, bytes)| Content::of_bytes(size, bytes)))
    }

    async fn list(&self, prefix: &Prefix, limit: usize) -> Result<Vec<String>> {
        let (behind, wanted) = (Arc::clone(&self.behind), prefix.clone());
        self.lists.join((prefix.clone(), limit), async move { behind.list(&wanted, limit).await }).await
    }

    async fn create(&self, values: Vec<(Key, Bytes)>, also: &[Key]) -> Result<()> {
        self.behind.create(values, also).await
    }

    async fn leave(&self, values: Vec<(Key, Bytes)>) -> Result<()> {
        self.behind.leave(values).await
    }

    async fn stage(&self, key: Key) -> Result<Box<dyn Stage>> {
        self.behind.stage(key).await
    }

    async fn duplicate(&self, from: &Key, to: &Key, size: u64) -> Result<bool> {
        self.behind.duplicate(from, to, size).await
    }

    async fn join(&self, parts: &[Key], to: &Key) -> Result<bool> {
        self.behind.join(parts, to).await
    }

    async fn sizes(&self, prefix: &Prefix) -> Result<Vec<(String, u64)>> {
        self.behind.sizes(prefix).await
    }

    async fn page(&self, prefix: &Prefix, after: Option<&str>, limit: usize) -> Result<Page<String>> {
        self.behind.page(prefix, after, limit).await
    }

    fn scan(&self, prefix: &Prefix) -> BoxStream<'static, Result<String>> {
        self.behind.scan(prefix)
    }

    async fn changed(&self, key: &Key) -> Result<Option<SystemTime>> {
        self.behind.changed(key).await
    }

    async fn remove(&self, keys: &[Key]) -> Result<()> {
        self.behind.remove(keys).await
    }

    async fn replace(&self, tag: &Key, value: Bytes) -> Result<()> {
        self.behind.replace(tag, value).await
    }

    async fn remove_tag_if(&self, tag: &Key, expected: &Bytes) -> Result<bool> {
        self.behind.remove_tag_if(tag, expected).await
    }

    async fn walk(&self) -> Result<Vec<String>> {
        self.behind.walk().await
    }

    async fn sweep(&self, age: Duration) -> Result<()> {
        self.behind.sweep(age).await
    }

    fn staleness(&self) -> Duration {
        self.behind.staleness()
    }

    async fn location(&self, key: &Key) -> Result<Option<String>> {
        self.behind.location(key).await
    }

    async fn probe(&self) -> std::result::Result<Honoured, UnfitError> {
        self.behind.probe().await
    }
}

/// Requests of one kind that are under way, by what they ask for.
struct Flights<K, T>(Arc<Mutex<HashMap<K, Flight<T>>>>);

/// For one thing that is asked for.
struct Flight<T> {
    /// Held by the request that is under way.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// The request that begins next, while it has not begun.
    next: Option<Shared<BoxFuture<'static, Result<T>>>>,
}

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, T> fmt::Debug for Flights<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").field("under_way", &lock(&self.0).len()).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Clone + Eq + Hash + Send + 'static, T: Clone + Send + Sync + 'static> Flights<K, T> {
    /// The answer to `ask`, or to another request for the same that had not begun when this was called.
    async fn join(&self, key: K, ask: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        let next = match lock(&self.0).entry(key.clone()) {
            Entry::Occupied(mut flight) => {
                let flight = flight.get_mut();
                let turn = Arc::clone(&flight.turn);
                flight.next.get_or_insert_with(|| self.take_off(key, turn, ask)).clone()
            }
            Entry::Vacant(place) => {
                let turn = Arc::default();
                let next = self.take_off(key, Arc::clone(&turn), ask);
                place.insert(Flight { turn, next: Some(next.clone()) });
                next
            }
        };
        next.await
    }

    /// In a task of its own, because those who wait for it may all go away, and others come.
    fn take_off(
        &self,
        key: K,
        turn: Arc<tokio::sync::Mutex<()>>,
        ask: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Shared<BoxFuture<'static, Result<T>>> {
        let flights = Arc::clone(&self.0);
        let flight = tokio::spawn(async move {
            // One that hangs holds up the one after it for so long only.
            let turn = tokio::time::timeout(PATIENCE, turn.lock()).await.ok();
            if let Some(flight) = lock(&flights).get_mut(&key) {
                flight.next = None;
            }
            let answer = ask.await;
            drop(turn);
            if let Entry::Occupied(flight) = lock(&flights).entry(key)
                && flight.get().next.is_none()
            {
                flight.remove();
            }
            answer
        });
        flight.map(|answer| answer.unwrap_or_else(|stopped| Err(StoreError::other("read", stopped)))).boxed().shared()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    /// Something that is read slowly: each read takes what is there when it begins, and ends when it is let go.
    struct Place {
        value: AtomicUsize,
        reads: AtomicUsize,
        let_go: Semaphore,
        flights: Flights<&'static str, usize>,
    }

    impl Place {
        fn new() -> Arc<Self> {
            let (value, reads) = (AtomicUsize::new(0), AtomicUsize::new(0));
            Arc::new(Self { value, reads, let_go: Semaphore::new(0), flights: Flights::default() })
        }

        /// Asks, and returns once the request is under way or waited for.
        async fn ask(self: &Arc<Self>) -> tokio::task::JoinHandle<Result<usize>> {
            let place = Arc::clone(self);
            let asked = tokio::spawn(async move {
                let read = Arc::clone(&place);
                let read = async move {
                    read.reads.fetch_add(1, Ordering::SeqCst);
                    let value = read.value.load(Ordering::SeqCst);
                    read.let_go.acquire().await.unwrap().forget();
                    if value == 99 { Err(StoreError::other("read", "no")) } else { Ok(value) }
                };
                place.flights.join("x", read).await
            });
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            asked
        }

        fn reads(&self) -> usize {
            self.reads.load(Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn who_asks_while_a_request_is_under_way_shares_the_next_one() {
        let place = Place::new();
        let first = place.ask().await;
        place.value.store(1, Ordering::SeqCst);
        let mut later = Vec::new();
        for _ in 0..100 {
            later.push(place.ask().await);
        }
        assert_eq!(place.reads(), 1);
        place.let_go.add_permits(2);
        assert_eq!(first.await.unwrap().unwrap(), 0);
        for asked in later {
            assert_eq!(asked.await.unwrap().unwrap(), 1, "the first read had begun before they asked");
        }
        assert_eq!(place.reads(), 2);
        assert!(lock(&place.flights.0).is_empty(), "nothing is kept of what has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_after_a_request_that_hangs_waits_a_moment_only() {
        let place = Place::new();
        let _hangs = place.ask().await;
        place.value.store(1, Ordering::SeqCst);
        let later = place.ask().await;
        tokio::time::sleep(PATIENCE * 2).await;
        assert_eq!(place.reads(), 2);
        place.let_go.add_permits(2);
        assert_eq!(later.await.unwrap().unwrap(), 1);
    }

    #[tokio::test]
    async fn a_request_goes_on_when_all_who_waited_for_it_have_gone() {
        let place = Place::new();
        let (first, second) = (place.ask().await, place.ask().await);
        first.abort();
        second.abort();
        place.value.store(2, Ordering::SeqCst);
        place.let_go.add_permits(3);
        assert_eq!(place.ask().await.await.unwrap().unwrap(), 2);
        tokio::task::yield_now().await;
        assert!(lock(&place.flights.0).is_empty());
    }

    #[tokio::test]
    async fn a_failure_is_told_to_all_who_share_it_and_to_nobody_else() {
        let place = Place::new();
        let first = place.ask().await;
        place.value.store(99, Ordering::SeqCst);
        let (second, third) = (place.ask().await, place.ask().await);
        place.let_go.add_permits(2);
        first.await.unwrap().unwrap();
        for asked in [second, third] {
            assert_eq!(asked.await.unwrap().unwrap_err().to_string(), "read: no");
        }
        place.value.store(3, Ordering::SeqCst);
        place.let_go.add_permits(1);
        assert_eq!(place.ask().await.await.unwrap().unwrap(), 3);
    }
}
