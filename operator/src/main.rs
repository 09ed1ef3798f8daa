//! Starts what its first argument names.

use berth_operator::api::crd;
use berth_operator::check::{self, CheckArgs};
use berth_operator::node_agent::uninstall::UninstallArgs;
use berth_operator::node_agent::{self, NodeAgentArgs};
use berth_operator::operator::{self, RunArgs};
use berth_operator::telemetry;
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
    /// Reconcile.
    Run(RunArgs),
    /// Let the runtime of this node pull from every Registry.
    NodeAgent(NodeAgentArgs),
    /// One step of the removal of a release, for the chart's hooks.
    Uninstall(UninstallArgs),
    /// Ask every Registry whether it answers.
    Check(CheckArgs),
    /// Print the CustomResourceDefinitions, or write them as files into a directory.
    Crd {
        /// The directory.
        #[arg(long)]
        out: Option<std::path::PathBuf>,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run(args) => {
            telemetry::start_logging();
            operator::run(args).await
        }
        Command::NodeAgent(args) => {
            telemetry::start_logging();
            node_agent::run(args).await
        }
        Command::Uninstall(args) => {
            telemetry::start_logging();
            node_agent::uninstall::run(args).await
        }
        Command::Check(args) => check::run(args).await,
        Command::Crd { out } => crd::definitions()?.into_iter().try_for_each(|(file, yaml)| {
            match &out {
                Some(directory) => std::fs::write(directory.join(file), yaml)?,
                None => println!("---\n{yaml}"),
            }
            anyhow::Ok(())
        }),
    }
}
