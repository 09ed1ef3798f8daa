//! The repositories.

use berth_oci::RepositoryName;

use super::error::Result;
use super::layout::{Prefix, decode, encode};
use super::{Page, Store};

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
            for repository in names.items.iter().filter_map(|name| decode(name).ok()) {
                // One that has only uploads, or whose manifests were all deleted, is nobody's business.
                if !self.driver.list(&Prefix::RecordedDigests(repository.clone()), 1).await?.is_empty() {
                    page.items.push(repository);
                }
            }
        }
        Ok(page)
    }
}
