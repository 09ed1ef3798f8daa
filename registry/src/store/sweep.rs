//! Removal of what requests left behind that never ended: uploads, intents, values that were never published.
//!
//! Nothing here is visible and nothing relies on it, so every replica sweeps when it likes and none waits for another.

use std::time::{Duration, SystemTime};

use berth_oci::Digest;
use futures::TryStreamExt;
use ulid::Ulid;

use super::Store;
use super::collect::REMOVED_AT_ONCE;
use super::error::Result;
use super::layout::{Key, Prefix, RecordName, decode};

/// A location is refused when it expires; its segments are removed a little later.
const EXPIRY_SLACK: Duration = Duration::from_hours(1);
/// How long after its end an upload may still be there: replicas look for such once a day.
pub(super) const SWEPT_WITHIN: Duration = Duration::from_hours(25);

impl Store {
    /// Removes uploads that outlived their time; with `dry_run`, only counts them. Returns how many.
    ///
    /// # Errors
    /// When storage fails. What was removed before stays removed.
    pub async fn sweep_uploads(&self, dry_run: bool) -> Result<usize> {
        let listed = self.driver.list(&Prefix::Uploads, usize::MAX).await?;
        let limit = self.upload_age + EXPIRY_SLACK;
        let uploads: Vec<Ulid> = listed.iter().filter_map(|name| name.parse().ok()).collect();
        let mut swept = 0;
        for upload in uploads.into_iter().filter(|upload| is_older(*upload, limit)) {
            swept += 1;
            if !dry_run {
                let entries = self.driver.list(&Prefix::Upload(upload), usize::MAX).await?;
                let mut keys: Vec<Key> =
                    entries.iter().filter_map(|name| format!("u/{upload}/{name}").parse().ok()).collect();
                // So that an empty directory, which a crash can leave, has a key below it and goes too.
                keys.push(Key::Cancelled { upload });
                self.driver.remove(&keys).await?;
            }
        }
        Ok(swept)
    }

    /// Removes what requests left half-written that died: values in the making, which nobody has seen.
    ///
    /// # Errors
    /// When storage fails. What was removed before stays removed.
    pub async fn sweep_remains(&self) -> Result<()> {
        self.driver.sweep(self.upload_age + EXPIRY_SLACK).await
    }

    /// A hint goes with its link, unless that is deleted before the hint is written: then nobody finds it by its link any more. It
    /// lists all links, so collections do it and not each replica that starts.
    ///
    /// # Errors
    /// When storage fails. What was removed before stays removed.
    pub async fn sweep_hints(&self) -> Result<()> {
        let mut links: Vec<u32> = Vec::new();
        for name in self.driver.list(&Prefix::Repositories, usize::MAX).await? {
            let Ok(repository) = decode(&name) else { continue };
            let prefix = Prefix::LinkedDigests(repository);
            let mut names = self.driver.scan(&prefix);
            while let Some(name) = names.try_next().await? {
                links.extend(format!("{prefix}/{name}").parse().ok().and_then(|key: Key| key.ulid()).map(fingerprint));
            }
        }
        links.sort_unstable();
        let mut hints = self.driver.scan(&Prefix::HintedDigests);
        let mut lost = Vec::new();
        while let Some(name) = hints.try_next().await? {
            let Ok(hint) = format!("{}/{name}", Prefix::HintedDigests).parse::<Key>() else { continue };
            // The link of one that is old was written before the links were listed, if it ever was.
            let is_lost = |link: Ulid| is_older(link, self.grace) && links.binary_search(&fingerprint(link)).is_err();
            if hint.ulid().is_some_and(is_lost) {
                lost.push(hint);
            }
            if lost.len() == REMOVED_AT_ONCE {
                self.driver.remove(&std::mem::take(&mut lost)).await?;
            }
        }
        self.driver.remove(&lost).await
    }

    /// Removes the intents of requests that died. A request gives up after half of the grace at most, so an intent that is older has
    /// none. Returns how many. Collections begin with it; it looks into each repository.
    ///
    /// # Errors
    /// When storage fails. What was removed before stays removed.
    pub async fn sweep_intents(&self) -> Result<usize> {
        let mut swept = 0;
        for name in self.driver.list(&Prefix::Repositories, usize::MAX).await? {
            let Ok(repository) = decode(&name) else { continue };
            // There may be very many, and requests wait meanwhile.
            tokio::task::yield_now().await;
            for digest in self.driver.list(&Prefix::IntendedDigests(repository.clone()), usize::MAX).await? {
                let Ok(digest) = digest.parse::<Digest>() else { continue };
                let names = self.driver.list(&Prefix::Intents(repository.clone(), digest.clone()), usize::MAX).await?;
                let names = names.iter().filter_map(|name| name.parse::<RecordName>().ok());
                let intent = |name| Key::Intent { repository: repository.clone(), digest: digest.clone(), name };
                let old: Vec<Key> = names.filter(|name| is_older(name.record, self.grace)).map(intent).collect();
                swept += old.len();
                self.driver.remove(&old).await?;
            }
        }
        Ok(swept)
    }
}

/// 32 of a link's 80 random bits: four bytes for each of ten million. One in the place of another keeps a hint, and that is harmless.
const fn fingerprint(link: Ulid) -> u32 {
    let [.., a, b, c, d] = link.to_bytes();
    u32::from_be_bytes([a, b, c, d])
}

fn is_older(ulid: Ulid, limit: Duration) -> bool {
    SystemTime::now().duration_since(ulid.datetime()).is_ok_and(|age| age > limit)
}
