//! TLS: the certificate we show, read again when it changes.

use std::error::Error;
use std::sync::Arc;

use berth_contract::config::{MinimumTls, Tls};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use sha2::{Digest as _, Sha256};

use crate::config::{FileError, Watched};

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The library refuses the protocol versions.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The serving certificate and its key. Connections keep the one that they began with; a new one is shown to whoever
/// connects after it was read. A pair that does not fit together, as while one file of the two has been replaced, is not
/// shown to anyone.
#[derive(Clone, Debug)]
pub struct Certificate(Arc<Watched<Pair, 2>>);

#[derive(Debug)]
struct Pair {
    key: Arc<CertifiedKey>,
    fingerprint: String,
    not_after: i64,
}

/// What listeners need for TLS as `tls` describes it, and the certificate, to be asked about.
///
/// # Errors
/// When the files cannot be used.
pub fn server_config(tls: &Tls) -> Result<(Arc<ServerConfig>, Certificate), TlsError> {
    let certificate = Certificate(Watched::open("http.tls.certificate", [&tls.certificate, &tls.key], read_pair)?);
    let versions: &[_] = match tls.minimumtls {
        MinimumTls::Tls12 => &[&TLS13, &TLS12],
        MinimumTls::Tls13 => &[&TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificate.clone()));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((Arc::new(config), certificate))
}

impl Certificate {
    /// SHA-256 of the leaf's DER, in lower-case hexadecimal.
    pub fn fingerprint(&self) -> String {
        self.0.get().fingerprint.clone()
    }

    /// When the leaf ends, in seconds since 1970.
    pub fn not_after(&self) -> i64 {
        self.0.get().not_after
    }

    /// Reads the files again, if they have changed.
    pub fn refresh(&self) {
        self.0.refresh();
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.get().key))
    }
}

fn read_pair([certificate, key]: [&[u8]; 2]) -> Result<Pair, Box<dyn Error + Send + Sync>> {
    let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>()?;
    let leaf = chain.first().ok_or("there is no certificate in the file")?;
    let fingerprint = Sha256::digest(leaf).iter().map(|byte| format!("{byte:02x}")).collect();
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf)?;
    let not_after = parsed.validity().not_after.timestamp();
    let key = CertifiedKey::from_der(chain.clone(), PrivateKeyDer::from_pem_slice(key)?, &default_provider())?;
    Ok(Pair { key: Arc::new(key), fingerprint, not_after })
}
