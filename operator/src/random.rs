//! Randomness for secrets, from the library that TLS takes it from.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The system gave no randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no randomness")]
pub struct Unavailable;

/// Letters and digits that spell no word, as Kubernetes takes them for generated names.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A password of 256 random bits, in characters that need no escaping anywhere.
pub fn password() -> Result<String, Unavailable> {
    let mut bytes = [0; 32];
    fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// A part of a name that cannot be guessed: `length` characters, 4.7 bits each.
pub fn name(length: usize) -> Result<String, Unavailable> {
    let mut name = String::with_capacity(length);
    while name.len() < length {
        let mut byte = [0];
        fill(&mut byte)?;
        // Bytes beyond the last whole multiple of the alphabet would favour its first letters.
        let byte = usize::from(byte[0]);
        if byte < 256 / ALPHABET.len() * ALPHABET.len() {
            name.push(char::from(ALPHABET[byte % ALPHABET.len()]));
        }
    }
    Ok(name)
}

fn fill(bytes: &mut [u8]) -> Result<(), Unavailable> {
    rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(bytes).map_err(|_| Unavailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_need_no_escaping() {
        let (one, two) = (password().unwrap(), password().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), 43);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        assert_eq!(name(10).unwrap().len(), 10);
    }
}
