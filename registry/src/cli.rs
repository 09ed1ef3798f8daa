//! What the program can be told to do.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use tokio::net::TcpListener;

use crate::access::Access;
use crate::config::{self, Config, Warning};
use crate::http::admin::{self, Admin, Readiness};
use crate::http::{App, Switches, UploadKeys};
use crate::serve::{self, Certificate, Limits, Listener, Stop};
use crate::store::Store;
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
}

/// Where the configuration is.
#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file, as in `registry serve FILE`.
    #[arg(value_name = "FILE", conflicts_with = "config")]
    positional: Option<PathBuf>,
    /// The configuration file. Without one the defaults hold: /var/lib/registry at 127.0.0.1:5000.
    #[arg(long, value_name = "FILE", env = "REGISTRY_CONFIGURATION_PATH")]
    config: Option<PathBuf>,
}

/// How long SIGTERM waits for word to get around that no more requests should come here.
const LAME_DUCK: Duration = Duration::from_secs(5);

/// `http.draintimeout`, unless the configuration says otherwise.
const DRAIN: Duration = Duration::from_secs(60);

/// Does what the command line says.
///
/// # Errors
/// When it cannot be done; the message says what to change.
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Serve(file) => {
            let config = load(file.positional.or(file.config).as_deref())?;
            serve(&config).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Reads the configuration and begins to log as it says.
fn load(path: Option<&Path>) -> anyhow::Result<Config> {
    let text = path.map(std::fs::read_to_string).transpose();
    let named = || path.map_or_else(|| "the environment".into(), |path| path.display().to_string());
    let (config, warnings) = config::load(text.with_context(named)?.as_deref(), environment()).with_context(named)?;
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

/// The variables whose names and values are text; no other can name a key.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

async fn serve(config: &Config) -> anyhow::Result<()> {
    let stop = serve::stop_signal().context("cannot listen for signals")?;
    let parts = Parts::new(config)?;
    let health = serve::bind(&config.http.debug.addr).await.context("http.debug.addr")?;
    let api = serve::bind(&config.http.addr).await.context("http.addr")?;
    // Storage may take long to open; whoever probes us meanwhile is told so.
    let health = tokio::spawn(serve_health(health, parts.admin.clone()));
    let store = open(config).await?;
    warn_if_open(config, &api);
    let app = App::new(
        store,
        Arc::clone(&parts.admin.access),
        Arc::clone(&parts.admin.upload_keys),
        Arc::clone(&parts.admin.metrics),
        Switches::from(&config.storage),
    );
    tracing::info!(address = %api.local_addr()?, tls = parts.tls.is_some(), version = env!("CARGO_PKG_VERSION"), "serving");
    parts.admin.readiness.ready();
    let drain = config.http.draintimeout.map_or(DRAIN, config_duration);
    let limits = Limits::default();
    let listener = Listener { tcp: api, tls: parts.tls, limits };
    serve::serve(listener, crate::http::router(app), stopping(stop, parts.admin.readiness, drain), drain).await;
    health.abort();
    tracing::info!("stopped");
    Ok(())
}

const fn config_duration(duration: berth_contract::Duration) -> Duration {
    duration.get()
}

/// What the configuration's files give, apart from storage.
struct Parts {
    tls: Option<Arc<rustls::ServerConfig>>,
    admin: Admin,
}

impl Parts {
    fn new(config: &Config) -> anyhow::Result<Self> {
        let (tls, certificate): (_, Option<Certificate>) =
            config.http.tls.as_ref().map(serve::server_config).transpose()?.unzip();
        let upload_keys = match (&config.http.secretfile, &config.http.secret) {
            (Some(path), _) => UploadKeys::file(path)?,
            (None, Some(secret)) => UploadKeys::secret(secret),
            (None, None) => UploadKeys::random()?,
        };
        let admin = Admin {
            readiness: Readiness::not_yet("storage is being opened"),
            metrics: Arc::default(),
            access: Arc::new(Access::new(config.auth.as_ref())?),
            upload_keys: Arc::new(upload_keys),
            certificate,
        };
        Ok(Self { tls, admin })
    }
}

/// Opens storage on a thread that may wait for disks.
async fn open(config: &Config) -> anyhow::Result<Store> {
    let storage = config.storage.clone();
    Ok(tokio::task::spawn_blocking(move || Store::open(&storage)).await??)
}

fn warn_if_open(config: &Config, api: &TcpListener) {
    if config.auth.is_none() {
        let loopback = api.local_addr().is_ok_and(|address| address.ip().is_loopback());
        let reach = if loopback { "everyone on this machine" } else { "EVERYONE WHO CAN REACH IT" };
        tracing::warn!("the registry is open: without auth, {reach} may pull, push and delete");
    }
}

async fn serve_health(tcp: TcpListener, admin: Admin) {
    let listener = Listener { tcp, tls: None, limits: Limits { connections: 64, ..Limits::default() } };
    serve::serve(listener, admin::router(admin), std::future::pending(), Duration::ZERO).await;
}

/// Comes when the API should accept no more connections. Requests that are on their way are awaited before.
async fn stopping(stop: impl Future<Output = Stop>, readiness: Readiness, drain: Duration) {
    let stop = stop.await;
    readiness.not_ready("stopping");
    tracing::info!(signal = ?stop, "stopping");
    if stop == Stop::Terminate {
        tokio::time::sleep(LAME_DUCK.min(drain / 4)).await;
    }
}
