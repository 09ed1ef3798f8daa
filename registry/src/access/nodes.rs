//! The credentials that nodes pull with.

use std::path::Path;
use std::sync::Arc;

use berth_contract::node_credentials::{self, NodeCredential};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{Credentials, Principal};
use crate::config::{FileError, Watched};

/// A file of node credentials, as the contract crate describes it.
#[derive(Debug)]
pub(super) struct Nodes(Arc<Watched<Vec<NodeCredential>>>);

impl Nodes {
    pub(super) fn open(path: &Path) -> Result<Self, FileError> {
        Watched::open("auth.nodes.path", [path], |[text]| Ok(node_credentials::parse(std::str::from_utf8(text)?)?))
            .map(Self)
    }

    /// The node that sent `credentials`, if one did. The time it takes tells nothing of how nearly they were right.
    pub(super) fn verify(&self, credentials: &Credentials) -> Option<Principal> {
        let sha256: [u8; 32] = Sha256::digest(&credentials.password).into();
        let known = self.0.get();
        let is_one = |known: &NodeCredential| {
            known.sha256().ct_eq(&sha256) & known.user().as_bytes().ct_eq(credentials.user.as_bytes())
        };
        let matches = known.iter().map(is_one).fold(0.into(), |any: subtle::Choice, one| any | one);
        bool::from(matches).then(|| Principal::Node(credentials.user.clone()))
    }

    pub(super) fn refresh(&self) {
        self.0.refresh();
    }

    pub(super) fn fingerprint(&self) -> String {
        self.0.fingerprint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(user: &str, password: &str) -> Credentials {
        Credentials { user: user.into(), password: password.into() }
    }

    #[test]
    fn while_a_credential_rotates_the_old_one_and_the_new_one_are_good() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nodes");
        let [old, new] = ["old", "new"].map(|password| NodeCredential::new("node", password).unwrap());
        std::fs::write(&path, format!("{old}\n{new}\n")).unwrap();
        let nodes = Nodes::open(&path).unwrap();
        assert_eq!(nodes.verify(&credentials("node", "old")), Some(Principal::Node("node".into())));
        assert!(nodes.verify(&credentials("node", "new")).is_some());
        std::fs::write(&path, new.to_string()).unwrap();
        nodes.refresh();
        assert_eq!(nodes.verify(&credentials("node", "old")), None);
        assert_eq!(nodes.verify(&credentials("other", "new")), None);
        assert!(nodes.verify(&credentials("node", "new")).is_some());
    }
}
