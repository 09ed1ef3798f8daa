//! The cluster that tests run against, with Berth installed: `$KUBECONFIG`, or the one that `e2e/cluster/up` made.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use berth_operator::api::Registry;
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::{tool, workspace};

/// The namespace of the operator and of its Secrets.
pub const OPERATOR_NAMESPACE: &str = "berth-system";
/// The namespace of the node agents.
pub const NODE_NAMESPACE: &str = "berth-nodes";
/// How long to wait for what ought to take seconds, on a machine with much else to do.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Most tests share the cluster; one that removes Berth from it has it for itself.
static TURN: RwLock<()> = RwLock::const_new(());

/// The cluster, for as long as one test has it.
pub struct Cluster {
    /// Its API server, as an administrator.
    pub client: Client,
    _turn: Turn,
}

#[expect(dead_code, reason = "held, never read")]
enum Turn {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

impl Cluster {
    /// The cluster, beside other tests.
    ///
    /// # Errors
    /// When there is none.
    pub async fn shared() -> Result<Self> {
        let turn = Turn::Shared(TURN.read().await);
        Ok(Self { client: client().await?, _turn: turn })
    }

    /// The cluster when no other test uses it. It does not queue: it comes last when others overlap.
    ///
    /// # Errors
    /// When there is none.
    pub async fn alone() -> Result<Self> {
        // Let the others begin.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let turn = loop {
            match TURN.try_write() {
                Ok(turn) => break Turn::Alone(turn),
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        };
        Ok(Self { client: client().await?, _turn: turn })
    }

    /// Its API server, as whoever this token was given to.
    ///
    /// # Errors
    /// When the cluster's address cannot be read.
    pub async fn as_bearer(&self, token: String) -> Result<Client> {
        let mut config = config().await?;
        config.auth_info = kube::config::AuthInfo { token: Some(token.into()), ..Default::default() };
        Ok(config.try_into()?)
    }

    /// Every node, by name.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn nodes(&self) -> Result<Vec<String>> {
        let nodes = Api::<Node>::all(self.client.clone()).list(&ListParams::default()).await?;
        Ok(nodes.items.iter().map(kube::ResourceExt::name_any).collect())
    }

    /// Every Registry there is, as `NAMESPACE/NAME`.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn registries(&self) -> Result<Vec<String>> {
        let registries = Api::<Registry>::all(self.client.clone()).list(&ListParams::default()).await?;
        let name =
            |registry: &Registry| format!("{}/{}", registry.namespace().unwrap_or_default(), registry.name_any());
        Ok(registries.items.iter().map(name).collect())
    }
}

async fn client() -> Result<Client> {
    Ok(config().await?.try_into()?)
}

async fn config() -> Result<kube::Config> {
    let kubeconfig = kubeconfig();
    ensure!(
        kubeconfig.exists(),
        "there is no cluster ({}): eval \"$(e2e/cluster/up)\" && e2e/install",
        kubeconfig.display()
    );
    let options = kube::config::KubeConfigOptions::default();
    let kubeconfig = kube::config::Kubeconfig::read_from(kubeconfig)?;
    Ok(kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?)
}

/// `$KUBECONFIG`, or that of the cluster that `e2e/cluster/up` made.
pub fn kubeconfig() -> PathBuf {
    std::env::var_os("KUBECONFIG").map_or_else(|| run_folder().join("admin.kubeconfig"), Into::into)
}

/// Where the cluster that `e2e/cluster/up` made keeps its files.
fn run_folder() -> PathBuf {
    std::env::var_os("BERTH_E2E_RUN").map_or_else(|| "/run/berth-e2e".into(), Into::into)
}

/// The files of the cluster, if it is the one that `e2e/cluster/up` made: tests that look into nodes or into the API
/// server's audit log need that one, and say so otherwise.
pub fn own_cluster() -> Option<PathBuf> {
    let folder = run_folder();
    (kubeconfig() == folder.join("admin.kubeconfig") && folder.exists()).then_some(folder)
}

/// The machine, as the pods of the cluster that `e2e/cluster/up` made reach it.
pub const MACHINE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 100, 0, 1));

/// Whether a test that needs [`own_cluster`] can run; says so when it cannot.
pub fn is_own_cluster(test: &str) -> bool {
    let own = own_cluster().is_some();
    if !own {
        println!(
            "SKIPPED {test}: it looks into nodes or changes what others share, for which it needs e2e/cluster/up's"
        );
    }
    own
}

/// Runs a command on a node and returns what it printed.
///
/// # Errors
/// When it fails.
pub fn on_node(node: &str, command: &[&str]) -> Result<String> {
    let mut enter = Command::new(workspace().join("e2e/cluster/node"));
    output(enter.args(["enter", node]).args(command))
}

/// Runs `kubectl` or `helm` as an administrator, in the workspace's folder, and returns what it printed.
///
/// # Errors
/// When it fails; the error holds all it said.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    output(command(program)?.args(arguments))
}

/// The same for one that must fail: what it complained about.
///
/// # Errors
/// When it succeeds.
pub fn fails(program: &str, arguments: &[&str]) -> Result<String> {
    let output = command(program)?.args(arguments).stdin(Stdio::null()).output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(!output.status.success(), "should have failed: {program} {}\n{said}", arguments.join(" "));
    Ok(said)
}

/// Starts one that goes on, and writes all it says into a file.
///
/// # Errors
/// When it cannot be started.
pub fn spawn(program: &str, arguments: &[&str], said: File) -> Result<Child> {
    let mut command = Command::new(program);
    with_tools(&mut command)?;
    command.args(arguments).stdin(Stdio::null()).stderr(said.try_clone()?).stdout(said);
    command.spawn().with_context(|| program.to_owned())
}

fn command(program: &str) -> Result<Command> {
    let mut command = Command::new("timeout");
    with_tools(&mut command)?;
    command.args(["--kill-after=5", "600", program]).current_dir(workspace());
    Ok(command)
}

fn with_tools(command: &mut Command) -> Result<()> {
    let (kube, helm) = (tool::folder("kube")?, tool::folder("helm")?);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{}:{path}", kube.display(), helm.display())).env("KUBECONFIG", kubeconfig());
    Ok(())
}

fn output(command: &mut Command) -> Result<String> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let what = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let output = command.stdin(Stdio::null()).output().with_context(|| what.clone())?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{what}: {}\n{out}{err}", output.status);
    Ok(out.into_owned())
}

/// Looks until what it looks for is there, and returns it; `look` says what is still missing.
///
/// # Errors
/// When `patience` is over; the error holds what was missing last.
pub async fn eventually<T>(what: &str, patience: Duration, mut look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(missing) if Instant::now() > deadline => {
                bail!("waited {patience:?} in vain for {what}; the last look: {missing:#}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(250)).await,
        }
    }
}

/// A file of the workspace.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = workspace().join(path);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}
