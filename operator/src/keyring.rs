//! The keyring: every key and password of one Registry, and when each is replaced.
//!
//! It is kept as one Secret in the operator's own namespace. What pods and nodes need of it is written to theirs
//! ([`files`]); nothing is ever read back from there. [`rotation`] decides what changes, purely: it is given the time and what
//! was seen, so a restart of the operator at any moment goes on where it stood.

pub mod files;
pub mod overlapping;
pub mod rotation;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::overlapping::Overlapping;
use crate::certificate_authority::{self, Authority, Leaf};
use crate::{fingerprint, random};

/// The user whose password the operator makes.
pub const ADMIN: &str = "admin";
/// The user as whom nodes pull.
pub const NODE_USER: &str = "berth-node";

/// Everything secret about one Registry.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Keyring {
    /// The uid of the Registry it serves now. A Registry that was deleted and made again has another.
    pub registry_uid: String,
    /// The uid of the Registry's namespace. A namespace that was deleted and made again may be another tenant's, who must
    /// not be handed passwords that the first one knows.
    #[serde(default)]
    pub namespace_uid: Option<String>,
    /// The authority that signs.
    pub authority: Authority,
    /// The authority that will sign, when nodes and clients had time to trust it.
    #[serde(default)]
    pub incoming: Option<Authority>,
    /// The authority that signed, still trusted while a pod may serve what it signed.
    #[serde(default)]
    pub retiring: Option<Retiring>,
    /// What pods serve; none until the Service has its addresses.
    #[serde(default)]
    pub leaf: Option<Leaf>,
    /// What upload locations are sealed with.
    pub http_secret: Overlapping,
    /// The generated user.
    #[serde(default)]
    pub admin: Option<Admin>,
    /// The generated user with the password that people will be told, when every pod accepts it.
    #[serde(default)]
    pub incoming_admin: Option<IncomingAdmin>,
    /// What nodes pull with.
    #[serde(default)]
    pub nodes: Option<Overlapping>,
    /// What was written elsewhere.
    #[serde(default)]
    pub written: Written,
    /// The last request for a certificate that was fulfilled.
    #[serde(default)]
    pub handled_certificate_rotation: Option<String>,
    /// The last request for an authority that was fulfilled.
    #[serde(default)]
    pub handled_authority_rotation: Option<String>,
    /// The last request for a generated password that was fulfilled.
    #[serde(default)]
    pub handled_password_rotation: Option<String>,
    /// The request for a node credential that is being fulfilled.
    #[serde(default)]
    pub node_rotation: Option<NodeRotation>,
    /// The last request for a node credential that was fulfilled.
    #[serde(default)]
    pub handled_node_rotation: Option<String>,
}

/// An authority that no longer signs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retiring {
    /// Its certificate, as PEM.
    pub certificate: String,
    /// Since when it no longer signs.
    pub since: Timestamp,
}

/// The generated user.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Admin {
    /// The password.
    pub password: String,
    /// Its bcrypt hash, kept because a new one would differ each time.
    pub hash: String,
}

/// A password that pods are told before people are.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IncomingAdmin {
    /// The user with it.
    pub admin: Admin,
    /// The request that it fulfils.
    pub request: String,
    /// Since when pods are told.
    pub since: Timestamp,
    /// Whether people are told.
    #[serde(default)]
    pub shown: bool,
}

/// A request for a node credential.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRotation {
    /// The request.
    pub request: String,
    /// How far it is.
    pub stage: NodeRotationStage,
}

/// How far a request for a node credential is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NodeRotationStage {
    /// Another replacement has to end first.
    Waiting,
    /// The feared one is being replaced.
    Begun,
    /// Pods are told to refuse the feared one, since then.
    Refused(Timestamp),
}

/// The Secrets that were written elsewhere, which this program cannot read.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Written {
    /// What pods mount.
    #[serde(default)]
    pub server: Option<WrittenSecret>,
    /// What people read.
    #[serde(default)]
    pub admin: Option<WrittenSecret>,
    /// What agents read.
    #[serde(default)]
    pub entry: Option<WrittenSecret>,
}

/// A Secret that was written elsewhere. Its name is recorded before it is created, and cannot be guessed by others; its uid
/// afterwards, so that a PUT never overwrites what somebody else put in its place.
#[derive(Clone, Default, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WrittenSecret {
    /// Its name.
    pub name: String,
    /// Its uid, once it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Whether one of this name existed before. Everybody may know the name then, so that a Secret that has it may be
    /// anybody's.
    #[serde(default)]
    pub lost: bool,
    /// The fingerprint of what was written last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// A key could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate.
    #[error(transparent)]
    Certificate(#[from] certificate_authority::Error),
    /// For want of randomness.
    #[error(transparent)]
    Random(#[from] random::Unavailable),
    /// A password's hash.
    #[error("cannot hash a password: {0}")]
    Hash(#[from] bcrypt::BcryptError),
}

impl Keyring {
    /// A new keyring: an authority, and nothing that depends on the Registry's wishes.
    pub fn new(registry_uid: &str, authority: Authority, now: Timestamp) -> Result<Self, random::Unavailable> {
        Ok(Self {
            registry_uid: registry_uid.into(),
            namespace_uid: None,
            authority,
            incoming: None,
            retiring: None,
            leaf: None,
            http_secret: Overlapping::new(now)?,
            admin: None,
            nodes: None,
            written: Written::default(),
            handled_certificate_rotation: None,
            handled_authority_rotation: None,
            handled_password_rotation: None,
            incoming_admin: None,
            node_rotation: None,
            handled_node_rotation: None,
        })
    }

    /// The same for a Registry of the same name that was made anew: the Secrets of the old one went with it.
    pub fn adopt(&mut self, registry_uid: &str) {
        registry_uid.clone_into(&mut self.registry_uid);
        // Nobody was told the password before it; the new Registry's pods and its Secret begin with one.
        if let Some(incoming) = self.incoming_admin.take() {
            self.admin = Some(incoming.admin);
            self.handled_password_rotation = Some(incoming.request);
        }
        self.written = Written::default();
    }

    /// What clients must trust: the authority that signs, and the one before or after it.
    pub fn ca_bundle(&self) -> String {
        let retiring = self.retiring.as_ref().map(|retiring| retiring.certificate.as_str());
        let incoming = self.incoming.as_ref().map(|incoming| incoming.certificate.as_str());
        [Some(self.authority.certificate.as_str()), incoming, retiring].into_iter().flatten().collect()
    }

    /// The fingerprint of [`ca_bundle`](Self::ca_bundle), as nodes report it.
    pub fn ca_bundle_fingerprint(&self) -> String {
        fingerprint::of(self.ca_bundle())
    }

    /// When the newest authority ends.
    pub fn ca_not_after(&self) -> Timestamp {
        self.incoming.as_ref().map_or(self.authority.not_after, |incoming| incoming.not_after)
    }
}
