//! Starts what its first argument names.

use berth_operator::node_agent::uninstall::UninstallArgs;
use berth_operator::node_agent::{self, NodeAgentArgs};
use clap::{Parser, Subcommand};

/// Reconciles Registries into running registries, and lets every node pull from them.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the CustomResourceDefinitions, or write them as files into a directory.
    Crd {
        /// The directory.
        #[arg(long)]
        out: Option<std::path::PathBuf>,
    },
    /// Let the runtime of this node pull from every Registry.
    NodeAgent(NodeAgentArgs),
    /// One step of the removal of a release, for the chart's hooks.
    Uninstall(UninstallArgs),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Crd { out } => berth_operator::api::crd::definitions()?.into_iter().try_for_each(|(file, yaml)| {
            match &out {
                Some(directory) => std::fs::write(directory.join(file), yaml)?,
                None => println!("---\n{yaml}"),
            }
            anyhow::Ok(())
        }),
        Command::NodeAgent(args) => block_on(node_agent::run(args)),
        Command::Uninstall(args) => block_on(node_agent::uninstall::run(args)),
    }
}

/// Runs what serves one node or one hook: a single thread is enough, and takes least of the node.
fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).init();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
