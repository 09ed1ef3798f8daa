//! Housekeeping beside serving: uploads that nobody finished, and garbage.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;

use crate::config::{GarbageCollection, Maintenance, UploadPurging};
use crate::metrics::{self, Metrics};
use crate::store::{Collected, Garbage, LastCollection, Store, StoreError, Terms, Told};

/// Begins it. It ends, wherever it is, when what this returns is dropped: everything it does may be broken off.
pub(super) fn begin(
    store: &Store,
    maintenance: &Maintenance,
    metrics: &Arc<Metrics>,
    last: &LastCollection,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    if maintenance.readonly.enabled {
        return tasks;
    }
    let settings = &maintenance.garbagecollection;
    let collects = settings.enabled && !settings.dryrun;
    tasks.spawn(sweep(store.clone(), maintenance.uploadpurging.clone(), !collects));
    if settings.enabled {
        let (settings, metrics, last) = (settings.clone(), Arc::clone(metrics), last.clone());
        tasks.spawn(Collector { store: store.clone(), settings, metrics, last }.run());
    }
    tasks
}

/// Removes what never ended, now and then again: uploads, unless they are to stay, and what requests that died left half-written.
/// Every replica does; they do not get into each other's way. What takes a look into each repository is left to collections, where
/// there are any.
async fn sweep(store: Store, purging: UploadPurging, nobody_collects: bool) {
    // An interval of nothing would do nothing else.
    let interval = purging.interval.get().max(Duration::from_secs(60));
    loop {
        if purging.enabled {
            match store.sweep_uploads(purging.dryrun).await {
                Ok(0) => {}
                Ok(uploads) => {
                    tracing::info!(uploads, dry_run = purging.dryrun, "uploads that nobody finished were removed");
                }
                Err(error) => tracing::error!(%error, "uploads that nobody finished cannot be removed"),
            }
        }
        if let Err(error) = store.sweep_remains().await {
            tracing::error!(%error, "what requests that died left cannot be removed");
        }
        if nobody_collects && let Err(error) = intents_and_hints(&store).await {
            tracing::error!(%error, "what requests that died left in repositories cannot be removed");
        }
        tokio::time::sleep(interval).await;
    }
}

async fn intents_and_hints(store: &Store) -> Result<(), StoreError> {
    store.sweep_intents().await?;
    store.sweep_hints().await
}

/// Collects garbage when the schedule says so. Replicas need not agree on who does: it is only cheaper when one is first, and the
/// others see that it began.
struct Collector {
    store: Store,
    settings: GarbageCollection,
    metrics: Arc<Metrics>,
    last: LastCollection,
}

/// Replicas wake up this far apart, so that one is first.
const SPREAD: Duration = Duration::from_secs(120);
/// A clock that was set, or a machine that slept, is noticed after so long.
const NAP: Duration = Duration::from_secs(600);

impl Collector {
    async fn run(self) {
        self.tell_last().await;
        let mut began = SystemTime::now();
        loop {
            let due = self.due(&mut began).await;
            let Some(due) = due else { return };
            let spread = SPREAD.mul_f64(fastrand::f64());
            while let Ok(wait) = (due + spread).duration_since(SystemTime::now()) {
                tokio::time::sleep(wait.min(NAP)).await;
            }
            // Another replica may have been first.
            if self.due(&mut began).await == Some(due) {
                began = SystemTime::now();
                self.collect().await;
            }
            self.tell_last().await;
        }
    }

    /// When the next collection should begin. One that was missed while nobody ran is made up for.
    async fn due(&self, began: &mut SystemTime) -> Option<SystemTime> {
        match self.store.last_collection_began().await {
            Ok(Some(last)) => *began = last.max(*began),
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "when garbage was last collected cannot be read"),
        }
        self.settings.schedule.next_after(*began)
    }

    async fn collect(&self) {
        let dry_run = self.settings.dryrun;
        let terms = Terms { untagged: self.settings.untagged, dry_run };
        let mut tell = |told: Told| match told {
            Told::Garbage(Garbage { key, why, bytes }) if dry_run => {
                tracing::info!(%key, %why, bytes, "would be deleted");
            }
            Told::Garbage(Garbage { key, why, bytes }) => tracing::debug!(%key, %why, bytes, "deleted"),
            Told::Marked { repositories, of } => self.metrics.collection_goes_on(repositories, of),
        };
        tracing::info!(dry_run, "garbage is being collected");
        let collected = self.store.collect(terms, &mut tell).await;
        self.metrics.collection_goes_on(0, 0);
        if !dry_run {
            self.metrics.collection_ends(collected.as_ref().ok().map(deleted));
        }
        match collected {
            Ok(Collected { manifests, blobs, bytes, repositories, spared, left_alone, .. }) => {
                let left_alone = left_alone.len();
                tracing::info!(
                    manifests,
                    blobs,
                    bytes,
                    repositories,
                    spared,
                    left_alone,
                    dry_run,
                    "garbage was collected"
                );
            }
            Err(error) => tracing::error!(%error, "garbage cannot be collected; the next collection goes on"),
        }
    }

    async fn tell_last(&self) {
        match self.store.last_collection().await {
            Ok(report) => self.last.set(report),
            Err(error) => tracing::error!(%error, "what came of the last collection cannot be read"),
        }
    }
}

fn deleted(collected: &Collected) -> metrics::Collection {
    let Collected { manifests, blobs, bytes, .. } = *collected;
    let left_alone = i64::try_from(collected.left_alone.len()).unwrap_or(i64::MAX);
    metrics::Collection { manifests, blobs, bytes, left_alone }
}
