//! Tags.

use std::fmt;
use std::str::FromStr;

use crate::parsed::serde_through_str;

/// A human-readable name for a manifest within a repository.
///
/// distribution-spec `spec.md`, Pulling manifests: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`. Tags are ordered bytewise, which
/// for this alphabet is the lexical (ASCIIbetical) order that listing needs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Box<str>);

/// The text is not a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tag is 1 to 128 letters, digits, '_', '.' and '-', and begins with a letter, a digit or '_'")]
pub struct InvalidTag;

impl Tag {
    /// The longest tag admitted, in bytes.
    pub const MAX_LEN: usize = 128;
}

impl FromStr for Tag {
    type Err = InvalidTag;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let first = |byte: u8| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_');
        let well_formed = match text.as_bytes() {
            [head, tail @ ..] => first(*head) && tail.iter().all(|byte| first(*byte) || matches!(byte, b'.' | b'-')),
            [] => false,
        };
        if well_formed && text.len() <= Self::MAX_LEN { Ok(Self(text.into())) } else { Err(InvalidTag) }
    }
}

impl AsRef<str> for Tag {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_through_str!(Tag);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tags_outside_the_grammar_are_refused() {
        for tag in ["", ".a", "-a", "a b", "a/b", "a:b", "a@b", "é", "a~", "a\0", "a+b"] {
            assert_eq!(tag.parse::<Tag>(), Err(InvalidTag), "{tag:?}");
        }
        assert!("a".repeat(128).parse::<Tag>().is_ok());
        assert_eq!("a".repeat(129).parse::<Tag>(), Err(InvalidTag));
    }

    proptest! {
        #[test]
        fn every_text_of_the_specs_grammar_is_admitted(tag in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}") {
            prop_assert_eq!(tag.parse::<Tag>().unwrap().to_string(), tag);
        }
    }
}
