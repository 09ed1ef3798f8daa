//! What the collector has declared dead: it is still served, but nothing may rely on it any more.
//!
//! A batch `g/dead/<run>` is written once. Its first line is the digest of the rest, the rest one key a line: a batch that
//! does not match was torn by a power cut before the collector knew that it was written, so nothing was deleted by it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use berth_oci::{Algorithm, Digest, RepositoryName};
use ulid::Ulid;

use super::Store;
use super::blob::link_key;
use super::error::Result;
use super::layout::{Key, LinkName, Prefix};

/// The dead, as of one listing.
#[derive(Debug, Default)]
pub(super) struct Dead(Vec<Arc<HashSet<String>>>);

impl Dead {
    pub(super) fn contains(&self, key: &Key) -> bool {
        !self.0.is_empty() && {
            let key = key.to_string();
            self.0.iter().any(|batch| batch.contains(&key))
        }
    }

    /// Whether a link, or the data that it leads to, is dead.
    pub(super) fn has_link(&self, repository: &RepositoryName, digest: &Digest, link: LinkName) -> bool {
        !self.0.is_empty()
            && (self.contains(&link_key(repository, digest, link)) || self.contains(&Key::Data(link.data)))
    }
}

/// Batches that were read before. They are written once, so they need not be read again while they are listed.
#[derive(Debug, Default)]
pub(super) struct DeadBatches(Mutex<HashMap<Ulid, Arc<HashSet<String>>>>);

impl Store {
    /// Lists the dead now. The second step of the rely rule.
    pub(super) async fn dead(&self) -> Result<Dead> {
        let listed = self.driver.list(&Prefix::DeadBatches, usize::MAX).await?;
        let runs: Vec<Ulid> = listed.iter().filter_map(|run| run.parse().ok()).collect();
        let mut batches = Vec::with_capacity(runs.len());
        for run in &runs {
            let known = self.dead_batches.lock().get(run).cloned();
            let batch = match known {
                Some(batch) => Some(batch),
                None => self.read_dead_batch(*run).await?,
            };
            batches.extend(batch);
        }
        self.dead_batches.lock().retain(|run, _| runs.contains(run));
        Ok(Dead(batches))
    }

    async fn read_dead_batch(&self, run: Ulid) -> Result<Option<Arc<HashSet<String>>>> {
        // A batch that is gone was retired: all that it named is gone too, as the check that follows will find.
        let Some(bytes) = self.driver.read(&Key::DeadBatch(run)).await? else { return Ok(None) };
        let Some(keys) = parse(&bytes) else {
            tracing::warn!(%run, "a batch of dead keys was torn when it was written; nothing was deleted by it");
            return Ok(None);
        };
        let batch = Arc::new(keys);
        self.dead_batches.lock().insert(run, Arc::clone(&batch));
        Ok(Some(batch))
    }
}

impl DeadBatches {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Ulid, Arc<HashSet<String>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The keys that a batch names. `None`: it is torn.
pub(super) fn parse(bytes: &[u8]) -> Option<HashSet<String>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (digest, keys) = text.split_once('\n')?;
    let digest: Digest = digest.parse().ok()?;
    digest.names(keys.as_bytes()).then(|| keys.lines().map(str::to_owned).collect())
}

/// The bytes of a batch.
pub(super) fn write(keys: &[Key]) -> String {
    let keys: String = keys.iter().map(|key| format!("{key}\n")).collect();
    format!("{}\n{keys}", Digest::of(Algorithm::Sha256, keys.as_bytes()))
}
