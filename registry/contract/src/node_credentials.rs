//! The file of credentials that nodes pull with.
//!
//! One credential a line, `USER:sha256:HEX`, where HEX is the SHA-256 of the password; empty lines and lines that begin
//! with `#` are skipped. A plain hash is enough, and a slow one would only slow pulls down, because a password is 256 random
//! bits and nothing that a human chose. While a credential rotates the file holds the old one and the new one.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCredential {
    user: String,
    sha256: [u8; 32],
}

/// The line is not a credential. The error does not repeat it, because it may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a node credential is written USER:sha256:HEX, with 64 lower-case hexadecimal digits and a user without ':'")]
pub struct InvalidNodeCredential;

/// A line of the file is not a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {source}")]
pub struct InvalidNodeCredentials {
    /// Which line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub source: InvalidNodeCredential,
}

impl NodeCredential {
    /// The credential of `user` with `password`.
    ///
    /// # Errors
    /// When `user` is empty or has a character that cannot stand in the file or in HTTP's basic authentication.
    pub fn new(user: &str, password: &str) -> Result<Self, InvalidNodeCredential> {
        Self::from_hash(user, Sha256::digest(password).into())
    }

    fn from_hash(user: &str, sha256: [u8; 32]) -> Result<Self, InvalidNodeCredential> {
        let admitted = |c: char| c.is_ascii_graphic() && c != ':';
        if user.is_empty() || user.starts_with('#') || !user.chars().all(admitted) {
            return Err(InvalidNodeCredential);
        }
        Ok(Self { user: user.into(), sha256 })
    }

    /// Who the node says it is.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The SHA-256 of the password.
    pub const fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }
}

/// Reads a whole file.
///
/// # Errors
/// When a line is neither a credential, nor empty, nor a comment.
pub fn parse(text: &str) -> Result<Vec<NodeCredential>, InvalidNodeCredentials> {
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(index, line)| line.parse().map_err(|source| InvalidNodeCredentials { line: index + 1, source }))
        .collect()
}

impl FromStr for NodeCredential {
    type Err = InvalidNodeCredential;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let (user, hash) = line.split_once(":sha256:").ok_or(InvalidNodeCredential)?;
        Self::from_hash(user, from_hex(hash).ok_or(InvalidNodeCredential)?)
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != 32 || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for NodeCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:sha256:", self.user)?;
        self.sha256.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_written_back() {
        let credentials =
            [NodeCredential::new("node-1", "old").unwrap(), NodeCredential::new("node-2", "new").unwrap()];
        let text = format!("# rotated daily\n\n{}\n  {}\r\n", credentials[0], credentials[1]);
        assert_eq!(parse(&text).unwrap(), credentials);
        assert!(credentials[0].to_string().starts_with("node-1:sha256:cba06b57"), "{}", credentials[0]);
    }

    #[test]
    fn a_line_that_is_no_credential_is_named_by_its_number_and_not_repeated() {
        let hash = "0".repeat(64);
        for line in [
            "node:password".to_owned(),
            format!("node:sha256:{}", &hash[1..]),
            format!("node:sha256:{hash}0"),
            format!("node:sha256:{}A", &hash[1..]),
            format!(":sha256:{hash}"),
            format!("a:b:sha256:{hash}"),
            format!("a b:sha256:{hash}"),
        ] {
            let error = parse(&format!("\n{line}")).unwrap_err();
            assert_eq!(error.line, 2, "{line}");
            assert!(!error.to_string().contains(&line));
        }
    }
}
