//! What buckets of every provider have in common: how patiently they are asked, and whom they are taken to be.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use async_trait::async_trait;
use object_store::list::PaginatedListStore;
use object_store::{Attributes, Certificate, ClientOptions, CredentialProvider, ObjectStore, RetryConfig};

use super::Object;
use super::advice::Bucket;

/// Why a bucket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenBucketError {
    /// The authorities cannot be read.
    #[error("storage.s3.cabundle: {0} cannot be read: {1}")]
    Authorities(PathBuf, #[source] io::Error),
    /// They are none.
    #[error("storage.s3.cabundle: {0} holds no certificate in PEM")]
    NoAuthorities(PathBuf),
    /// A variable holds nothing where a key should be.
    #[error(
        "{0} is set and empty: give the key, or leave the variable out for the credentials that the platform gives"
    )]
    EmptyKey(&'static str),
    /// The key of the account is none.
    #[error(
        "storage.azure.accountkey, or AZURE_STORAGE_KEY, is no key of a storage account, which is in base64: give one as Azure shows it"
    )]
    AccountKey,
    /// The rest of the configuration cannot be acted on.
    #[error("storage.{0}: {1}")]
    Config(&'static str, #[source] object_store::Error),
}

/// For a connection to be made.
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);
/// For a request to be sent and its answer to begin, and then for each next piece of that. There is no limit for a whole answer: a
/// blob takes as long as its reader.
const ANSWERED_WITHIN: Duration = Duration::from_secs(120);
/// A connection that nobody uses is closed before the store might do it: a request that is on its way at that moment is lost, and
/// some are not sent again.
const IDLE_FOR: Duration = Duration::from_secs(15);
/// How often what may be tried again is, with growing pauses of random length between.
const RETRIES: usize = 5;
/// After so long nothing is tried again: its client has a limit too.
const RETRIED_FOR: Duration = Duration::from_secs(60);

/// For what may be tried again.
pub(super) fn patient() -> RetryConfig {
    RetryConfig { max_retries: RETRIES, retry_timeout: RETRIED_FOR, ..RetryConfig::default() }
}

/// For what must not.
pub(super) fn never() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

/// How the store is spoken to, trusting the system's authorities and those of a file.
pub(super) fn client(authorities: Option<&PathBuf>) -> Result<ClientOptions, OpenBucketError> {
    let agent = http::HeaderValue::from_static(concat!("berth-registry/", env!("CARGO_PKG_VERSION")));
    let mut client = ClientOptions::new()
        .with_user_agent(agent)
        .with_connect_timeout(CONNECTED_WITHIN)
        .with_pool_idle_timeout(IDLE_FOR)
        .with_read_timeout(ANSWERED_WITHIN)
        .with_timeout_disabled();
    if let Some(path) = authorities {
        let pem = fs::read(path).map_err(|error| OpenBucketError::Authorities(path.clone(), error))?;
        let authorities = Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if authorities.is_empty() {
            return Err(OpenBucketError::NoAuthorities(path.clone()));
        }
        client = authorities.into_iter().fold(client, ClientOptions::with_root_certificate);
    }
    Ok(client)
}

/// A variable of the environment that is not empty, without the end of the line of the file that it was made from.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// Refuses to take a key that is empty for one that nobody gave: it is most likely a Secret that was filled with nothing, and other
/// credentials than those that were meant may lead elsewhere.
pub(super) fn refuse_empty(keys: &[&'static str]) -> Result<(), OpenBucketError> {
    let empty = keys.iter().find(|key| std::env::var(key).is_ok_and(|value| value.trim().is_empty()));
    empty.map_or(Ok(()), |key| Err(OpenBucketError::EmptyKey(key)))
}

/// What all names begin with: nothing, or a directory with its slash.
fn root(directory: Option<&str>) -> String {
    match directory.unwrap_or_default().trim_matches('/') {
        "" => String::new(),
        directory => format!("{directory}/"),
    }
}

impl Object {
    /// What is the same for every provider: one that asks patiently, and one that asks `once`.
    pub(super) fn opened<S: ObjectStore + PaginatedListStore>(
        objects: Arc<S>,
        once: S,
        credentials: Arc<dyn Credentials>,
        bucket: Bucket,
        directory: Option<&str>,
    ) -> Self {
        Self {
            credentials: Some(credentials),
            pages: Some(Arc::clone(&objects) as _),
            signed: None,
            pullers: None,
            objects,
            once: Arc::new(once),
            bucket,
            ignores_conditions: Arc::default(),
            root: root(directory),
            encryption: None,
            class: Attributes::default(),
        }
    }
}

/// Who obtains credentials, of whatever kind a provider has.
#[async_trait]
pub(super) trait Credentials: Debug + Send + Sync {
    /// Whether there are any.
    async fn obtain(&self) -> object_store::Result<()>;
}

#[derive(Debug)]
struct Of<C>(Arc<dyn CredentialProvider<Credential = C>>);

#[async_trait]
impl<C: Debug + Send + Sync + 'static> Credentials for Of<C> {
    async fn obtain(&self) -> object_store::Result<()> {
        self.0.get_credential().await.map(drop)
    }
}

pub(super) fn credentials<C: Debug + Send + Sync + 'static>(
    provider: &Arc<dyn CredentialProvider<Credential = C>>,
) -> Arc<dyn Credentials> {
    Arc::new(Of(Arc::clone(provider)))
}

#[cfg(test)]
impl Object {
    /// A part of the bucket of `BERTH_TEST_STORAGE` that nobody else has.
    pub(crate) fn in_a_test_bucket() -> Self {
        let text = std::env::var("BERTH_TEST_STORAGE")
            .expect("BERTH_TEST_STORAGE is not set: run this by the bin `with-bucket` of berth-e2e");
        let storage: berth_contract::config::Storage = serde_json::from_str(&text).unwrap();
        let opened = match (storage.s3, storage.gcs, storage.azure) {
            (Some(s3), ..) => Self::s3(&s3, false),
            (_, Some(gcs), _) => Self::gcs(&gcs, false),
            (_, _, Some(azure)) => Self::azure(&azure, false),
            _ => panic!("no bucket in {text}"),
        };
        Self { root: format!("{}/", ulid::Ulid::generate()), ..opened.unwrap() }
    }
}
