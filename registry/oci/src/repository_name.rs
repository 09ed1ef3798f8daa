//! Repository names.

use std::fmt;
use std::str::FromStr;

use crate::parsed::serde_through_str;

/// The `<name>` of an API path: the namespace of a repository.
///
/// distribution-spec `spec.md`, Pulling manifests:
/// ```text
/// [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*
/// ```
/// At most 255 bytes: "Many clients impose a limit of 255 characters on the length of the concatenation of the registry
/// hostname […], `/`, and the `<name>` value", and 255 bytes are what a directory entry can hold.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryName(Box<str>);

/// Why a text is not a repository name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRepositoryName {
    /// Longer than 255 bytes.
    #[error("a repository name has at most 255 characters")]
    TooLong,
    /// A component between slashes breaks the grammar.
    #[error(
        "each part of a repository name between slashes is lower-case letters and digits, \
         joined by one '.', one or two '_', or any number of '-'"
    )]
    Component,
}

impl RepositoryName {
    /// The longest name admitted, in bytes.
    pub const MAX_LEN: usize = 255;

    /// The parts between the slashes; there is at least one.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl FromStr for RepositoryName {
    type Err = InvalidRepositoryName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > Self::MAX_LEN {
            return Err(InvalidRepositoryName::TooLong);
        }
        if !text.split('/').all(is_component) {
            return Err(InvalidRepositoryName::Component);
        }
        Ok(Self(text.into()))
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let alphanumeric = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9');
    let bytes = text.as_bytes();
    let ends_well = bytes.first().copied().is_some_and(alphanumeric) && bytes.last().copied().is_some_and(alphanumeric);
    let separators_are_admitted = bytes
        .split(|byte| alphanumeric(*byte))
        .all(|run| matches!(run, b"" | b"." | b"_" | b"__") || run.iter().all(|byte| *byte == b'-'));
    ends_well && separators_are_admitted
}

impl AsRef<str> for RepositoryName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_through_str!(RepositoryName);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_the_grammar_are_admitted() {
        for name in ["a", "0", "a/b", "a-b", "a--b", "a---b", "a.b", "a_b", "a__b", "x/manifests/y", "v2/tags/list"] {
            assert_eq!(name.parse::<RepositoryName>().unwrap().as_ref(), name);
        }
        assert!("a".repeat(255).parse::<RepositoryName>().is_ok());
    }

    #[test]
    fn names_outside_the_grammar_are_refused() {
        for name in [
            "", "/", "a/", "/a", "a//b", ".", "..", "a/../b", "a/./b", "A", "a/B", "a..b", "a___b", "a_.b", "-a", "a-",
            "a._b", "_a", "a_", ".a", "a.", "a b", "a%2fb", "a\\b", "a\0b", "é", "a~b", "a:b", "a@b",
        ] {
            assert_eq!(name.parse::<RepositoryName>(), Err(InvalidRepositoryName::Component), "{name:?}");
        }
        assert_eq!("a".repeat(256).parse::<RepositoryName>(), Err(InvalidRepositoryName::TooLong));
    }

    proptest! {
        #[test]
        fn every_text_of_the_specs_grammar_is_admitted(
            name in "[a-z0-9]{1,4}((\\.|_|__|-{1,3})[a-z0-9]{1,3}){0,3}(/[a-z0-9]{1,4}((\\.|_|__|-{1,3})[a-z0-9]{1,3}){0,2}){0,3}"
        ) {
            prop_assert_eq!(name.parse::<RepositoryName>().unwrap().to_string(), name);
        }

        #[test]
        fn an_admitted_name_has_no_byte_outside_the_grammar(name: String) {
            if let Ok(name) = name.parse::<RepositoryName>() {
                prop_assert!(name.as_ref().bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'/')));
            }
        }
    }
}
