//! What can be derived from what is there, and nothing else. It writes what a push wrote or would have written, under the names that
//! that has; nothing that a client can see comes of it but bytes that are what they should be. So it may run beside serving
//! replicas, which look at a damaged blob again after an hour.

use berth_oci::{Digest, Hasher, Manifest, RepositoryName};
use bytes::Bytes;
use futures::StreamExt as _;

use super::{Check, Damaged};
use crate::store::error::{Result, StoreError};
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

    /// Writes sound bytes of the same digest over damaged ones, if there are any. No link is written: a client may have deleted the
    /// blob meanwhile, and that must stay so.
    pub(super) async fn mend_blob(&mut self, damaged: &Damaged) -> Result<bool> {
        if !self.mends {
            return Ok(false);
        }
        let Some(sound) = self.sound(damaged).await? else { return Ok(false) };
        let (from, to) = (Key::Data(sound.data), Key::Data(damaged.link.data));
        let Some(content) = self.store.driver.open(&from, 0..sound.size).await? else { return Ok(false) };
        let mut stage = self.store.driver.stage(to.clone()).await?;
        let mut hasher = Hasher::new(damaged.digest.algorithm());
        let mut pieces = content.stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| StoreError::io(format_args!("read {from}"), error))?;
            hasher.update(&piece);
            stage.write(vec![piece]).await?;
        }
        if hasher.finish() != damaged.digest {
            return Ok(false);
        }
        stage.publish().await?;
        self.store.driver.create(Vec::new(), &[to]).await?;
        Ok(true)
    }

    /// A link that leads to bytes of the digest, in whatever repository.
    async fn sound(&mut self, damaged: &Damaged) -> Result<Option<LinkName>> {
        let mut repositories = vec![damaged.repository.clone()];
        repositories.extend(self.store.repositories_hinting_at(&damaged.digest).await?);
        for repository in repositories {
            for link in self.store.links(&repository, &damaged.digest).await? {
                if self.unsound.contains(&link.data) {
                    continue;
                }
                let opened = self.store.driver.open(&Key::Data(link.data), 0..link.size).await?;
                if let Some(content) = opened.filter(|content| content.size() == link.size)
                    && self.has_digest(content, &damaged.digest).await?
                {
                    return Ok(Some(link));
                }
            }
        }
        Ok(None)
    }
}
