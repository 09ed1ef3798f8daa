//! A place that keeps the promises of the driver's page and nothing more. Before each operation it lets others go first, it
//! creates several values one by one and in any order, and it ends a request that was given a short life: dead between two
//! operations, or told that one failed, which may have happened all the same.

use std::ops::Range;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::Notify;

use super::*;
use crate::store::driver::{Content, Driver, Page, Stage};

/// How a request ends that does not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing of it happens any more.
    Dies,
    /// One operation does not happen.
    FailsBefore,
    /// One operation happens and says that it did not.
    FailsAfter,
}

/// The operations that a request has left.
#[derive(Debug)]
struct Life {
    left: AtomicI64,
    end: End,
    under_way: AtomicUsize,
    is_over: Notify,
}

tokio::task_local! {
    static LIFE: Arc<Life>;
}

/// Runs a request that ends in its `left`th operation, if it has so many. `None`: it died there, with nothing under way.
pub(super) async fn short_lived<T>(left: u64, end: End, request: impl Future<Output = T>) -> Option<T> {
    let left = AtomicI64::new(left.cast_signed());
    let life = Arc::new(Life { left, end, under_way: AtomicUsize::new(0), is_over: Notify::new() });
    tokio::select! {
        biased;
        done = LIFE.scope(Arc::clone(&life), request) => Some(done),
        () = life.is_over.notified() => None,
    }
}

impl Life {
    fn announce(&self) {
        if self.left.load(Ordering::SeqCst) <= 0 && self.under_way.load(Ordering::SeqCst) == 0 {
            self.is_over.notify_one();
        }
    }

    async fn step<T>(&self, operation: impl Future<Output = Result<T>>) -> Result<T> {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        match self.end {
            End::Dies if left <= 1 => {
                self.announce();
                std::future::pending().await
            }
            End::Dies => {
                self.under_way.fetch_add(1, Ordering::SeqCst);
                let done = operation.await;
                self.under_way.fetch_sub(1, Ordering::SeqCst);
                self.announce();
                done
            }
            End::FailsBefore if left == 1 => Err(StoreError::other("do it", "the disk is on fire")),
            End::FailsAfter if left == 1 => {
                operation.await?;
                Err(StoreError::other("hear of it", "the disk is on fire"))
            }
            End::FailsBefore | End::FailsAfter => operation.await,
        }
    }
}

/// Another driver, made so.
#[derive(Debug)]
pub(super) struct Unhurried {
    driver: Arc<dyn Driver>,
}

impl Unhurried {
    pub(super) fn store(driver: Arc<dyn Driver>) -> Store {
        Store::on(Arc::new(Self { driver }))
    }

    async fn let_others_first(&self) {
        if fastrand::u8(..3) == 0 {
            tokio::task::yield_now().await;
        }
    }

    async fn step<T>(&self, operation: impl Future<Output = Result<T>>) -> Result<T> {
        self.let_others_first().await;
        match LIFE.try_with(Arc::clone) {
            Ok(life) => life.step(operation).await,
            Err(_) => operation.await,
        }
    }
}

#[async_trait]
impl Driver for Unhurried {
    async fn create(&self, mut values: Vec<(Key, Bytes)>, also: &[Key]) -> Result<()> {
        while values.len() > 1 {
            let value = values.swap_remove(fastrand::usize(..values.len()));
            self.step(self.driver.create(vec![value], also)).await?;
        }
        self.step(self.driver.create(values, also)).await
    }

    async fn leave(&self, values: Vec<(Key, Bytes)>) -> Result<()> {
        self.step(self.driver.leave(values)).await
    }

    async fn stage(&self, key: Key) -> Result<Box<dyn Stage>> {
        self.step(self.driver.stage(key)).await
    }

    async fn duplicate(&self, from: &Key, to: &Key, size: u64) -> Result<bool> {
        self.step(self.driver.duplicate(from, to, size)).await
    }

    async fn join(&self, parts: &[Key], to: &Key) -> Result<bool> {
        self.step(self.driver.join(parts, to)).await
    }

    async fn read(&self, key: &Key) -> Result<Option<Bytes>> {
        self.step(self.driver.read(key)).await
    }

    async fn size(&self, key: &Key) -> Result<Option<u64>> {
        self.step(self.driver.size(key)).await
    }

    async fn open(&self, key: &Key, range: Range<u64>) -> Result<Option<Content>> {
        self.step(self.driver.open(key, range)).await
    }

    async fn list(&self, prefix: &Prefix, limit: usize) -> Result<Vec<String>> {
        self.step(self.driver.list(prefix, limit)).await
    }

    async fn sizes(&self, prefix: &Prefix) -> Result<Vec<(String, u64)>> {
        self.step(self.driver.sizes(prefix)).await
    }

    async fn page(&self, prefix: &Prefix, after: Option<&str>, limit: usize) -> Result<Page<String>> {
        self.step(self.driver.page(prefix, after, limit)).await
    }

    fn scan(&self, prefix: &Prefix) -> BoxStream<'static, Result<String>> {
        let names = self.driver.scan(prefix);
        let slowly = |name| async {
            if fastrand::u8(..8) == 0 {
                tokio::task::yield_now().await;
            }
            name
        };
        names.then(slowly).boxed()
    }

    async fn changed(&self, key: &Key) -> Result<Option<SystemTime>> {
        self.step(self.driver.changed(key)).await
    }

    async fn remove(&self, keys: &[Key]) -> Result<()> {
        let mut keys = keys;
        while let [first, rest @ ..] = keys {
            self.step(self.driver.remove(std::slice::from_ref(first))).await?;
            keys = rest;
        }
        Ok(())
    }

    async fn replace(&self, tag: &Key, value: Bytes) -> Result<()> {
        self.step(self.driver.replace(tag, value)).await
    }

    async fn remove_tag_if(&self, tag: &Key, expected: &Bytes) -> Result<bool> {
        self.step(self.driver.remove_tag_if(tag, expected)).await
    }

    fn staleness(&self) -> Duration {
        self.driver.staleness()
    }

    async fn walk(&self) -> Result<Vec<String>> {
        self.driver.walk().await
    }

    async fn sweep(&self, age: Duration) -> Result<()> {
        self.driver.sweep(age).await
    }
}
