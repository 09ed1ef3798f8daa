//! What can be derived from what is there, and nothing else. It writes what a push wrote or would have written, under the names that
//! that has; nothing that a client can see comes of it but bytes that are what they should be. So it may run beside serving
//! replicas, which look at a damaged blob again after an hour.

use berth_oci::{Digest, Hasher, Manifest, RepositoryName};
use bytes::Bytes;
use futures::TryStreamExt as _;

use super::{Check, Damaged};
use crate::store::body;
use crate::store::error::{BodyError, Result, StoreError};
use crate::store::layout::{Key, LinkName, RecordName};
use crate::store::manifest;

impl Check<'_> {
    /// Lists a referrer by its subject again. `false`: that was not wanted.
    pub(super) async fn mend_referrer(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        record: RecordName,
        manifest: &Manifest,
        size: usize,
    ) -> Result<bool> {
        let entry = manifest::referrer_entry(repository, digest, manifest, size, record.record)?;
        let (true, Some(entry)) = (self.mends, entry) else { return Ok(false) };
        self.store.driver.create(vec![entry], &[]).await?;
        Ok(true)
    }

    /// Lets deletions by digest find a tag again.
    pub(super) async fn mend_back_reference(&self, back_reference: Key) -> Result<bool> {
        if self.mends {
            self.store.driver.create(vec![(back_reference, Bytes::new())], &[]).await?;
        }
        Ok(self.mends)
    }

    /// Writes sound bytes of the same digest over damaged ones, if there are any, in whatever repository. No link is written: a client
    /// may have deleted the blob meanwhile, and that must stay so.
    pub(super) async fn mend_blob(&self, damaged: &Damaged) -> Result<bool> {
        if !self.mends {
            return Ok(false);
        }
        let mut repositories = vec![damaged.repository.clone()];
        repositories.extend(self.store.repositories_hinting_at(&damaged.digest).await?);
        for repository in repositories {
            for link in self.store.links(&repository, &damaged.digest).await? {
                if !self.unsound.contains(&link.data) && self.copy_if_sound(link, damaged).await? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Writes what a link leads to over damaged bytes. `false`: it is gone, or damaged too, and nothing was written.
    async fn copy_if_sound(&self, from: LinkName, damaged: &Damaged) -> Result<bool> {
        let to = Key::Data(damaged.link.data);
        let Some(content) = self.store.content(from, 0..from.size).await? else { return Ok(false) };
        let mut stage = self.store.driver.stage(to.clone()).await?;
        let pieces = content.stream().map_err(|error| BodyError(error.into()));
        let received = body::receive(stage.as_mut(), Hasher::new(damaged.digest.algorithm()), pieces).await?;
        received.end.map_err(|error| StoreError::other(format_args!("read {}", Key::Data(from.data)), error))?;
        if received.hasher.finish() != damaged.digest {
            return Ok(false);
        }
        stage.publish().await?;
        self.store.driver.create(Vec::new(), &[to]).await?;
        Ok(true)
    }
}
