//! Referrers: the manifests that name another one as their subject.

use std::collections::BTreeMap;

use berth_oci::{Descriptor, Digest, ManifestKind, RepositoryName};

use super::error::Result;
use super::layout::{Key, Prefix, RecordName, ReferrerName};
use super::{Page, Store};

impl Store {
    /// A page of the manifests whose subject is `subject`, ordered by digest. The subject itself need not exist.
    ///
    /// # Errors
    /// When storage fails.
    pub async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<Descriptor>> {
        let mut page = Page { items: Vec::new(), more: false };
        for (digest, names) in self.referrer_names(repository, subject).await? {
            if after.is_some_and(|after| digest.as_ref() <= after) {
                continue;
            }
            let Some(descriptor) = self.referrer(repository, subject, names).await? else { continue };
            if artifact_type.is_some_and(|wanted| descriptor.artifact_type.as_deref() != Some(wanted)) {
                continue;
            }
            if page.items.len() == limit {
                page.more = true;
                break;
            }
            page.items.push(descriptor);
        }
        Ok(page)
    }

    /// The entries by digest: a manifest that was pushed twice has two.
    async fn referrer_names(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> Result<BTreeMap<Digest, Vec<ReferrerName>>> {
        let names = self.driver.list(&Prefix::Referrers(repository.clone(), subject.clone()), usize::MAX).await?;
        let mut by_digest: BTreeMap<Digest, Vec<ReferrerName>> = BTreeMap::new();
        for name in names.iter().filter_map(|name| name.parse::<ReferrerName>().ok()) {
            by_digest.entry(name.digest.clone()).or_default().push(name);
        }
        Ok(by_digest)
    }

    /// The descriptor of the first entry whose record is there.
    async fn referrer(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        names: Vec<ReferrerName>,
    ) -> Result<Option<Descriptor>> {
        for name in names {
            let (digest, record) = (name.digest.clone(), name.record);
            let key = Key::Referrer { repository: repository.clone(), subject: subject.clone(), name };
            let Some(bytes) = self.driver.read(&key).await? else { continue };
            // One that cannot be read was torn before its manifest was answered.
            let Ok(descriptor) = serde_json::from_slice::<Descriptor>(&bytes) else { continue };
            let Some(kind) = ManifestKind::of_media_type(&descriptor.media_type) else { continue };
            if self.has_record(repository, &digest, RecordName { record, kind }).await? {
                return Ok(Some(descriptor));
            }
        }
        Ok(None)
    }
}
