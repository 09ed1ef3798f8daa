//! The node agent: lets the runtime of its node pull from every Registry.
//!
//! It watches the entries that the operator writes into its namespace, and for each host of each writes a directory
//! `certs.d/<host>/` with a `hosts.toml` that names the ClusterIP, the certificate authority and the node's credential. The
//! runtime reads these at every pull, so nothing is restarted and no configuration of it is changed. What it found goes into
//! one ConfigMap, `report-<node>`, which is all that it writes to the API server.
//!
//! It runs as root without a capability, sees the runtime's configuration read-only, and can write to the `certs.d`
//! directories and to nothing else. It knows no Registry, never asks the runtime's socket, and pulls no image.
//!
//! Rooms, the pure ones first: [`host_name`], [`hosts_toml`], [`host_path`], [`containerd_config`] and [`wanted`] know
//! neither disk nor network. [`effective_config`] reads the runtime's configuration. [`directory`], [`host_dir`],
//! [`root_dir`] and [`placement`] write. [`handshake`] and [`verification`] ask the registries. [`objects`] and [`report`]
//! speak with the API server, [`watch`] ties all of it together. [`installation`] comes before and after, and [`uninstall`]
//! is what the chart's hooks run in the cluster.

mod containerd_config;
mod directory;
mod effective_config;
mod handshake;
mod host_dir;
mod host_name;
mod host_path;
mod hosts_toml;
mod installation;
mod objects;
mod placement;
mod report;
mod root_dir;
pub mod uninstall;
mod verification;
mod wanted;
mod watch;

use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use directory::Directory;
use host_path::HostPath;

/// How the agent learns where it is. Paths are written `ON_THE_NODE=IN_THE_POD`.
#[derive(Args, Clone, Debug)]
pub struct NodeAgentArgs {
    /// What to do.
    #[arg(long, value_enum, default_value_t = Task::Watch)]
    task: Task,
    /// The name of this node.
    #[arg(long, env = "NODE_NAME", default_value = "")]
    node_name: String,
    /// The namespace of the entries and of the report.
    #[arg(long, env = "POD_NAMESPACE", default_value = "berth-nodes")]
    namespace: String,
    /// The domain of the cluster's Services.
    #[arg(long, env = "CLUSTER_DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    /// The runtime's directory of configuration; it is only read.
    #[arg(long, value_name = "PATHS", default_value = "/etc/containerd")]
    config_dir: HostPath,
    /// A directory that may be written to, and below which the runtime may look for hosts. May be given several times.
    #[arg(long = "certs-dir", value_name = "PATHS", default_value = "/etc/containerd/certs.d")]
    certs_dirs: Vec<HostPath>,
    /// For prepare and cleanup: the directory in which those lie, writable.
    #[arg(long, value_name = "PATHS")]
    certs_parent: Option<HostPath>,
}

/// What the agent's pods do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Task {
    /// Make the node and its report fit, until stopped.
    Watch,
    /// Make the directories that will be mounted, and exit.
    Prepare,
    /// Remove everything that the agent ever made on the node, and exit.
    Cleanup,
    /// Nothing, until stopped: the pod whose cleanup is done stays, to say so.
    Idle,
}

/// Does what the arguments say; ends at SIGTERM.
pub async fn run(args: NodeAgentArgs) -> anyhow::Result<()> {
    // The first process of a container gets no signal that it did not ask for.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        result = work(args) => result,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

async fn work(args: NodeAgentArgs) -> anyhow::Result<()> {
    if args.task == Task::Idle {
        return std::future::pending().await;
    }
    let _alone = alone(&args.config_dir).await?;
    match args.task {
        Task::Prepare => installation::prepare(&parent(&args)?, &args.certs_dirs),
        Task::Cleanup => installation::cleanup(&parent(&args)?, &args.certs_dirs),
        Task::Watch | Task::Idle => {
            anyhow::ensure!(!args.node_name.is_empty(), "the name of the node is missing: --node-name or NODE_NAME");
            let settings = watch::Settings {
                node: args.node_name,
                namespace: args.namespace,
                cluster_domain: args.cluster_domain,
                config: args.config_dir.into(),
                mounts: args.certs_dirs,
            };
            watch::run(settings, crate::api_client::connect().await?).await
        }
    }
}

fn parent(args: &NodeAgentArgs) -> anyhow::Result<HostPath> {
    args.certs_parent.clone().context("--certs-parent is missing")
}

/// Waits until no other agent works on this node: one that is being replaced, or one that a cleanup must outlive. The lock
/// is on the directory itself, so it leaves no file, and ends with the process that holds it.
async fn alone(config_dir: &HostPath) -> anyhow::Result<Directory> {
    let path = &config_dir.seen_at;
    let directory = Directory::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut waited = 0_u32;
    while !directory.try_lock().with_context(|| format!("lock {}", path.display()))? {
        if waited.is_multiple_of(60) {
            tracing::info!("another agent is still at work on this node; waiting for its end");
        }
        waited += 1;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(directory)
}
