//! What the program can be told to do, one room for each role.

mod check;
mod gc;
mod maintain;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};

use crate::config::{self, Config, Warning};
use crate::store::{Honoured, OpenError, Store, UnfitError};
use crate::telemetry;

/// An OCI registry that needs nothing but a directory.
#[derive(Debug, Parser)]
#[command(name = "berth-registry", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer pulls and pushes.
    Serve(ConfigFile),
    /// Read everything that is stored and say what is not as it should be. Changes nothing, unless --repair says so.
    Check {
        /// Write what can be derived from the rest: the entry of a referrer, the back-reference of a tag, a blob of which sound bytes
        /// are there elsewhere. Registries may go on serving meanwhile.
        #[arg(long)]
        repair: bool,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Say what nothing refers to any more and why, and with --delete delete it. Registries may go on serving meanwhile.
    Gc {
        /// Delete it.
        #[arg(long)]
        delete: bool,
        #[command(flatten)]
        file: ConfigFile,
    },
}

/// Where the configuration is.
#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file, as in `registry serve FILE`.
    #[arg(value_name = "FILE", conflicts_with = "config")]
    positional: Option<PathBuf>,
    /// The configuration file. Without one the defaults hold: /var/lib/registry at 127.0.0.1:5000.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Does what the command line says.
///
/// # Errors
/// When it cannot be done; the message says what to change.
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Serve(file) => serve::run(&file.load()?).await.map(|()| ExitCode::SUCCESS),
        Command::Check { repair, file } => check::run(&file.load()?, repair).await,
        Command::Gc { delete, file } => gc::run(&file.load()?, delete).await,
    }
}

/// How the program ends after this error.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<OpenError>() || error.is::<UnfitError>() {
        ExitCode::from(berth_contract::exit_code::UNFIT_STORAGE)
    } else {
        ExitCode::FAILURE
    }
}

/// An error with its causes. Many errors repeat in their own words what caused them; that is said once.
pub fn explain(error: &anyhow::Error) -> String {
    let mut causes = error.chain().map(ToString::to_string);
    let first = causes.next().unwrap_or_default();
    causes.fold(first, |said, cause| if said.contains(&cause) { said } else { format!("{said}: {cause}") })
}

impl ConfigFile {
    /// Reads the configuration and begins to log as it says.
    fn load(self) -> anyhow::Result<Config> {
        let from_environment = || std::env::var_os("REGISTRY_CONFIGURATION_PATH").map(PathBuf::from);
        let path = self.positional.or(self.config).or_else(from_environment);
        let named = |path: &PathBuf| format!("configuration file {}", path.display());
        let text = path.as_ref().map(|path| std::fs::read_to_string(path).with_context(|| named(path))).transpose()?;
        let loaded = config::load(text.as_deref(), variables());
        // Without a file it is the environment that is wrong, and the error names the variable.
        let (config, warnings) = match &path {
            Some(path) => loaded.with_context(|| named(path))?,
            None => loaded?,
        };
        telemetry::init(&config.log);
        for warning in &warnings {
            match warning {
                // Kubernetes makes these for every Service; a line for each would bury the others.
                Warning::UnknownVariable { nearest: None, .. } => tracing::debug!("{warning}"),
                Warning::UnknownVariable { .. } | Warning::NoEffect(_) => tracing::warn!("{warning}"),
            }
        }
        Ok(config)
    }
}

/// Opens storage, on a thread that may wait for disks, and makes sure that it can be relied on.
async fn open(config: &Config) -> anyhow::Result<(Store, Honoured)> {
    let storage = config.storage.clone();
    let store = tokio::task::spawn_blocking(move || Store::open(&storage)).await??;
    let honoured = store.probe().await?;
    if !honoured.conditional_overwrite {
        tracing::warn!(
            "the store ignores the condition of a write (If-Match), or looks first and writes afterwards: a tag that is written \
             while the image is deleted that it named before may be lost"
        );
    }
    Ok((store, honoured))
}

/// The variables whose names and values are text; no other can name a key.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}
