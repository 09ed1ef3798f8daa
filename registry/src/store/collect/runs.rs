//! When collections ran, and what came of them: for the replicas to take turns by, and for people to read.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use berth_contract::status_report::CollectionReport;
use bytes::Bytes;
use ulid::Ulid;

use super::Collected;
use crate::store::Store;
use crate::store::error::{Result, StoreError};
use crate::store::layout::{Key, Prefix};

/// What came of the last collection, for those who tell of it.
#[derive(Clone, Debug, Default)]
pub struct LastCollection(Arc<Mutex<Option<CollectionReport>>>);

impl LastCollection {
    /// What came of it; absent before the first.
    pub fn get(&self) -> Option<CollectionReport> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// There was another one.
    pub fn set(&self, report: Option<CollectionReport>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = report;
    }
}

/// Results that are kept.
const KEPT: usize = 8;

impl Store {
    /// Says that a collection begins, and learns what time it is where things are stored.
    pub(super) async fn begin_run(&self) -> Result<(Ulid, SystemTime)> {
        let run = Ulid::generate();
        let key = Key::Run(run);
        self.driver.create(vec![(key.clone(), Bytes::new())], &[]).await?;
        let now = self.driver.changed(&key).await?;
        Ok((run, now.ok_or_else(|| StoreError::other(&key, "it was written and is not there"))?))
    }

    /// Stores what came of a run, and forgets the oldest ones.
    pub(super) async fn end_run(&self, run: Ulid, dry_run: bool, collected: &Result<Collected>) -> Result<()> {
        let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut result = CollectionReport {
            dry_run,
            began: seconds(run.datetime()),
            ended: seconds(SystemTime::now()),
            ..CollectionReport::default()
        };
        match collected {
            Ok(done) => {
                (result.manifests, result.blobs) = (done.manifests, done.blobs);
                (result.bytes, result.spared) = (done.bytes, done.spared);
                result.left_alone = done.left_alone.iter().map(ToString::to_string).collect();
            }
            Err(error) => result.error = Some(error.to_string()),
        }
        let key = Key::RunResult(run);
        let value = serde_json::to_vec(&result).map_err(|error| StoreError::other(&key, error))?;
        self.driver.create(vec![(key, value.into())], &[]).await?;
        let runs = self.runs().await?;
        let kept = runs.len().saturating_sub(KEPT);
        let old: Vec<Key> = runs[..kept].iter().flat_map(|run| [Key::Run(*run), Key::RunResult(*run)]).collect();
        self.driver.remove(&old).await
    }

    /// When the last collection began, by whichever replica.
    ///
    /// # Errors
    /// When storage fails.
    pub async fn last_collection_began(&self) -> Result<Option<SystemTime>> {
        Ok(self.runs().await?.into_iter().max().map(|run| run.datetime()))
    }

    /// What came of the last collection that ended, by whichever replica.
    ///
    /// # Errors
    /// When storage fails.
    pub async fn last_collection(&self) -> Result<Option<CollectionReport>> {
        for run in self.runs().await?.into_iter().rev() {
            if let Some(bytes) = self.driver.read(&Key::RunResult(run)).await?
                && let Ok(result) = serde_json::from_slice(&bytes)
            {
                return Ok(Some(result));
            }
        }
        Ok(None)
    }

    /// Those that are known of, the oldest first.
    async fn runs(&self) -> Result<Vec<Ulid>> {
        let names = self.driver.list(&Prefix::Runs, usize::MAX).await?;
        let mut runs: Vec<Ulid> = names.iter().filter_map(|name| name.split('.').next()?.parse().ok()).collect();
        runs.sort_unstable();
        runs.dedup();
        Ok(runs)
    }
}
