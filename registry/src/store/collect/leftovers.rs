//! Batches that an earlier collection wrote and did not finish: it died, or something in them was referred to again.

use std::collections::HashSet;

use futures::{StreamExt, TryStreamExt};
use ulid::Ulid;

use super::second_mark::Keeping;
use super::{Batch, Candidate, Collection, PARALLEL, Round, Why};
use crate::store::dead;
use crate::store::error::Result;
use crate::store::layout::{Key, Prefix};

impl Collection<'_> {
    /// Goes on from the second mark with every batch that is there. What is spared once more gets a fresh incarnation, so that
    /// the next collection can delete it and let its batch go.
    pub(super) async fn take_over(&mut self) -> Result<()> {
        let batches = self.leftover_batches().await?;
        let keys = batches.iter().flat_map(|batch| batch.keys.iter().cloned());
        let (data, others): (Vec<_>, Vec<_>) =
            self.still_there(keys.collect()).await?.into_iter().partition(|c| matches!(c.key, Key::Data(_)));

        let mut round = Round { candidates: others, ..Round::default() };
        let mut spared = self.mark_again(&mut round).await?;
        self.delete(&round.candidates).await?;
        self.count(round.candidates, spared.len());

        let mut data = data;
        let kept = if data.is_empty() { Default::default() } else { self.mark_data_again(&mut data).await? };
        self.delete(&data).await?;
        self.count(data, kept.len());

        for key in &spared {
            self.relieve(key).await?;
        }
        for keeping in kept.values() {
            self.relieve_data(keeping).await?;
        }
        spared.extend(kept.into_keys().map(Key::Data));
        self.retire(batches, &spared).await
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

    /// Makes another of what was spared, as any push would that met it. It is the younger one, so this one becomes a duplicate.
    async fn relieve(&self, key: &Key) -> Result<()> {
        match key {
            Key::Link { repository, digest, name } => {
                self.store.fresh_incarnation(repository, digest, *name).await?;
            }
            Key::Record { repository, digest, name } => {
                // No other record can stand for one that a tag names.
                let is_tagged = self.is_tagged(repository, digest, name.record).await?;
                if !is_tagged {
                    self.store.record_once_more(repository, digest, *name).await?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    async fn relieve_data(&self, (repository, digest, link): &Keeping) -> Result<()> {
        let dead = self.store.dead().await?;
        let links = self.store.links(repository, digest).await?;
        if links.iter().all(|other| dead.has_link(repository, digest, *other)) {
            self.store.fresh_incarnation(repository, digest, *link).await?;
        }
        Ok(())
    }
}
