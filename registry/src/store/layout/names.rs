//! The last parts of keys that say more than a ULID.

use std::fmt;
use std::str::FromStr;

use berth_oci::{Digest, ManifestKind, Tag};
use ulid::Ulid;

use super::{UnknownName, parse};

/// The last part of a link's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LinkName {
    pub(crate) link: Ulid,
    pub(crate) data: Ulid,
    pub(crate) size: u64,
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.link, self.data, self.size)
    }
}

impl FromStr for LinkName {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (link, rest) = text.split_once('.').ok_or(UnknownName)?;
        let (data, size) = rest.split_once('.').ok_or(UnknownName)?;
        Ok(Self { link: parse(link)?, data: parse(data)?, size: parse(size)? })
    }
}

/// The last part of a record's key, and of an intent's. The kind is also in the bytes; here it spares a look at them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RecordName {
    pub(crate) record: Ulid,
    pub(crate) kind: ManifestKind,
}

impl fmt::Display for RecordName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.record, kind_name(self.kind))
    }
}

impl FromStr for RecordName {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (record, kind) = text.split_once('.').ok_or(UnknownName)?;
        let kind = ManifestKind::ALL.into_iter().find(|known| kind_name(*known) == kind).ok_or(UnknownName)?;
        Ok(Self { record: parse(record)?, kind })
    }
}

const fn kind_name(kind: ManifestKind) -> &'static str {
    match kind {
        ManifestKind::OciManifest => "oci-manifest",
        ManifestKind::OciIndex => "oci-index",
        ManifestKind::DockerManifest => "docker-manifest",
        ManifestKind::DockerList => "docker-list",
    }
}

/// The last part of a referrer entry's key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ReferrerName {
    pub(crate) digest: Digest,
    pub(crate) record: Ulid,
}

impl fmt::Display for ReferrerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.digest, self.record)
    }
}

impl FromStr for ReferrerName {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (digest, record) = text.split_once('.').ok_or(UnknownName)?;
        Ok(Self { digest: parse(digest)?, record: parse(record)? })
    }
}

/// The last part of a back-reference's key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BackReferenceName {
    pub(crate) tag: Tag,
    pub(crate) record: Ulid,
}

impl fmt::Display for BackReferenceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.tag, self.record)
    }
}

impl FromStr for BackReferenceName {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A tag may hold dots, a ULID does not.
        let (tag, record) = text.rsplit_once('.').ok_or(UnknownName)?;
        Ok(Self { tag: parse(tag)?, record: parse(record)? })
    }
}

/// The last part of a segment's key: which bytes of the upload it holds, and after which attempt it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SegmentName {
    /// Offset of the first byte. Where it ends, its size says.
    pub(crate) start: u64,
    /// The request that wrote it.
    pub(crate) attempt: Ulid,
    /// The request that wrote the segment before it; nil for the first.
    pub(crate) before: Ulid,
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.{}.{}", self.start, self.attempt, self.before)
    }
}

/// A name below `u/<upload>/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UploadEntry {
    Segment(SegmentName),
    Cancelled,
    Finished(Digest),
}

impl fmt::Display for UploadEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(name) => name.fmt(f),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Finished(digest) => write!(f, "finished.{digest}"),
        }
    }
}

impl FromStr for UploadEntry {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('.').collect();
        match parts.as_slice() {
            ["cancelled"] => Ok(Self::Cancelled),
            ["finished", digest] => Ok(Self::Finished(parse(digest)?)),
            [start, attempt, before] => {
                let start = u64::from_str_radix(start, 16).map_err(|_| UnknownName)?;
                Ok(Self::Segment(SegmentName { start, attempt: parse(attempt)?, before: parse(before)? }))
            }
            _ => Err(UnknownName),
        }
    }
}
