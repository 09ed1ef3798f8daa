//! What an upload's location carries: the upload's state, sealed.
//!
//! Nothing is kept here between requests, so any replica with the same key can go on with any upload. The seal is an
//! HMAC-SHA256 over the state, which names the repository, who began it, the algorithm and when it ends; whoever changes a
//! byte of it, or brings it to another repository or as another user, finds no such upload.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use berth_oci::RepositoryName;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rustls::crypto::aws_lc_rs::default_provider;
use sha2::Sha256;

use crate::access::Principal;
use crate::config::{FileError, Watched};
use crate::store::UploadState;

type Key = Vec<u8>;

/// The keys that locations are sealed with: the first seals, all open.
pub struct UploadKeys(Source);

enum Source {
    Fixed(Vec<Key>),
    File(Arc<Watched<Vec<Key>>>),
}

/// There is no randomness to make a key of.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the system has no random bytes for http.secret")]
pub struct NoRandomness;

/// Bytes of the seal.
const SEAL: usize = 32;

impl UploadKeys {
    /// The key of a registry that has been given none. Uploads do not outlive the process.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn random() -> Result<Self, NoRandomness> {
        let mut key = vec![0; 32];
        default_provider().secure_random.fill(&mut key).map_err(|_| NoRandomness)?;
        Ok(Self(Source::Fixed(vec![key])))
    }

    /// The key that `http.secret` gives.
    pub fn secret(secret: &str) -> Self {
        Self(Source::Fixed(vec![secret.into()]))
    }

    /// The keys in the file that `http.secretfile` names, one a line. They are read again when they change.
    ///
    /// # Errors
    /// When the file cannot be read or has no key.
    pub fn file(path: &Path) -> Result<Self, FileError> {
        let read = |[text]: [&[u8]; 1]| {
            let lines = std::str::from_utf8(text)?.lines().map(str::trim);
            let keys: Vec<Key> = lines.filter(|line| !line.is_empty()).map(Into::into).collect();
            if keys.is_empty() { Err("there is no key in the file".into()) } else { Ok(keys) }
        };
        Watched::open("http.secretfile", [path], read).map(|keys| Self(Source::File(keys)))
    }

    /// The SHA-256 of the file in use, if the keys are in a file.
    pub fn fingerprint(&self) -> Option<String> {
        match &self.0 {
            Source::Fixed(_) => None,
            Source::File(file) => Some(file.fingerprint()),
        }
    }

    fn with<T>(&self, read: impl FnOnce(&[Key]) -> T) -> T {
        match &self.0 {
            Source::Fixed(keys) => read(keys),
            Source::File(file) => read(&file.get()),
        }
    }

    /// The token for an upload's location.
    pub(super) fn seal(&self, state: &UploadState) -> String {
        let state = state.to_bytes();
        let seal =
            self.with(|keys| keys.first().and_then(|key| mac(key, &state)).map(|mac| mac.finalize().into_bytes()));
        let mut token = seal.as_deref().unwrap_or_default().to_vec();
        token.extend(state);
        BASE64URL.encode(token)
    }

    /// The state in a token, if it is one of ours, for this repository, brought by whoever began it, and in time.
    pub(super) fn open(&self, token: &str, repository: &RepositoryName, principal: &Principal) -> Option<UploadState> {
        let token = BASE64URL.decode(token).ok()?;
        let (seal, state) = token.split_at_checked(SEAL)?;
        let sealed = |key: &Key| mac(key, state).is_some_and(|mac| mac.verify_slice(seal).is_ok());
        if !self.with(|keys| keys.iter().any(sealed)) {
            return None;
        }
        let state = UploadState::from_bytes(state)?;
        let own = state.repository() == repository && state.principal() == principal.to_string();
        (own && SystemTime::now() < state.expires()).then_some(state)
    }
}

/// `None` never comes: a key may have any length.
fn mac(key: &[u8], state: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(b"berth upload location\0");
    mac.update(state);
    Some(mac)
}

impl fmt::Debug for UploadKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadKeys").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use berth_oci::Algorithm;

    use super::*;
    use crate::store::Store;

    fn alice() -> Principal {
        Principal::User("alice".into())
    }

    fn state(store: &Store) -> UploadState {
        store.start_upload("a/b".parse().unwrap(), alice().to_string(), Algorithm::Sha256)
    }

    #[test]
    fn a_token_is_opened_by_whoever_it_was_made_for_and_by_nobody_else() {
        let keys = UploadKeys::secret("secret");
        let state = state(&Store::in_memory());
        let token = keys.seal(&state);
        let here = "a/b".parse().unwrap();
        assert_eq!(keys.open(&token, &here, &alice()), Some(state));
        assert!(keys.open(&token, &"a/c".parse().unwrap(), &alice()).is_none());
        for other in [Principal::User("bob".into()), Principal::Node("alice".into()), Principal::Anyone] {
            assert!(keys.open(&token, &here, &other).is_none(), "{other}");
        }
        assert!(UploadKeys::secret("other").open(&token, &here, &alice()).is_none());
        assert!(UploadKeys::random().unwrap().open(&token, &here, &alice()).is_none());
    }

    #[test]
    fn a_token_with_any_byte_changed_is_none_of_ours() {
        let keys = UploadKeys::secret("secret");
        let token = keys.seal(&state(&Store::in_memory()));
        let here = "a/b".parse().unwrap();
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            assert!(keys.open(std::str::from_utf8(&forged).unwrap(), &here, &alice()).is_none(), "{at}");
            assert!(keys.open(&token[..at], &here, &alice()).is_none(), "{at}");
        }
        assert!(keys.open(&format!("{token}AAAA"), &here, &alice()).is_none());
        assert!(keys.open("é", &here, &alice()).is_none());
    }

    #[test]
    fn a_token_ends_when_its_upload_does() {
        let keys = UploadKeys::secret("secret");
        let token = keys.seal(&state(&Store::in_memory().with_upload_age(Duration::ZERO)));
        assert!(keys.open(&token, &"a/b".parse().unwrap(), &alice()).is_none());
    }

    #[test]
    fn while_keys_rotate_the_old_one_opens_and_the_new_one_seals() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let state = state(&Store::in_memory());
        let here = "a/b".parse().unwrap();
        std::fs::write(&path, "new\nold\n").unwrap();
        let keys = UploadKeys::file(&path).unwrap();
        assert!(keys.open(&UploadKeys::secret("old").seal(&state), &here, &alice()).is_some());
        assert!(UploadKeys::secret("new").open(&keys.seal(&state), &here, &alice()).is_some());
        std::fs::write(&path, "\n \n").unwrap();
        assert!(UploadKeys::file(&path).is_err());
    }
}
