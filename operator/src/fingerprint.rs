//! SHA-256 in lower-case hexadecimal: how operator, pods and nodes name content that they must not repeat.

use sha2::{Digest as _, Sha256};

/// The fingerprint of these bytes.
pub fn of(bytes: impl AsRef<[u8]>) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_fingerprint_is_sha_256_in_lower_case() {
        assert!(super::of("").starts_with("e3b0c44298fc1c14"));
        assert_eq!(super::of("x").len(), 64);
    }
}
