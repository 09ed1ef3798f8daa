//! What can be derived from what is there, and nothing else. Whatever it writes a push would have written, under a name that nobody
//! had before or that says the same; so it may run beside serving replicas.

use berth_oci::{Digest, Manifest, RepositoryName};
use bytes::Bytes;
use ulid::Ulid;

use super::{Check, Damaged};
use crate::store::blob::{hint_of, link_key};
use crate::store::error::Result;
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

    /// Links sound bytes of the same digest instead of damaged ones, if there are any.
    pub(super) async fn mend_blob(&mut self, damaged: &Damaged) -> Result<bool> {
        let Damaged { repository, digest, link } = damaged;
        if !self.mends {
            return Ok(false);
        }
        let Some(sound) = self.sound(damaged).await? else { return Ok(false) };
        let fresh = LinkName { link: Ulid::generate(), data: Ulid::generate(), size: sound.size };
        if !self.store.driver.duplicate(&Key::Data(sound.data), &Key::Data(fresh.data), sound.size).await? {
            return Ok(false);
        }
        self.store.link_to_own(repository, digest, fresh.data, fresh.size).await?;
        // Not before: somebody may rely on the blob being in the repository.
        let damaged = link_key(repository, digest, *link);
        self.store.driver.remove(&hint_of(&damaged).into_iter().collect::<Vec<_>>()).await?;
        self.store.driver.remove(&[damaged]).await?;
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
