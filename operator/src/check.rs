//! `berth-operator check`: what `helm test` runs. An operator leads, and every Registry that says it is ready answers at its
//! URL, under the certificate that its status shows, and lets nobody in without credentials.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, ResourceExt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::api::{Registry, RegistryStatus};
use crate::api_client;

/// How long a Registry may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The arguments of `check`.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckArgs {
    /// The operator's namespace.
    #[arg(long, env = "POD_NAMESPACE", default_value = "berth-system")]
    namespace: String,
}

/// Checks, and says on standard output what it found. Fails when something is not as it should be.
pub async fn run(args: CheckArgs) -> anyhow::Result<()> {
    let client = api_client::connect().await?;
    let lease = Api::<Lease>::namespaced(client.clone(), &args.namespace).get("berth-operator").await;
    let leader = lease.context("no operator has led yet")?.spec.and_then(|spec| spec.holder_identity);
    println!("leading: {}", leader.filter(|leader| !leader.is_empty()).context("no operator leads")?);
    let registries = Api::<DeserializeGuard<Registry>>::all(client).list(&ListParams::default()).await?.items;
    let (mut answered, mut failed) = (0, 0);
    for registry in &registries {
        let registry = match &registry.0 {
            Ok(registry) => registry,
            Err(invalid) => {
                let metadata = &invalid.metadata;
                let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
                println!(
                    "{}/{}: cannot be read, so it was not asked: {}",
                    namespace.unwrap_or_default(),
                    name.unwrap_or_default(),
                    invalid.error
                );
                continue;
            }
        };
        let name = format!("{}/{}", registry.namespace().unwrap_or_default(), registry.name_any());
        let status = registry.status.clone().unwrap_or_default();
        if !status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True") {
            println!("{name}: does not say that it is ready, so it was not asked");
            continue;
        }
        match tokio::time::timeout(PATIENCE, ask(&status)).await {
            Ok(Ok(())) => {
                answered += 1;
                println!("{name}: answers, and lets nobody in without credentials");
            }
            Ok(Err(error)) => {
                failed += 1;
                println!("{name}: {error:#}");
            }
            Err(_) => {
                failed += 1;
                println!("{name}: no answer within {PATIENCE:?}");
            }
        }
    }
    let not_asked = registries.len() - answered - failed;
    println!(
        "{} Registries: {answered} answered, {failed} failed, {not_asked} not ready and not asked",
        registries.len()
    );
    ensure!(failed == 0, "{failed} of {} Registries failed", registries.len());
    Ok(())
}

/// Asks one Registry as a client in the cluster would that trusts what its status shows and nothing else.
async fn ask(status: &RegistryStatus) -> anyhow::Result<()> {
    let host = status.url.as_deref().and_then(|url| url.strip_prefix("https://")).context("it has no URL")?.to_owned();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(status.ca_bundle.as_deref().unwrap_or_default().as_bytes()) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = tokio::net::TcpStream::connect((host.as_str(), 443)).await.context("cannot connect")?;
    let server = ServerName::try_from(host.clone())?;
    let tls = TlsConnector::from(Arc::new(config)).connect(server, tcp).await.context("TLS")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?;
    let connection = tokio::spawn(connection);
    let request = http::Request::get("/v2/").header("host", host).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await;
    connection.abort();
    match response?.status() {
        http::StatusCode::UNAUTHORIZED => Ok(()),
        status => bail!("it answers a request without credentials with {status}"),
    }
}
