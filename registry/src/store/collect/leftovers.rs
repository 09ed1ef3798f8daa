//! Batches that an earlier collection wrote and did not finish: it died, or something in them was referred to again.

use std::collections::HashSet;

use futures::{StreamExt, TryStreamExt};
use ulid::Ulid;

use super::{Batch, Candidate, Collection, PARALLEL, Round, WAITS_TO_MARK_AGAIN, WAITS_TO_RETIRE, Why};
use crate::store::dead;
use crate::store::error::Result;
use crate::store::layout::{Key, Prefix};

/// What became of what earlier batches name.
pub(super) struct TakenOver {
    pub(super) deleted: usize,
    pub(super) spared: u64,
}

impl Collection<'_> {
    /// Goes on from the second mark with every batch that is there. What is spared again stays dead, and its batch with it: a
    /// push that needs it gives it a fresh incarnation, of which this one is a duplicate then. A collector must not do that, as
    /// it would bring back what a client deletes at the same moment.
    pub(super) async fn take_over(&mut self) -> Result<TakenOver> {
        let batches = self.leftover_batches().await?;
        if batches.is_empty() {
            return Ok(TakenOver { deleted: 0, spared: 0 });
        }
        // They may have been written a moment ago.
        self.until_all_see(WAITS_TO_MARK_AGAIN).await;
        let keys = batches.iter().flat_map(|batch| batch.keys.iter().cloned());
        let (data, others): (Vec<_>, Vec<_>) =
            self.still_there(keys.collect()).await?.into_iter().partition(|c| matches!(c.key, Key::Data(_)));

        let mut round = Round { candidates: others, ..Round::default() };
        let mut spared = self.mark_again(&mut round).await?;
        self.delete(&round.candidates).await?;
        let mut deleted = round.candidates.len();
        self.count(round.candidates, 0);

        let mut data = data;
        let linked = if data.is_empty() { HashSet::new() } else { self.mark_data_again(&mut data).await? };
        self.delete(&data).await?;
        deleted += data.len();
        self.count(data, 0);

        self.until_all_see(WAITS_TO_RETIRE).await;
        spared.extend(linked);
        self.retire(batches, &spared).await?;
        Ok(TakenOver { deleted, spared: spared.len() as u64 })
    }

    async fn leftover_batches(&self) -> Result<Vec<Batch>> {
        let listed = self.store.driver.list(&Prefix::DeadBatches, usize::MAX).await?;
        let mut batches = Vec::new();
        for batch in listed.iter().filter_map(|name| name.parse::<Ulid>().ok()) {
            let key = Key::DeadBatch(batch);
            let Some(bytes) = self.store.driver.read(&key).await? else { continue };
            match dead::parse(&bytes) {
                Some(names) => {
                    let keys = names.iter().filter_map(|name| name.parse().ok()).collect();
                    batches.push(Batch { batch, keys });
                }
                // Torn by a power cut, so nothing was deleted by it; unless it is being written this moment.
                None if self.is_old(&key) => self.store.driver.remove(&[key]).await?,
                None => {}
            }
        }
        Ok(batches)
    }

    async fn still_there(&self, keys: HashSet<Key>) -> Result<Vec<Candidate>> {
        let look = |key: Key| async move {
            let size = self.store.driver.size(&key).await?;
            Ok(size.map(|bytes| Candidate { key, why: Why::LeftOver, bytes }))
        };
        let looked = futures::stream::iter(keys).map(look).buffered(PARALLEL);
        looked.try_filter_map(|candidate| async { Ok(candidate) }).try_collect().await
    }
}
