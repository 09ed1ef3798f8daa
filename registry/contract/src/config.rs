//! The registry's configuration file: distribution's keys, and `auth.nodes`, which is ours.
//!
//! These types say what is there and what its default is. Reading a file with its environment overrides and its unknown
//! keys is [`load`]'s.

mod azure;
mod environment;
mod gcs;
mod given;
mod keys;
mod load;
mod s3;

use std::path::PathBuf;

use ipnet::IpNet;
use serde::de::IntoDeserializer as _;
use serde::{Deserialize, Deserializer, Serialize};

pub use self::azure::{Azure, AzureCredentials, AzureCredentialsType};
pub use self::gcs::Gcs;
pub use self::load::{ConfigError, Warning, load};
pub use self::s3::{S3, Secret};
use crate::{Duration, Schedule};

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The file's format. distribution's is `0.1`, and so is ours.
    pub version: Version,
    /// What is logged, and how.
    pub log: Log,
    /// Where the bytes are.
    pub storage: Storage,
    /// Who may come in. Without it the registry is open to everyone, and says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// How the registry is reached.
    pub http: Http,
}

/// The format of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// The only one there is.
    #[default]
    #[serde(rename = "0.1")]
    V0_1,
}

/// `log`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The least severe events that are logged.
    #[serde(deserialize_with = "in_either_case")]
    pub level: LogLevel,
    /// The form of a line.
    pub formatter: LogFormatter,
}

fn in_either_case<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LogLevel, D::Error> {
    LogLevel::deserialize(String::deserialize(deserializer)?.to_lowercase().into_deserializer())
}

/// `log.level`, in upper or lower case, as distribution takes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what needs a human.
    Error,
    /// And what may soon.
    Warn,
    /// And one line for each request.
    #[default]
    Info,
    /// And why each answer was given.
    Debug,
    /// Everything.
    Trace,
}

/// `log.formatter`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormatter {
    /// One line of text for each event.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `storage`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// A directory, local or shared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<Filesystem>,
    /// A bucket of S3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3>,
    /// A bucket of Google Cloud Storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gcs: Option<Gcs>,
    /// A container of Azure Blob Storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure: Option<Azure>,
    /// The memory of this process: for trying things out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inmemory: Option<InMemory>,
    /// Deletion through the API.
    pub delete: Delete,
    /// Sending clients to the bucket.
    #[serde(skip_serializing_if = "Redirect::is_default")]
    pub redirect: Redirect,
    /// Housekeeping.
    pub maintenance: Maintenance,
}

impl Storage {
    /// Whether who pulls a blob is sent to the bucket for its bytes. Where the file does not say: if everybody reaches it, because
    /// it is Amazon's own, or because the file says where pullers reach it.
    pub fn redirects(&self) -> bool {
        let is_reached = match (&self.s3, &self.gcs, &self.azure) {
            (Some(s3), ..) => s3.regionendpoint.is_none() || s3.redirectendpoint.is_some(),
            // Signing may take a request for each, or a clock that agrees with theirs: it must be wanted.
            (_, Some(_), _) | (_, _, Some(_)) => false,
            (None, None, None) => return false,
        };
        self.redirect.disable.map_or(is_reached, |disable| !disable)
    }

    /// How many places are named. There must be one.
    fn places(&self) -> usize {
        let named = [
            self.filesystem.is_some(),
            self.s3.is_some(),
            self.gcs.is_some(),
            self.azure.is_some(),
            self.inmemory.is_some(),
        ];
        named.into_iter().filter(|named| *named).count()
    }
}

/// `storage.redirect`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redirect {
    /// Whether every byte passes through the registry. Default: see [`Storage::redirects`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable: Option<bool>,
    /// Networks whose clients get every byte from the registry all the same: those that do not reach the bucket. Default: none.
    /// Ours.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<IpNet>,
}

impl Redirect {
    const fn is_default(&self) -> bool {
        self.disable.is_none() && self.except.is_empty()
    }
}

/// `storage.filesystem`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filesystem {
    /// The directory. Default: `/var/lib/registry`.
    pub rootdirectory: PathBuf,
    /// Whether other registries write to it at the same time: a network file system that cannot keep what that needs is refused
    /// at start-up. Default: no. Ours.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
}

impl Default for Filesystem {
    fn default() -> Self {
        Self { rootdirectory: "/var/lib/registry".into(), shared: false }
    }
}

/// `storage.inmemory`, which has no keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InMemory {}

/// `storage.delete`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Delete {
    /// Whether manifests, tags and blobs may be deleted through the API. Default: no, as in distribution.
    pub enabled: bool,
}

/// `storage.maintenance`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Maintenance {
    /// Removal of uploads that nobody finished.
    pub uploadpurging: UploadPurging,
    /// Removal of what nothing refers to. Ours.
    pub garbagecollection: GarbageCollection,
    /// Refusal of every change.
    pub readonly: ReadOnly,
}

/// `storage.maintenance.uploadpurging`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UploadPurging {
    /// Whether expired uploads are removed. Default: yes.
    pub enabled: bool,
    /// How long an upload may take from its start. Default: `168h`.
    pub age: Duration,
    /// How often expired uploads are looked for. Default: `24h`.
    pub interval: Duration,
    /// Whether to log instead of to remove. Default: no.
    pub dryrun: bool,
}

impl Default for UploadPurging {
    fn default() -> Self {
        Self { enabled: true, age: Duration::from_hours(168), interval: Duration::from_hours(24), dryrun: false }
    }
}

/// `storage.maintenance.garbagecollection`. It runs inside the registry, beside pulls and pushes; replicas take turns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GarbageCollection {
    /// Whether it runs by itself. Default: yes.
    pub enabled: bool,
    /// When. Default: `0 3 * * *`, every day at three, UTC.
    pub schedule: Schedule,
    /// The age below which nothing goes: the time that a client has between its first blob and its manifest. Default: `24h`.
    /// Replicas that share storage must share it.
    pub grace: Duration,
    /// What happens to manifests that no tag names, that no index holds and whose subject is not there. Default: `keep`.
    pub untagged: Untagged,
    /// Whether to log instead of to delete. Default: no.
    pub dryrun: bool,
}

impl Default for GarbageCollection {
    fn default() -> Self {
        Self {
            enabled: true,
            schedule: Schedule::daily_at_three(),
            grace: Duration::from_hours(24),
            untagged: Untagged::Keep,
            dryrun: false,
        }
    }
}

/// `storage.maintenance.garbagecollection.untagged`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Untagged {
    /// They stay, and can be pulled by digest.
    #[default]
    Keep,
    /// They go.
    Delete,
}

/// `storage.maintenance.readonly`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadOnly {
    /// Whether every change is refused with 405. Default: no.
    pub enabled: bool,
}

/// `auth`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Users with passwords. They may do everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub htpasswd: Option<Htpasswd>,
    /// The credentials that nodes pull with. They may pull.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Nodes>,
}

/// `auth.htpasswd`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Htpasswd {
    /// What the challenge calls this registry.
    #[serde(default = "default_realm")]
    pub realm: String,
    /// An Apache htpasswd file with bcrypt hashes. It is read again when it changes.
    pub path: PathBuf,
}

fn default_realm() -> String {
    "Registry".into()
}

/// `auth.nodes`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nodes {
    /// A file as [`node_credentials`](crate::node_credentials) describes it. It is read again when it changes.
    pub path: PathBuf,
}

/// `http`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Where the API listens, `HOST:PORT` or `:PORT` for every address. Default: `127.0.0.1:5000`.
    pub addr: Addr,
    /// The key that upload locations are signed with. Replicas that share storage must share it. Default: a random one,
    /// which uploads in progress do not outlive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The same, as a file with one key a line: the first signs, all verify. It is read again when it changes. Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secretfile: Option<PathBuf>,
    /// How long requests in progress may go on after SIGTERM. Default: `60s`. (distribution's is 0.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draintimeout: Option<Duration>,
    /// TLS. Without it the API is plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Health, status and metrics on a port of their own.
    pub debug: Debug,
}

/// `http.tls`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// A PEM file with the certificate chain, leaf first. Certificate and key are read again when they change.
    pub certificate: PathBuf,
    /// A PEM file with the key.
    pub key: PathBuf,
    /// The oldest version accepted. Default: `tls1.2`.
    #[serde(default)]
    pub minimumtls: MinimumTls,
    /// More certificates, each for clients that ask for a name it holds (SNI, RFC 6066 section 3). The first one answers all
    /// others, and for names of Kubernetes Services that it holds itself. Ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional: Vec<KeyPair>,
}

/// `http.tls.additional[]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPair {
    /// A PEM file with the certificate chain, leaf first. Certificate and key are read again when they change.
    pub certificate: PathBuf,
    /// A PEM file with the key.
    pub key: PathBuf,
}

/// `http.tls.minimumtls`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MinimumTls {
    /// TLS 1.2 (RFC 5246).
    #[default]
    #[serde(rename = "tls1.2")]
    Tls12,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "tls1.3")]
    Tls13,
}

/// `http.debug`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Debug {
    /// Where `/livez`, `/readyz`, `/status` and `/metrics` listen. Default: `127.0.0.1:5001`.
    pub addr: Addr,
}

impl Default for Debug {
    fn default() -> Self {
        Self { addr: Addr("127.0.0.1:5001".into()) }
    }
}

/// A listening address: `HOST:PORT`, or `:PORT` for every address of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Addr(pub String);

impl Default for Addr {
    fn default() -> Self {
        Self("127.0.0.1:5000".into())
    }
}

impl Addr {
    /// Whether nobody can listen at both. Names are not looked up, and any port (`0`) is another one each time.
    fn overlaps(&self, other: &Self) -> bool {
        let [(host, port), (other_host, other_port)] =
            [self, other].map(|addr| addr.0.rsplit_once(':').unwrap_or((&addr.0, "")));
        let every = |host: &str| matches!(host, "" | "0.0.0.0" | "[::]");
        port == other_port && port != "0" && (host == other_host || every(host) || every(other_host))
    }
}
