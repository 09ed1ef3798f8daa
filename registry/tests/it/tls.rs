//! TLS, and certificates that change while connections are open.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use berth_contract::config::{KeyPair, MinimumTls, Tls};
use berth_registry::serve::{Certificate, Limits, Listener, serve, server_config};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::registry_under_test::RegistryUnderTest;

/// Writes a new pair and gives back its certificate.
fn write_pair(directory: &Path) -> CertificateDer<'static> {
    write_pair_for(directory, "localhost")
}

fn write_pair_for(directory: &Path, name: &str) -> CertificateDer<'static> {
    write_pair_for_all(directory, &[name])
}

fn write_pair_for_all(directory: &Path, names: &[&str]) -> CertificateDer<'static> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    std::fs::write(directory.join("tls.key"), signing_key.serialize_pem()).unwrap();
    std::fs::write(directory.join("tls.crt"), cert.pem()).unwrap();
    cert.der().clone()
}

fn tls(directory: &Path) -> Tls {
    Tls {
        certificate: directory.join("tls.crt"),
        key: directory.join("tls.key"),
        minimumtls: MinimumTls::Tls12,
        additional: Vec::new(),
    }
}

async fn served(directory: &Path) -> (std::net::SocketAddr, Certificate) {
    serve_tls(&tls(directory)).await
}

async fn serve_tls(tls: &Tls) -> (std::net::SocketAddr, Certificate) {
    let (config, certificate) = server_config(tls).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let listener = Listener { tcp, tls: Some(config), limits: Limits::default() };
    tokio::spawn(serve(listener, RegistryUnderTest::open().router, std::future::pending(), Duration::ZERO));
    (address, certificate)
}

async fn connect(
    address: std::net::SocketAddr,
    trusted: &CertificateDer<'static>,
) -> std::io::Result<TlsStream<TcpStream>> {
    connect_as(address, trusted, "localhost").await
}

async fn connect_as(
    address: std::net::SocketAddr,
    trusted: &CertificateDer<'static>,
    name: &'static str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).map_err(std::io::Error::other)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder.map_err(std::io::Error::other)?.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(name).map_err(std::io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(address).await?).await
}

async fn ping(stream: &mut TlsStream<TcpStream>) -> String {
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_old_ones_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let old = write_pair(directory.path());
    let (address, certificate) = served(directory.path()).await;
    let before = certificate.fingerprint();
    let mut open = connect(address, &old).await.unwrap();
    assert!(ping(&mut open).await.starts_with("HTTP/1.1 200"));
    let new = write_pair(directory.path());
    certificate.refresh();
    assert_ne!(certificate.fingerprint(), before);
    assert!(ping(&mut connect(address, &new).await.unwrap()).await.starts_with("HTTP/1.1 200"));
    assert!(connect(address, &old).await.is_err());
    assert!(ping(&mut open).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_pair_that_does_not_fit_together_is_shown_to_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let old = write_pair(directory.path());
    let (address, certificate) = served(directory.path()).await;
    let key = std::fs::read(directory.path().join("tls.key")).unwrap();
    let new = write_pair(directory.path());
    std::fs::write(directory.path().join("tls.key"), key).unwrap();
    certificate.refresh();
    connect(address, &old).await.unwrap();
    std::fs::write(directory.path().join("tls.crt"), "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n")
        .unwrap();
    certificate.refresh();
    connect(address, &old).await.unwrap();
    assert!(connect(address, &new).await.is_err());
    assert!(server_config(&tls(directory.path())).is_err(), "at the start it is an error");
}

#[tokio::test]
async fn an_additional_certificate_answers_the_names_that_only_it_holds() {
    let [first, more] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let ours = write_pair(first.path());
    let theirs = write_pair_for(more.path(), "*.registry.example");
    let pair = KeyPair { certificate: more.path().join("tls.crt"), key: more.path().join("tls.key") };
    let (address, _) = serve_tls(&Tls { additional: vec![pair], ..tls(first.path()) }).await;
    connect(address, &ours).await.unwrap();
    let mut stream = connect_as(address, &theirs, "Images.Registry.example").await.unwrap();
    assert!(ping(&mut stream).await.starts_with("HTTP/1.1 200"));
    for name in ["localhost", "127.0.0.1", "registry.example", "a.b.registry.example"] {
        assert!(connect_as(address, &theirs, name).await.is_err(), "{name}");
    }
}

#[tokio::test]
async fn of_two_certificates_for_a_name_the_additional_one_answers_unless_the_name_is_a_services() {
    let [first, more] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let names = ["registry.example", "images.team-a.svc", "images.team-a.svc.cluster.local"];
    let [ours, theirs] = [&first, &more].map(|directory| write_pair_for_all(directory.path(), &names));
    let pair = KeyPair { certificate: more.path().join("tls.crt"), key: more.path().join("tls.key") };
    let (address, _) = serve_tls(&Tls { additional: vec![pair], ..tls(first.path()) }).await;
    connect_as(address, &theirs, "registry.example").await.unwrap();
    assert!(connect_as(address, &ours, "registry.example").await.is_err());
    for name in ["images.team-a.svc", "images.team-a.svc.cluster.local"] {
        connect_as(address, &ours, name).await.unwrap();
    }
}

#[tokio::test]
async fn a_certificate_that_changes_under_a_loop_of_connections_fails_none() {
    let directory = tempfile::tempdir().unwrap();
    let mut trusted = vec![write_pair(directory.path())];
    let (address, certificate) = served(directory.path()).await;
    for round in 0..20 {
        let last = trusted.last().unwrap().clone();
        assert!(ping(&mut connect(address, &last).await.unwrap()).await.starts_with("HTTP/1.1 200"), "{round}");
        trusted.push(write_pair(directory.path()));
        certificate.refresh();
    }
    assert!(certificate.not_after() > 0);
}
