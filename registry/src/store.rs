//! What a registry keeps: blobs, manifests, tags, referrers and uploads, in a directory or a bucket that describes itself.
//!
//! This is the only room that knows bytes at rest. It knows nothing of HTTP, of who asks, or of Kubernetes. There is no
//! database: every index here can be thrown away and built again from the keys that `layout` draws.
//!
//! Three rules carry everything (`docs/storage.md` has the whole protocol, why it is safe, and the model that was checked):
//! - *Write once.* Every key but a tag holds a fresh ULID and is removed only by its exact name.
//! - *Rely.* Who relies on something older writes its own reference, then lists the dead, then looks whether it is there.
//! - *Dead is final.* What the collector has once named dead is served while it lasts, but never relied on again.
//!
//! Rooms: `layout` (names, pure), `driver` (places where bytes are kept), `body` (bytes on their way in), `blob`, `upload`,
//! `manifest`, `tag`, `referrer`, `catalog` (what the API is about), `soundness` (whether bytes are what they were), `collect` (of garbage), `dead` (the collector's word),
//! `deadline`, `sweep` (of what requests left behind), `check`, `error`.

use std::borrow::Cow;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use berth_contract::config;
use berth_oci::{ManifestKind, Reference, RepositoryName};
use ipnet::IpNet;

mod blob;
mod body;
mod catalog;
mod check;
mod collect;
#[cfg(test)]
mod costs;
mod dead;
mod deadline;
mod driver;
mod error;
mod layout;
mod manifest;
mod referrer;
mod soundness;
mod sweep;
mod tag;
#[cfg(test)]
mod tests;
mod upload;

pub use blob::Blob;
pub use check::{Checked, Finding, Severity};
pub use collect::{Collected, Garbage, LastCollection, Tell, Terms, Told, Why};
pub use driver::{ContentStream, Honoured, Page, UnfitError};
pub use error::{BodyError, Result, StoreError, StoreErrorKind};
pub use manifest::{PutManifestError, StoredManifest};
pub use referrer::Referrers;
pub use upload::{UploadError, UploadState};

use driver::{Coalesced, Driver, Object, Posix};

/// A registry's storage. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    driver: Arc<dyn Driver>,
    dead_batches: Arc<dead::DeadBatches>,
    soundness: Arc<soundness::Soundness>,
    /// Whether who reads a large blob may be told where else it is.
    redirects: bool,
    /// Who may not.
    redirect_except: Arc<[IpNet]>,
    upload_age: Duration,
    grace: Duration,
}

/// Why storage cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration names none, or more than one.
    #[error("storage must be exactly one of filesystem, s3, gcs, azure and inmemory")]
    NotOne,
    /// There is nothing to look at from outside the process.
    #[error("storage.inmemory: what is kept in memory can only be seen by the process that keeps it")]
    NotKept,
    /// The directory cannot be used.
    #[error("storage.filesystem.rootdirectory: {0}")]
    Posix(#[from] driver::OpenPosixError),
    /// The bucket cannot be used.
    #[error(transparent)]
    Bucket(#[from] driver::OpenBucketError),
}

impl Store {
    /// Opens the storage that the configuration names.
    ///
    /// # Errors
    /// When it cannot be used; the message says what to change.
    pub fn open(config: &config::Storage) -> std::result::Result<Self, OpenError> {
        let store = match (&config.filesystem, bucket(config, config.redirects())?, &config.inmemory) {
            (Some(filesystem), None, None) => Self::filesystem(filesystem)?,
            (None, Some(bucket), None) => Self::on(Arc::new(Coalesced::new(Arc::new(bucket)))),
            (None, None, Some(_)) => Self::in_memory(),
            (None, None, None) => Self::filesystem(&config::Filesystem::default())?,
            _ => return Err(OpenError::NotOne),
        };
        let redirect_except = config.redirect.except.clone().into();
        Ok(Self { redirect_except, ..store.maintained_as(&config.maintenance) })
    }

    fn maintained_as(self, maintenance: &config::Maintenance) -> Self {
        let upload_age = maintenance.uploadpurging.age.get();
        Self { upload_age, grace: maintenance.garbagecollection.grace.get(), ..self }
    }

    /// Opens the storage that the configuration names for looking only: nothing is made, not even the directory.
    ///
    /// # Errors
    /// When there is none, or it is of a kind that ends with its process.
    pub fn open_to_read(config: &config::Storage) -> std::result::Result<Self, OpenError> {
        let driver: Arc<dyn Driver> = match (&config.filesystem, bucket(config, false)?, &config.inmemory) {
            (_, _, Some(_)) => return Err(OpenError::NotKept),
            (None, Some(bucket), None) => Arc::new(bucket),
            (filesystem, ..) => Arc::new(Posix::open_to_read(&filesystem.clone().unwrap_or_default().rootdirectory)?),
        };
        Ok(Self::on(driver).maintained_as(&config.maintenance))
    }

    /// Storage in a directory.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn posix(root: &Path) -> std::result::Result<Self, driver::OpenPosixError> {
        Ok(Self::on(Arc::new(Posix::open(root)?)))
    }

    fn filesystem(filesystem: &config::Filesystem) -> std::result::Result<Self, driver::OpenPosixError> {
        let posix = Posix::open(&filesystem.rootdirectory)?;
        if filesystem.shared {
            posix.share()?;
        }
        let staleness = posix.staleness();
        if !staleness.is_zero() {
            tracing::info!(
                "the directory is on a network file system whose lists may be {staleness:?} old: collections wait for that"
            );
        }
        Ok(Self::on(Arc::new(posix)))
    }

    /// Storage that ends with the process.
    pub fn in_memory() -> Self {
        Self::on(Arc::new(Object::in_memory()))
    }

    /// Finds out by trying whether the place keeps what storage needs of it.
    ///
    /// # Errors
    /// When it does not, or cannot be asked; the message says what to change.
    pub async fn probe(&self) -> std::result::Result<Honoured, UnfitError> {
        self.driver.probe().await
    }

    /// The same storage, for a client at this address, who may reach it only through us.
    #[must_use]
    pub fn for_client(&self, address: IpAddr) -> Cow<'_, Self> {
        // A socket for every address says of who came over IPv4 that they came from ::ffff:a.b.c.d.
        let address = address.to_canonical();
        let is_excepted = self.redirect_except.iter().any(|network| network.contains(&address));
        if is_excepted { Cow::Owned(Self { redirects: false, ..self.clone() }) } else { Cow::Borrowed(self) }
    }

    /// The same storage, with another limit for how long an upload may take.
    #[must_use]
    pub fn with_upload_age(self, upload_age: Duration) -> Self {
        Self { upload_age, ..self }
    }

    /// The same storage, with another age below which nothing is collected. Replicas that share storage must share it, within
    /// what [`Store::collect`]'s page says.
    #[must_use]
    pub fn with_grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    fn on(driver: Arc<dyn Driver>) -> Self {
        let upload_age = config::UploadPurging::default().age.get();
        Self {
            driver,
            dead_batches: Arc::default(),
            soundness: Arc::default(),
            redirects: true,
            redirect_except: Arc::default(),
            upload_age,
            grace: deadline::GRACE,
        }
    }

    /// For a request that begins to write.
    fn deadline(&self) -> deadline::Deadline {
        deadline::Deadline::begin(self.grace)
    }

    /// Every key that is stored, sorted, with `*` for each ULID: what a test compares with what should be there.
    ///
    /// # Errors
    /// When storage fails.
    pub async fn stored_keys(&self) -> Result<Vec<String>> {
        let is_ulid = |part: &&str| part.len() == 26 && part.parse::<ulid::Ulid>().is_ok();
        let anonymous = |name: String| {
            let part = |part: &str| {
                part.split('.').map(|piece| if is_ulid(&piece) { "*" } else { piece }).collect::<Vec<_>>().join(".")
            };
            let parts: Vec<_> = name.split('/').map(part).collect();
            // A shard is part of the ULID.
            if parts.first().is_some_and(|first| first == "d") { "d/*".to_owned() } else { parts.join("/") }
        };
        let mut keys: Vec<String> = self.driver.walk().await?.into_iter().map(anonymous).collect();
        keys.sort_unstable();
        Ok(keys)
    }

    /// What a manifest is, without its bytes.
    ///
    /// # Errors
    /// When storage fails.
    pub async fn manifest_info(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<ManifestInfo>> {
        let manifest = self.manifest(repository, reference).await?;
        Ok(manifest.map(|StoredManifest { digest, kind, bytes }| ManifestInfo {
            digest,
            kind,
            size: bytes.len() as u64,
        }))
    }
}

/// The bucket that the configuration names, if it names one.
fn bucket(config: &config::Storage, redirects: bool) -> std::result::Result<Option<Object>, OpenError> {
    Ok(match (&config.s3, &config.gcs, &config.azure) {
        (Some(s3), None, None) => Some(Object::s3(s3, redirects)?),
        (None, Some(gcs), None) => Some(Object::gcs(gcs, redirects)?),
        (None, None, Some(azure)) => Some(Object::azure(azure, redirects)?),
        (None, None, None) => None,
        _ => return Err(OpenError::NotOne),
    })
}

/// A manifest without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestInfo {
    /// The name of its bytes.
    pub digest: berth_oci::Digest,
    /// Its type.
    pub kind: ManifestKind,
    /// Its size in bytes.
    pub size: u64,
}
