//! A certificate authority that a test has for itself.

use std::path::Path;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// The files that a server and its clients need.
#[derive(Debug)]
pub struct ServingCertificate {
    /// The server's certificate chain.
    pub chain: String,
    /// The server's private key.
    pub key: String,
    /// What clients must trust.
    pub authority: String,
}

impl ServingCertificate {
    /// A new authority, and a certificate from it for `name`, which may be an address.
    ///
    /// # Errors
    /// When none can be made.
    pub fn new(name: &str) -> Result<Self> {
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.distinguished_name.push(DnType::CommonName, "Berth end-to-end tests");
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority_key = KeyPair::generate()?;
        let authority_certificate = authority.self_signed(&authority_key)?;

        let mut server = CertificateParams::new([name.to_owned()])?;
        server.distinguished_name.push(DnType::CommonName, "registry");
        let server_key = KeyPair::generate()?;
        let server_certificate = server.signed_by(&server_key, &Issuer::new(authority, authority_key))?;
        Ok(Self {
            chain: server_certificate.pem(),
            key: server_key.serialize_pem(),
            authority: authority_certificate.pem(),
        })
    }

    /// Writes `tls.crt`, `tls.key` and `ca.crt` into `folder`.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        std::fs::write(folder.join("tls.crt"), &self.chain)?;
        std::fs::write(folder.join("tls.key"), &self.key)?;
        std::fs::write(folder.join("ca.crt"), &self.authority)?;
        Ok(())
    }
}
