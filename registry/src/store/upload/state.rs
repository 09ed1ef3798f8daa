//! What an upload's client carries between requests.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use berth_oci::{Algorithm, Hasher, RepositoryName};
use ulid::Ulid;

/// Where an upload stands, as one answer told it. It names no key that is served and none that is still being written.
///
/// As bytes it is about 200 long and protects nothing: whoever gives it to a client seals it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadState {
    upload: Ulid,
    repository: RepositoryName,
    principal: String,
    algorithm: Algorithm,
    /// Seconds since 1970.
    expires: u64,
    offset: u64,
    head: Ulid,
    hashed: u64,
    midstate: Vec<u8>,
}

/// The form that `to_bytes` writes. A replica of another version that cannot read it answers as to an unknown upload.
const VERSION: u8 = 1;

impl UploadState {
    pub(super) fn new(
        repository: RepositoryName,
        principal: String,
        algorithm: Algorithm,
        expires: SystemTime,
    ) -> Self {
        let expires = expires.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let midstate = Hasher::new(algorithm).save();
        let (upload, head) = (Ulid::generate(), Ulid::nil());
        Self { upload, repository, principal, algorithm, expires, offset: 0, head, hashed: 0, midstate }
    }

    /// The upload's name.
    pub fn id(&self) -> String {
        self.upload.to_string()
    }

    /// The repository that the blob will be in.
    pub const fn repository(&self) -> &RepositoryName {
        &self.repository
    }

    /// Who began it.
    pub fn principal(&self) -> &str {
        &self.principal
    }

    /// The algorithm that its digest is expected to have.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// How many bytes are there.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// When it ends by itself.
    pub fn expires(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.expires)
    }

    pub(super) const fn ulid(&self) -> Ulid {
        self.upload
    }

    /// The request that wrote the last segment; nil when there is none.
    pub(super) const fn head(&self) -> Ulid {
        self.head
    }

    /// How many bytes the hasher has seen.
    pub(super) const fn hashed(&self) -> u64 {
        self.hashed
    }

    /// The same bytes for a digest of this algorithm. Who did not say at the start that it would be another one makes us
    /// read again what is stored.
    pub(super) fn hashed_by(self, algorithm: Algorithm) -> Self {
        if algorithm == self.algorithm {
            return self;
        }
        Self { algorithm, hashed: 0, midstate: Hasher::new(algorithm).save(), ..self }
    }

    pub(super) fn hasher(&self) -> Option<Hasher> {
        Hasher::resume(self.algorithm, &self.midstate).ok()
    }

    /// The state after one more segment, by the request that hashed it.
    pub(super) fn after(&self, attempt: Ulid, len: u64, hasher: &Hasher) -> Self {
        let offset = self.offset + len;
        Self { hashed: offset, midstate: hasher.save(), ..self.after_unhashed(attempt, len) }
    }

    /// The state after one more segment that is only known to be there.
    pub(super) fn after_unhashed(&self, attempt: Ulid, len: u64) -> Self {
        Self { offset: self.offset + len, head: attempt, ..self.clone() }
    }

    /// For its client to carry.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION, u8::from(self.algorithm == Algorithm::Sha512)];
        bytes.extend(self.upload.to_bytes());
        bytes.extend(self.head.to_bytes());
        for number in [self.expires, self.offset, self.hashed] {
            bytes.extend(number.to_be_bytes());
        }
        for part in [self.midstate.as_slice(), self.repository.as_ref().as_bytes(), self.principal.as_bytes()] {
            // No part is that long: a name has 255 bytes, a principal comes from a header.
            bytes.extend(u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
            bytes.extend(part);
        }
        bytes
    }

    /// What its client carried. `None`: another version wrote it.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let [version, long] = reader.array()?;
        let algorithm = if long == 1 { Algorithm::Sha512 } else { Algorithm::Sha256 };
        let state = Self {
            algorithm,
            upload: Ulid::from_bytes(reader.array()?),
            head: Ulid::from_bytes(reader.array()?),
            expires: u64::from_be_bytes(reader.array()?),
            offset: u64::from_be_bytes(reader.array()?),
            hashed: u64::from_be_bytes(reader.array()?),
            midstate: reader.part()?.to_vec(),
            repository: std::str::from_utf8(reader.part()?).ok()?.parse().ok()?,
            principal: std::str::from_utf8(reader.part()?).ok()?.to_owned(),
        };
        (version == VERSION && reader.0.is_empty()).then_some(state)
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn part(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(u16::from_be_bytes(self.array()?));
        let (part, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(part)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_state_is_read_back_from_its_bytes(principal: String, offset: u64, long: bool, head: u128) {
            let algorithm = if long { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let new = UploadState::new("a/b".parse().unwrap(), principal, algorithm, SystemTime::now());
            let state = UploadState { offset, head: Ulid(head), ..new };
            prop_assert_eq!(UploadState::from_bytes(&state.to_bytes()), Some(state));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = UploadState::from_bytes(&bytes);
        }
    }

    #[test]
    fn a_state_that_is_cut_or_has_more_is_refused() {
        let bytes = UploadState::new("a".parse().unwrap(), "p".into(), Algorithm::Sha256, SystemTime::now()).to_bytes();
        assert!(UploadState::from_bytes(&bytes[..bytes.len() - 1]).is_none());
        assert!(UploadState::from_bytes(&[&bytes[..], b"x"].concat()).is_none());
    }
}
