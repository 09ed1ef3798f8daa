//! Passwords that were right a short while ago.
//!
//! A pull is dozens of requests with the same credentials. Without this each would cost a tenth of a second of a core.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use rustls::crypto::aws_lc_rs::default_provider;
use sha2::Sha256;

/// How long a password stays right without being checked again. A changed file forgets all of them at once.
const LIFETIME: Duration = Duration::from_secs(300);

/// How many are remembered.
const CAPACITY: usize = 4096;

/// User and password under a key that only this process has, so that its memory holds no password and nothing to guess
/// one from faster than bcrypt allows.
type Tag = [u8; 32];

pub(super) struct Verified {
    key: [u8; 32],
    until: Mutex<HashMap<Tag, Instant>>,
}

impl Verified {
    pub(super) fn new() -> Self {
        let mut key = [0; 32];
        // Without randomness the tags are still one-way; what is lost is only that they differ between processes.
        let _ = default_provider().secure_random.fill(&mut key);
        Self { key, until: Mutex::default() }
    }

    pub(super) fn contains(&self, user: &str, password: &str) -> bool {
        let tag = self.tag(user, password);
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.get(&tag).is_some_and(|until| Instant::now() < *until)
    }

    pub(super) fn remember(&self, user: &str, password: &str) {
        let tag = self.tag(user, password);
        let now = Instant::now();
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.len() >= CAPACITY {
            until.retain(|_, until| now < *until);
        }
        if until.len() >= CAPACITY {
            until.clear();
        }
        until.insert(tag, now + LIFETIME);
    }

    fn tag(&self, user: &str, password: &str) -> Tag {
        // A key may have any length, so this cannot fail.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else { return [0; 32] };
        mac.update(&user.len().to_le_bytes());
        mac.update(user.as_bytes());
        mac.update(password.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

impl std::fmt::Debug for Verified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verified").finish_non_exhaustive()
    }
}
