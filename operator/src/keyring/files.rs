//! What pods, people and nodes are given of a keyring. Pure.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_contract::node_credentials::NodeCredential;

use super::{ADMIN, Keyring, NODE_USER};
use crate::fingerprint;
use crate::node_entry::AUTHORIZATION_KEY;

/// The serving certificate.
pub const CERTIFICATE: &str = "tls.crt";
/// Its key.
pub const KEY: &str = "tls.key";
/// The keys that upload locations are sealed with, one a line: the first seals, all open.
pub const HTTP_SECRET: &str = "http-secret";
/// The users.
pub const HTPASSWD: &str = "htpasswd";
/// The credentials that nodes pull with.
pub const NODES: &str = "nodes";

/// The contents of a Secret: key and text.
pub type Files = BTreeMap<String, String>;

impl Keyring {
    /// What pods mount; none until there is a certificate.
    pub fn server_files(&self) -> Option<Files> {
        let leaf = self.leaf.as_ref()?;
        let mut files = Files::from([
            (CERTIFICATE.to_owned(), leaf.certificate.clone()),
            (KEY.to_owned(), leaf.key.clone()),
            (HTTP_SECRET.to_owned(), self.http_secret.accepted().map(|key| format!("{key}\n")).collect()),
        ]);
        let incoming = self.incoming_admin.as_ref().map(|incoming| &incoming.admin);
        if let Some(admin) = incoming.or(self.admin.as_ref()) {
            files.insert(HTPASSWD.into(), format!("{ADMIN}:{}\n", admin.hash));
        }
        if let Some(nodes) = self.node_credentials_file() {
            files.insert(NODES.into(), nodes);
        }
        Some(files)
    }

    /// What people read to log in.
    pub fn admin_files(&self) -> Option<Files> {
        let incoming = self.incoming_admin.as_ref().filter(|incoming| incoming.shown);
        let admin = incoming.map(|incoming| &incoming.admin).or(self.admin.as_ref())?;
        Some(Files::from([("username".into(), ADMIN.into()), ("password".into(), admin.password.clone())]))
    }

    /// What agents read: the value of an `Authorization` header.
    pub fn entry_files(&self) -> Option<Files> {
        Some(Files::from([(AUTHORIZATION_KEY.into(), self.authorization()?)]))
    }

    /// The fingerprint of the header's value, as nodes report it.
    pub fn authorization_fingerprint(&self) -> Option<String> {
        self.authorization().map(fingerprint::of)
    }

    fn authorization(&self) -> Option<String> {
        let password = self.nodes.as_ref()?.active();
        Some(format!("Basic {}", STANDARD.encode(format!("{NODE_USER}:{password}"))))
    }

    /// Every credential that pods accept from nodes.
    fn node_credentials_file(&self) -> Option<String> {
        let nodes = self.nodes.as_ref()?;
        Some(
            nodes
                .accepted()
                .filter_map(|password| NodeCredential::new(NODE_USER, password).ok())
                .map(|credential| format!("{credential}\n"))
                .collect(),
        )
    }

    /// What a pod reports when everything written for it has arrived: fingerprints by configuration key.
    pub fn expected_files(&self) -> BTreeMap<&'static str, String> {
        let files = self.server_files().unwrap_or_default();
        [("http.secretfile", HTTP_SECRET), ("auth.htpasswd.path", HTPASSWD), ("auth.nodes.path", NODES)]
            .into_iter()
            .filter_map(|(key, file)| Some((key, fingerprint::of(files.get(file)?))))
            .collect()
    }
}

/// The fingerprint of a whole Secret.
pub fn content(files: &Files) -> String {
    // Lengths first: no two different Secrets are written alike.
    fingerprint::of(
        files.iter().map(|(key, text)| format!("{} {} {key}{text}", key.len(), text.len())).collect::<String>(),
    )
}
