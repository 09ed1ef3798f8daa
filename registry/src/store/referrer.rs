//! Referrers: the manifests that name another one as their subject.

use std::collections::{BTreeMap, btree_map};

use berth_oci::{Descriptor, Digest, ManifestKind, RepositoryName};

use super::Store;
use super::error::Result;
use super::layout::{Key, Prefix, RecordName, ReferrerName};

/// The manifests whose subject is one digest, ordered by digest. The names were listed once; each entry is read when it is asked
/// for, because its annotations may be as large as a manifest.
#[derive(Debug)]
pub struct Referrers<'a> {
    store: &'a Store,
    repository: &'a RepositoryName,
    subject: &'a Digest,
    artifact_type: Option<&'a str>,
    names: btree_map::IntoIter<Digest, Vec<ReferrerName>>,
}

impl Referrers<'_> {
    /// The next one.
    ///
    /// # Errors
    /// When storage fails.
    pub async fn next(&mut self) -> Result<Option<Descriptor>> {
        for (_, names) in self.names.by_ref() {
            // There may be very many of another type, and requests wait meanwhile.
            tokio::task::coop::consume_budget().await;
            let Some(descriptor) = self.store.referrer(self.repository, self.subject, names).await? else { continue };
            if self.artifact_type.is_none_or(|wanted| descriptor.artifact_type.as_deref() == Some(wanted)) {
                return Ok(Some(descriptor));
            }
        }
        Ok(None)
    }
}

impl Store {
    /// The manifests whose subject is `subject` and whose digest comes after `after`. The subject itself need not exist.
    ///
    /// # Errors
    /// When storage fails.
    pub async fn referrers<'a>(
        &'a self,
        repository: &'a RepositoryName,
        subject: &'a Digest,
        artifact_type: Option<&'a str>,
        after: Option<&str>,
    ) -> Result<Referrers<'a>> {
        let mut names = self.referrer_names(repository, subject).await?;
        if let Some(after) = after {
            names.retain(|digest, _| digest.as_ref() > after);
        }
        Ok(Referrers { store: self, repository, subject, artifact_type, names: names.into_iter() })
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
            // One that cannot be read is damaged.
            let Ok(descriptor) = serde_json::from_slice::<Descriptor>(&bytes) else { continue };
            let Some(kind) = ManifestKind::of_media_type(&descriptor.media_type) else { continue };
            if self.has_record(repository, &digest, RecordName { record, kind }).await? {
                return Ok(Some(descriptor));
            }
        }
        Ok(None)
    }
}
