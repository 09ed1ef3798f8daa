//! Media types, and the four that are manifests.

use std::fmt;
use std::str::FromStr;

use crate::parsed::serde_through_str;

/// A media type without parameters, as RFC 6838 section 4.2 writes it: `type-name "/" subtype-name`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaType(Box<str>);

/// The text is not a media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a media type is written TYPE/SUBTYPE, each part 1 to 127 characters of RFC 6838's alphabet")]
pub struct InvalidMediaType;

impl MediaType {
    /// Reads the media type of a `Content-Type` header, whose parameters (RFC 9110 section 8.3.1) are dropped: no manifest
    /// type defines any, and clients send `charset=utf-8`.
    ///
    /// # Errors
    /// When what stands before the parameters is not a media type.
    pub fn from_content_type(header: &str) -> Result<Self, InvalidMediaType> {
        header.split(';').next().unwrap_or_default().trim().parse()
    }
}

/// `restricted-name = restricted-name-first *126restricted-name-chars`
fn is_restricted_name(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
    first && text.len() <= 127 && text.bytes().all(rest)
}

impl FromStr for MediaType {
    type Err = InvalidMediaType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (type_name, subtype_name) = text.split_once('/').ok_or(InvalidMediaType)?;
        if is_restricted_name(type_name) && is_restricted_name(subtype_name) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidMediaType)
        }
    }
}

impl AsRef<str> for MediaType {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_through_str!(MediaType);

/// The media types this registry takes as manifests.
///
/// Docker's schema 1 is not among them: it is signed over its own serialization and no supported client makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ManifestKind {
    /// `application/vnd.oci.image.manifest.v1+json` (image-spec `manifest.md`).
    OciManifest,
    /// `application/vnd.oci.image.index.v1+json` (image-spec `image-index.md`).
    OciIndex,
    /// `application/vnd.docker.distribution.manifest.v2+json` (Docker image manifest version 2, schema 2).
    DockerManifest,
    /// `application/vnd.docker.distribution.manifest.list.v2+json` (the same, manifest list).
    DockerList,
}

impl ManifestKind {
    /// All of them, in the order in which a client without an `Accept` header would like them.
    pub const ALL: [Self; 4] = [Self::OciManifest, Self::OciIndex, Self::DockerManifest, Self::DockerList];

    /// The media type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OciManifest => "application/vnd.oci.image.manifest.v1+json",
            Self::OciIndex => "application/vnd.oci.image.index.v1+json",
            Self::DockerManifest => "application/vnd.docker.distribution.manifest.v2+json",
            Self::DockerList => "application/vnd.docker.distribution.manifest.list.v2+json",
        }
    }

    /// Whether it lists manifests instead of a config and layers.
    pub const fn is_index(self) -> bool {
        matches!(self, Self::OciIndex | Self::DockerList)
    }

    /// The kind with this media type, if it is a manifest's.
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == media_type)
    }
}

impl fmt::Display for ManifestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_a_content_type_are_dropped() {
        let plain = MediaType::from_content_type("application/vnd.oci.image.index.v1+json; charset=utf-8").unwrap();
        assert_eq!(ManifestKind::of_media_type(plain.as_ref()), Some(ManifestKind::OciIndex));
    }

    #[test]
    fn what_is_not_a_media_type_is_refused() {
        for text in ["", "/", "a/", "/b", "a", "a/b/c", "a b/c", "a/b;c", "é/b", ".a/b"] {
            assert_eq!(text.parse::<MediaType>(), Err(InvalidMediaType), "{text:?}");
        }
    }
}
