//! Room for bodies that arrive, and how clients share it.

use std::time::Duration;

use super::error::ApiError;
use crate::access::Principal;
use crate::fairness::{Admitted, ConcurrencyLimit, Source};

/// Blobs that arrive at a time. Each holds about a megabyte.
const BLOBS: usize = 512;
/// Manifests that arrive at a time. Each is held whole.
const MANIFESTS: usize = 64;

/// How long a manifest waits for others before its client is told to come again.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whose a slot is: a principal's, and where everyone may come in, that of the address they come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Holder {
    principal: Principal,
    source: Option<Source>,
}

impl Holder {
    pub(super) fn new(principal: &Principal, source: Option<Source>) -> Self {
        let source = if *principal == Principal::Anyone { source } else { None };
        Self { principal: principal.clone(), source }
    }
}

/// A slot that is taken until it is dropped.
pub(super) type Slot = Admitted<Holder>;

/// How many bodies may arrive at a time. Nobody gets more of it than they leave for others.
#[derive(Debug)]
pub(super) struct Slots {
    blobs: ConcurrencyLimit<Holder>,
    manifests: ConcurrencyLimit<Holder>,
}

impl Slots {
    pub(super) fn new() -> Self {
        Self { blobs: ConcurrencyLimit::new(BLOBS), manifests: ConcurrencyLimit::new(MANIFESTS) }
    }

    pub(super) fn blob(&self, holder: Holder) -> Result<Slot, ApiError> {
        self.blobs.admit(holder).ok_or(ApiError::Busy("too many blobs are arriving"))
    }

    /// Manifests are short: a hundred that come at once have come a moment later.
    pub(super) async fn manifest(&self, holder: Holder) -> Result<Slot, ApiError> {
        let admitted = self.manifests.admit_within(holder, PATIENCE).await;
        admitted.ok_or(ApiError::Busy("too many manifests are arriving"))
    }
}
