//! Content digests and the hashers that make them.

use std::fmt;
use std::str::FromStr;

use sha2::digest::common::hazmat::SerializableState;
use sha2::{Digest as _, Sha256, Sha512};

use crate::parsed::serde_through_str;

/// A registered algorithm that this registry can verify.
///
/// image-spec `descriptor.md`, Registered Algorithms. `blake3` is registered too but OPTIONAL; what cannot be verified is
/// not admitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// `sha256`: 64 lower-case hexadecimal digits. Every client and server has it.
    #[default]
    Sha256,
    /// `sha512`: 128 lower-case hexadecimal digits.
    Sha512,
}

impl Algorithm {
    /// The identifier before the colon.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    const fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => Err(InvalidDigest::Algorithm),
        }
    }
}

/// The name of some bytes: an algorithm and what it makes of them.
///
/// image-spec `descriptor.md`, Digests:
/// ```text
/// digest    ::= algorithm ":" encoded
/// algorithm ::= algorithm-component (algorithm-separator algorithm-component)*
/// encoded   ::= [a-zA-Z0-9=_-]+
/// ```
/// For sha256 and sha512 "the encoded portion MUST match `/[a-f0-9]{64}/`" (or 128), so upper case is refused.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    text: Box<str>,
    algorithm: Algorithm,
}

/// Why a text is not a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDigest {
    /// There is no colon, so it may be a tag or a typing error, but no digest.
    #[error("a digest is written ALGORITHM:HEX, as in sha256:6c3c…")]
    Separator,
    /// The algorithm is unknown or cannot be verified here.
    #[error("the digest algorithm must be sha256 or sha512")]
    Algorithm,
    /// The part after the colon has the wrong length or alphabet.
    #[error("the digest must have {0} lower-case hexadecimal digits after the colon")]
    Encoded(usize),
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Which algorithm made it.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hexadecimal digits after the colon.
    pub fn hex(&self) -> &str {
        &self.text[self.algorithm.as_str().len() + 1..]
    }

    /// Whether `bytes` are what this digest names.
    pub fn names(&self, bytes: &[u8]) -> bool {
        Self::of(self.algorithm, bytes) == *self
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (algorithm, encoded) = text.split_once(':').ok_or(InvalidDigest::Separator)?;
        let algorithm: Algorithm = algorithm.parse()?;
        let lower_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if encoded.len() != algorithm.hex_len() || !encoded.bytes().all(lower_hex) {
            return Err(InvalidDigest::Encoded(algorithm.hex_len()));
        }
        Ok(Self { text: text.into(), algorithm })
    }
}

impl AsRef<str> for Digest {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

serde_through_str!(Digest);

/// Computes a digest of bytes that arrive in pieces, perhaps in several requests and at several replicas.
#[derive(Clone, Debug)]
pub enum Hasher {
    /// SHA-256 (FIPS 180-4).
    Sha256(Sha256),
    /// SHA-512 (FIPS 180-4).
    Sha512(Sha512),
}

/// The bytes given to [`Hasher::resume`] are not a state that [`Hasher::save`] wrote for that algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a saved hasher state")]
pub struct InvalidHasherState;

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    /// Which algorithm it computes.
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(sha) => sha.update(bytes),
            Self::Sha512(sha) => sha.update(bytes),
        }
    }

    /// The digest of all bytes so far.
    pub fn finish(self) -> Digest {
        let algorithm = self.algorithm();
        let text = match self {
            Self::Sha256(sha) => format!("{algorithm}:{:x}", HexBytes(&sha.finalize())),
            Self::Sha512(sha) => format!("{algorithm}:{:x}", HexBytes(&sha.finalize())),
        };
        Digest { text: text.into(), algorithm }
    }

    /// The state between two pieces: 104 bytes for SHA-256, 208 for SHA-512.
    pub fn save(&self) -> Vec<u8> {
        match self {
            Self::Sha256(sha) => sha.serialize().to_vec(),
            Self::Sha512(sha) => sha.serialize().to_vec(),
        }
    }

    /// Goes on from a saved state.
    ///
    /// # Errors
    /// When `state` is not what [`Hasher::save`] gives for `algorithm`.
    pub fn resume(algorithm: Algorithm, state: &[u8]) -> Result<Self, InvalidHasherState> {
        match algorithm {
            Algorithm::Sha256 => {
                let state = state.try_into().map_err(|_| InvalidHasherState)?;
                Sha256::deserialize(state).map(Self::Sha256).map_err(|_| InvalidHasherState)
            }
            Algorithm::Sha512 => {
                let state = state.try_into().map_err(|_| InvalidHasherState)?;
                Sha512::deserialize(state).map(Self::Sha512).map_err(|_| InvalidHasherState)
            }
        }
    }
}

struct HexBytes<'a>(&'a [u8]);

impl fmt::LowerHex for HexBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_digest_of_known_bytes_is_the_published_one() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(Algorithm::Sha256, b"").to_string(), empty);
        assert!(Digest::of(Algorithm::Sha512, b"abc").hex().starts_with("ddaf35a193617abacc417349ae204131"));
    }

    #[test]
    fn what_is_not_a_digest_is_refused_with_the_rule_it_breaks() {
        let hex = "a".repeat(64);
        for (text, rule) in [
            (hex.clone(), InvalidDigest::Separator),
            (String::new(), InvalidDigest::Separator),
            (format!("SHA256:{hex}"), InvalidDigest::Algorithm),
            (format!("md5:{hex}"), InvalidDigest::Algorithm),
            (format!("sha256+b64u:{hex}"), InvalidDigest::Algorithm),
            ("sha256:".into(), InvalidDigest::Encoded(64)),
            (format!("sha256:{}", hex.to_uppercase()), InvalidDigest::Encoded(64)),
            (format!("sha256:{hex}a"), InvalidDigest::Encoded(64)),
            (format!("sha256:{}", &hex[1..]), InvalidDigest::Encoded(64)),
            (format!("sha512:{hex}"), InvalidDigest::Encoded(128)),
            (format!("sha256:{}é", &hex[2..]), InvalidDigest::Encoded(64)),
            ("sha256:baddigeststring".into(), InvalidDigest::Encoded(64)),
        ] {
            assert_eq!(text.parse::<Digest>(), Err(rule), "{text}");
        }
    }

    #[test]
    fn a_state_of_another_algorithm_or_length_is_refused() {
        let state = Hasher::new(Algorithm::Sha256).save();
        assert_eq!(state.len(), 104);
        assert!(Hasher::resume(Algorithm::Sha512, &state).is_err());
        assert!(Hasher::resume(Algorithm::Sha256, &state[1..]).is_err());
    }

    proptest! {
        #[test]
        fn parsing_gives_back_what_was_printed(bytes: Vec<u8>, long: bool) {
            let algorithm = if long { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let digest = Digest::of(algorithm, &bytes);
            prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest.clone()));
            prop_assert!(digest.names(&bytes));
        }

        #[test]
        fn saving_and_resuming_anywhere_does_not_change_the_digest(bytes: Vec<u8>, cut: prop::sample::Index, long: bool) {
            let algorithm = if long { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let (head, tail) = bytes.split_at(cut.index(bytes.len() + 1));
            let mut hasher = Hasher::new(algorithm);
            hasher.update(head);
            let mut resumed = Hasher::resume(algorithm, &hasher.save()).unwrap();
            resumed.update(tail);
            prop_assert_eq!(resumed.finish(), Digest::of(algorithm, &bytes));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text: String) {
            let _ = text.parse::<Digest>();
        }
    }
}
