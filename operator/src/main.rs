//! Starts what its first argument names.

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
    }
}
