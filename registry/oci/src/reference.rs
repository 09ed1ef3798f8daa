//! The `<reference>` of a manifest path.

use std::fmt;
use std::str::FromStr;

use crate::{Digest, InvalidDigest, InvalidTag, Tag};

/// A manifest's address within its repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// By tag: whatever the tag names now.
    Tag(Tag),
    /// By digest: these bytes and no others.
    Digest(Digest),
}

/// Why a text is neither a tag nor a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// It has a colon, so it was meant to be a digest: it is never tried as a tag.
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
    /// It has no colon and breaks the grammar of tags.
    #[error(transparent)]
    Tag(#[from] InvalidTag),
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains(':') { Ok(Self::Digest(text.parse()?)) } else { Ok(Self::Tag(text.parse()?)) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_with_a_colon_is_a_digest_or_an_error_and_never_a_tag() {
        assert!(matches!("latest".parse(), Ok(Reference::Tag(_))));
        assert!(matches!(format!("sha256:{}", "0".repeat(64)).parse(), Ok(Reference::Digest(_))));
        assert_eq!("sha256:baddigeststring".parse::<Reference>(), Err(InvalidDigest::Encoded(64).into()));
        assert_eq!("a:b".parse::<Reference>(), Err(InvalidDigest::Algorithm.into()));
        assert_eq!(".a".parse::<Reference>(), Err(InvalidTag.into()));
    }
}
