//! The repositories.

use berth_oci::RepositoryName;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::error::Result;
use super::layout::{Prefix, decode, encode};
use super::{Page, Store};

/// Repositories that are looked into at the same time: each is a request to a bucket.
const AT_ONCE: usize = 64;

impl Store {
    /// A page of the repositories that hold a manifest, ordered bytewise but with `/` after every other character, which is
    /// the order in which every kind of storage can list them.
    ///
    /// # Errors
    /// When storage fails.
    pub async fn repositories(&self, after: Option<&str>, limit: usize) -> Result<Page<RepositoryName>> {
        let mut page = Page { items: Vec::new(), more: true };
        let mut after = after.map(encode);
        while page.more && page.items.len() < limit {
            let wanted = limit - page.items.len();
            let names = self.driver.page(&Prefix::Repositories, after.as_deref(), wanted).await?;
            page.more = names.more;
            after = names.items.last().cloned();
            let named = names.items.into_iter().filter_map(|name| decode(&name).ok());
            let mut looked =
                stream::iter(named).map(|repository| self.holding_a_manifest(repository)).buffered(AT_ONCE);
            while let Some(repository) = looked.try_next().await? {
                page.items.extend(repository);
            }
        }
        Ok(page)
    }

    /// One that has only uploads, or whose manifests were all deleted, is nobody's business.
    async fn holding_a_manifest(&self, repository: RepositoryName) -> Result<Option<RepositoryName>> {
        let recorded = self.driver.list(&Prefix::RecordedDigests(repository.clone()), 1).await?;
        Ok((!recorded.is_empty()).then_some(repository))
    }
}
