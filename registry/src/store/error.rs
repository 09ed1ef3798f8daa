//! What can go wrong below the API.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::layout::Key;

/// The result of a store operation. Absence is an `Option` or a `bool`, never an error.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Storage could not do what it was asked to.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{doing}: {source}")]
pub struct StoreError {
    doing: String,
    kind: StoreErrorKind,
    source: Arc<dyn std::error::Error + Send + Sync>,
}

/// What a caller can do about a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// No space or no quota is left: reads and deletions go on.
    Full,
    /// The storage takes no writes: reads go on.
    ReadOnly,
    /// Too much at once (open files, throttling): the same request may succeed later.
    Overloaded,
    /// The storage does not answer, or says that something failed: the same request may succeed later.
    Unreachable,
    /// What is stored is not what was written.
    Corrupt,
    /// Anything else.
    Other,
}

impl StoreError {
    /// What a caller can do about it.
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    pub(crate) fn corrupt(key: &Key, what: &'static str) -> Self {
        Self::of_kind(StoreErrorKind::Corrupt, format_args!("read {key}"), what)
    }

    pub(crate) fn other(doing: impl fmt::Display, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::of_kind(StoreErrorKind::Other, doing, source)
    }

    pub(crate) fn of_kind(
        kind: StoreErrorKind,
        doing: impl fmt::Display,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { doing: doing.to_string(), kind, source: source.into().into() }
    }

    pub(crate) fn io(doing: impl fmt::Display, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreErrorKind::Full,
            io::ErrorKind::ReadOnlyFilesystem => StoreErrorKind::ReadOnly,
            io::ErrorKind::ConnectionAborted => StoreErrorKind::Unreachable,
            _ if too_many_open_files(&source) => StoreErrorKind::Overloaded,
            _ => StoreErrorKind::Other,
        };
        Self::of_kind(kind, doing, source)
    }
}

fn too_many_open_files(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    matches!(errno, Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE))
}

/// The request's body ended before it was whole.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct BodyError(pub Box<dyn std::error::Error + Send + Sync>);
