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
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

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
    /// The DNS names that it holds, in lower case.
    names: Vec<String>,
}

/// All certificates: the first answers for its own names, for names that nobody holds, and whoever asks for none.
#[derive(Debug)]
struct Certificates {
    first: Certificate,
    additional: Vec<Certificate>,
}

/// What listeners need for TLS as `tls` describes it, and the certificate, to be asked about.
///
/// # Errors
/// When the files cannot be used.
pub fn server_config(tls: &Tls) -> Result<(Arc<ServerConfig>, Certificate), TlsError> {
    let certificate = Certificate(Watched::open("http.tls.certificate", [&tls.certificate, &tls.key], read_pair)?);
    let mut additional = Vec::new();
    for pair in &tls.additional {
        additional.push(Certificate(Watched::open("http.tls.additional", [&pair.certificate, &pair.key], read_pair)?));
    }
    let versions: &[_] = match tls.minimumtls {
        MinimumTls::Tls12 => &[&TLS13, &TLS12],
        MinimumTls::Tls13 => &[&TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Certificates { first: certificate.clone(), additional }));
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

impl ResolvesServerCert for Certificates {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let holds =
            |certificate: &&Certificate| client_hello.server_name().is_some_and(|name| certificate.0.get().holds(name));
        let is_internal = client_hello.server_name().is_none_or(is_of_a_service);
        let mut given = self.additional.iter().filter(|_| !is_internal || !holds(&&self.first));
        let chosen = given.find(holds).unwrap_or(&self.first);
        Some(Arc::clone(&chosen.0.get().key))
    }
}

/// Whether a name is a Kubernetes Service's: `<name>.<namespace>.svc`, with or without a domain behind it. Nobody else certifies
/// those, and who asks for one trusts our own authority.
fn is_of_a_service(name: &str) -> bool {
    name.split('.').skip(2).any(|label| label.eq_ignore_ascii_case("svc"))
}

impl Pair {
    /// RFC 9525 section 6.3: a `*` stands for exactly one label, the leftmost.
    fn holds(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        let rest = name.split_once('.').map(|(_, rest)| rest);
        self.names.iter().any(|held| *held == name || held.strip_prefix("*.").is_some_and(|held| Some(held) == rest))
    }
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    };
    names.value.general_names.iter().filter_map(dns).collect()
}

fn read_pair([certificate, key]: [&[u8]; 2]) -> Result<Pair, Box<dyn Error + Send + Sync>> {
    let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>()?;
    let leaf = chain.first().ok_or("there is no certificate in the file")?;
    let fingerprint = Sha256::digest(leaf).iter().map(|byte| format!("{byte:02x}")).collect();
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf)?;
    let (not_after, names) = (parsed.validity().not_after.timestamp(), dns_names(&parsed));
    let key = CertifiedKey::from_der(chain.clone(), PrivateKeyDer::from_pem_slice(key)?, &default_provider())?;
    Ok(Pair { key: Arc::new(key), fingerprint, not_after, names })
}
