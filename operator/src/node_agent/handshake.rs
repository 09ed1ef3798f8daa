//! Whether a registry answers this node the way containerd will ask it: TLS to the address of its Service, from the host's
//! network, verified with the entry's certificate authorities and nothing else.
//!
//! The name that is verified is the address, as in containerd: it asks `https://10.96.0.7`, sends no server name, and wants
//! the address in the certificate. A certificate with only the DNS names would not do.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::effective_config::Why;

/// How long one address may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Tries the addresses in their order, as containerd does; one that answers is enough.
pub(super) async fn verify(addresses: &[IpAddr], port: u16, ca_bundle: &str) -> Result<(), Why> {
    let connector = connector(ca_bundle)?;
    let mut failure = Why::new("NoAddress", "the Registry's Service has no address");
    for address in addresses {
        match verify_one(&connector, *address, port).await {
            Ok(()) => return Ok(()),
            Err(why) => failure = why,
        }
    }
    Err(failure)
}

async fn verify_one(connector: &TlsConnector, address: IpAddr, port: u16) -> Result<(), Why> {
    let unreachable = |what: String| Why::new("Unreachable", format!("{address} port {port}: {what}"));
    let attempt = async {
        let stream = TcpStream::connect(SocketAddr::new(address, port))
            .await
            .map_err(|error| unreachable(error.kind().to_string()))?;
        connector.connect(ServerName::IpAddress(address.into()), stream).await.map_err(|error| {
            match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(rustls::Error::InvalidCertificate(error)) => {
                    Why::new("CertificateNotTrusted", format!("{address} port {port}: {error}"))
                }
                Some(error) => Why::new("HandshakeFailed", format!("{address} port {port}: {error}")),
                None => unreachable(error.kind().to_string()),
            }
        })
    };
    match tokio::time::timeout(TIMEOUT, attempt).await {
        Ok(result) => result.map(drop),
        Err(_) => Err(unreachable(format!("no answer within {} seconds", TIMEOUT.as_secs()))),
    }
}

fn connector(ca_bundle: &str) -> Result<TlsConnector, Why> {
    let unusable = |error: &dyn std::fmt::Display| Why::new("CertificateNotTrusted", format!("the CA bundle: {error}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_bundle.as_bytes()) {
        roots.add(certificate.map_err(|error| unusable(&error))?).map_err(|error| unusable(&error))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    struct Authority {
        pem: String,
        issuer: Issuer<'static, KeyPair>,
    }

    fn authority() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority { pem: params.self_signed(&key).unwrap().pem(), issuer: Issuer::new(params, key) }
    }

    /// A server on a free port of loopback whose certificate carries `name`.
    async fn serve(authority: &Authority, name: &str) -> SocketAddr {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &authority.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = acceptor.accept(stream).await;
            }
        });
        address
    }

    async fn reason(address: SocketAddr, ca_bundle: &str) -> Option<&'static str> {
        verify(&[address.ip()], address.port(), ca_bundle).await.err().map(|why| why.reason)
    }

    #[tokio::test]
    async fn an_address_in_a_certificate_of_the_authority_is_trusted() {
        let (ours, theirs) = (authority(), authority());
        let address = serve(&ours, "127.0.0.1").await;
        assert_eq!(reason(address, &ours.pem).await, None);
        // While authorities rotate, the bundle holds both.
        assert_eq!(reason(address, &format!("{}{}", theirs.pem, ours.pem)).await, None);
        assert_eq!(reason(address, &theirs.pem).await, Some("CertificateNotTrusted"));
    }

    #[tokio::test]
    async fn a_certificate_without_the_address_is_not_trusted() {
        let ours = authority();
        let address = serve(&ours, "images.team-a.svc").await;
        assert_eq!(reason(address, &ours.pem).await, Some("CertificateNotTrusted"));
    }

    #[tokio::test]
    async fn one_address_of_two_families_is_enough() {
        let ours = authority();
        let address = serve(&ours, "127.0.0.1").await;
        let addresses = ["127.0.0.2".parse().unwrap(), address.ip()];
        verify(&addresses, address.port(), &ours.pem).await.unwrap();
    }

    #[tokio::test]
    async fn silence_and_plain_text_are_not_tls() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let ours = authority();
        assert_eq!(reason(address, &ours.pem).await, Some("Unreachable"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            use tokio::io::AsyncWriteExt as _;
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            }
        });
        assert_eq!(reason(address, &ours.pem).await, Some("HandshakeFailed"));
    }
}
