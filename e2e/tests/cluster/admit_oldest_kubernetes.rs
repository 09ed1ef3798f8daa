//! The definition and all its rules on the oldest Kubernetes that is supported: an API server that goes back to it, with an
//! etcd of its own and without nodes.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use berth_e2e::cluster::eventually;
use berth_e2e::port::free_port;
use berth_e2e::tool;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use serde_json::json;
use tempfile::TempDir;

use crate::admit_registry::{accepts_all, definition, refuses_all};

/// The oldest that is supported, and that `kube-apiserver` 1.36 can go back to.
const OLDEST: &str = "1.33";
/// For an API server to begin, on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn every_rule_installs_and_refuses_on_the_oldest_kubernetes() -> Result<()> {
    let server = Server::start()?;
    let client = server.client().await?;
    let version = eventually("the API server to answer", PATIENCE, async || Ok(client.apiserver_version().await?));
    let version = version.await.with_context(|| server.log())?;
    let emulated = version.emulation_major.zip(version.emulation_minor);
    let emulated = emulated.map(|(major, minor)| format!("{major}.{minor}"));
    ensure!(emulated.as_deref() == Some(OLDEST), "it is {emulated:?}");
    install(&client).await.with_context(|| server.log())?;
    refuses_all(&client, "default").await?;
    accepts_all(&client, "default").await?;
    println!("all of this on Kubernetes {OLDEST}, by an API server of {}", version.git_version);
    Ok(())
}

/// Installs the definition, and waits until what is written is checked by it.
async fn install(client: &Client) -> Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definition = serde_json::from_value(definition()?)?;
    eventually("the definition to be taken", PATIENCE, async || {
        Ok(definitions.create(&PostParams::default(), &definition).await?)
    })
    .await?;
    eventually("the definition to be established", PATIENCE, async || {
        let status = definitions.get("registries.berth.dev").await?.status.context("no status")?;
        let conditions = status.conditions.unwrap_or_default();
        let established = conditions.iter().any(|found| found.type_ == "Established" && found.status == "True");
        ensure!(established, "{conditions:?}");
        Ok(())
    })
    .await?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = serde_json::from_value(json!({"metadata": {"name": "default"}}))?;
    eventually("the namespace", PATIENCE, async || {
        if namespaces.get_opt("default").await?.is_none() {
            namespaces.create(&PostParams::default(), &namespace).await?;
        }
        Ok(())
    })
    .await?;
    eventually("the API of Registries", PATIENCE, async || accepts_all(client, "default").await).await
}

/// An API server and its etcd, gone with this value.
struct Server {
    folder: TempDir,
    port: u16,
    processes: Vec<Child>,
}

impl Server {
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (etcd, peer, port) = (free_port(host)?, free_port(host)?, free_port(host)?);
        let key = rcgen::KeyPair::generate()?;
        std::fs::write(folder.path().join("service-accounts.key"), key.serialize_pem())?;
        std::fs::write(folder.path().join("service-accounts.pub"), key.public_key_pem())?;
        std::fs::write(folder.path().join("tokens"), "secret,admin,admin,\"system:masters\"\n")?;
        let at = |name: &str| folder.path().join(name).display().to_string();
        let etcd_arguments = [
            format!("--data-dir={}", at("etcd")),
            "--unsafe-no-fsync".into(),
            "--log-level=warn".into(),
            format!("--listen-client-urls=http://{host}:{etcd}"),
            format!("--advertise-client-urls=http://{host}:{etcd}"),
            format!("--listen-peer-urls=http://{host}:{peer}"),
        ];
        let server_arguments = [
            format!("--emulated-version={OLDEST}"),
            format!("--etcd-servers=http://{host}:{etcd}"),
            format!("--bind-address={host}"),
            format!("--advertise-address={host}"),
            format!("--secure-port={port}"),
            format!("--cert-dir={}", at("certificates")),
            format!("--token-auth-file={}", at("tokens")),
            "--authorization-mode=RBAC".into(),
            "--disable-admission-plugins=ServiceAccount".into(),
            "--service-cluster-ip-range=10.0.0.0/24".into(),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-account-key-file={}", at("service-accounts.pub")),
            format!("--service-account-signing-key-file={}", at("service-accounts.key")),
        ];
        let mut server = Self { folder, port, processes: Vec::new() };
        server.spawn(&tool::folder("etcd")?.join("etcd"), &etcd_arguments)?;
        server.spawn(&tool::folder("kube")?.join("kube-apiserver"), &server_arguments)?;
        Ok(server)
    }

    fn spawn(&mut self, program: &Path, arguments: &[String]) -> Result<()> {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.path().join("log"))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.processes.push(command.spawn().with_context(|| program.display().to_string())?);
        Ok(())
    }

    async fn client(&self) -> Result<Client> {
        let kubeconfig = json!({
            "current-context": "it",
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "clusters": [{"name": "it", "cluster": {
                "server": format!("https://{}:{}", Ipv4Addr::LOCALHOST, self.port), "insecure-skip-tls-verify": true,
            }}],
            "users": [{"name": "it", "user": {"token": "secret"}}],
        });
        let kubeconfig = Kubeconfig::from_yaml(&kubeconfig.to_string())?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(config.try_into()?)
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
