//! The registry over HTTP: distribution-spec 1.1 and its main branch, and the habits of Docker's clients.
//!
//! This is the only room that knows axum. It knows no key and no file: it understands a request, finds out who asks,
//! gives the store one verb, and words the answer.
//!
//! | room | what lives there |
//! |---|---|
//! | `router` | from request to response: parse, authenticate, authorize, dispatch |
//! | `endpoint` | method and path to [`Endpoint`](endpoint::Endpoint) (pure) |
//! | `auth` | request to `Grant` |
//! | `blobs`, `uploads`, `manifests`, `tags`, `referrers`, `catalog` | one resource each |
//! | `range`, `content_range`, `conditional`, `query`, `paging` | what headers and queries say (pure) |
//! | `client_body` | request bodies: counted, and given up on when they trickle |
//! | `slots` | how many bodies may arrive at a time, and whose they are |
//! | `upload_token` | what an upload's location carries, sealed |
//! | `error` | `ApiError`, the only place that picks a status |
//! | `request_log` | one line and one count for each request |
//! | `admin` | health, status and metrics, on a port of their own |

pub mod admin;
mod auth;
mod blobs;
mod catalog;
mod client_body;
mod conditional;
mod content_range;
pub mod endpoint;
mod error;
mod header;
mod manifests;
mod paging;
mod query;
mod range;
mod referrers;
mod request_log;
mod router;
mod slots;
mod tags;
mod upload_token;
mod uploads;

use std::sync::Arc;

pub use self::router::router;
use self::slots::Slots;
pub use self::upload_token::UploadKeys;
use crate::access::Access;
use crate::config;
use crate::metrics::Metrics;
use crate::store::Store;

/// The largest manifest. The specification wants at least 4 MiB; a little more lets tools that fill 4 MiB add a field.
pub const LARGEST_MANIFEST: usize = (4 << 20) + (64 << 10);

/// The parts that requests are answered with.
#[derive(Debug)]
pub struct App {
    /// What is stored.
    pub store: Store,
    /// Who may come in.
    pub access: Arc<Access>,
    /// What seals the locations of uploads.
    pub upload_keys: Arc<UploadKeys>,
    /// What is switched off.
    pub switches: Switches,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// How many bodies may arrive at a time.
    slots: Slots,
}

impl App {
    /// An app with the usual limits.
    pub fn new(
        store: Store,
        access: Arc<Access>,
        upload_keys: Arc<UploadKeys>,
        metrics: Arc<Metrics>,
        switches: Switches,
    ) -> Self {
        Self { store, access, upload_keys, switches, metrics, slots: Slots::new() }
    }
}

/// What the configuration switches off.
#[derive(Clone, Copy, Debug)]
pub struct Switches {
    /// `storage.maintenance.readonly.enabled`: nothing changes.
    pub read_only: bool,
    /// `storage.delete.enabled`: whether manifests, tags and blobs may be deleted.
    pub delete: bool,
}

impl From<&config::Storage> for Switches {
    fn from(storage: &config::Storage) -> Self {
        Self { read_only: storage.maintenance.readonly.enabled, delete: storage.delete.enabled }
    }
}
