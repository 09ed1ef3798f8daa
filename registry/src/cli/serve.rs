//! `berth-registry serve`

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustls::ServerConfig;
use tokio::net::TcpListener;

use super::maintain;
use crate::access::Access;
use crate::config::Config;
use crate::http::admin::{self, Admin, Readiness};
use crate::http::{self, App, Switches, UploadKeys};
use crate::serve::{Limits, Listener, Stop, bind, serve, server_config, stop_signal};
use crate::store::LastCollection;

/// How long we go on accepting after SIGTERM: until word has got around that no more requests should come here.
const LAME_DUCK: Duration = Duration::from_secs(5);

/// `http.draintimeout`, unless the configuration says otherwise.
const DRAIN: Duration = Duration::from_secs(60);

/// Answers requests until a signal says to stop.
pub(super) async fn run(config: &Config) -> anyhow::Result<()> {
    let stop = stop_signal().context("signals cannot be listened for")?;
    let (tls, admin) = parts(config)?;
    let health = bind(&config.http.debug.addr).await.context("http.debug.addr")?;
    let api = bind(&config.http.addr).await.context("http.addr")?;
    // Storage may take long to open; whoever probes us meanwhile is told so.
    let health = tokio::spawn(serve_health(health, admin.clone()));
    let store = super::open(config).await?;
    let maintenance = maintain::begin(&store, &config.storage.maintenance, &admin.metrics, &admin.last_collection);
    warn_if_open(config, &api);
    tracing::info!(address = %api.local_addr()?, tls = tls.is_some(), version = env!("CARGO_PKG_VERSION"), "serving");
    let Admin { readiness, metrics, access, upload_keys, .. } = admin;
    readiness.ready();
    let app = App::new(store, access, upload_keys, metrics, Switches::from(&config.storage));
    let drain = config.http.draintimeout.map_or(DRAIN, berth_contract::Duration::get);
    let listener = Listener { tcp: api, tls, limits: Limits::default() };
    serve(listener, http::router(app), stopping(stop, readiness, drain), drain).await;
    drop(maintenance);
    health.abort();
    tracing::info!("stopped");
    Ok(())
}

/// What the configuration's files give, apart from storage.
fn parts(config: &Config) -> anyhow::Result<(Option<Arc<ServerConfig>>, Admin)> {
    let (tls, certificate) = config.http.tls.as_ref().map(server_config).transpose()?.unzip();
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
        last_collection: LastCollection::default(),
    };
    Ok((tls, admin))
}

fn warn_if_open(config: &Config, api: &TcpListener) {
    if config.auth.is_none() {
        let loopback = api.local_addr().is_ok_and(|address| address.ip().is_loopback());
        let who = if loopback { "everyone on this machine" } else { "EVERYONE WHO CAN REACH IT" };
        tracing::warn!("the registry is open: without auth, {who} may pull and push");
    }
}

async fn serve_health(tcp: TcpListener, admin: Admin) {
    let listener = Listener { tcp, tls: None, limits: Limits::of_probes() };
    serve(listener, admin::router(admin), std::future::pending(), Duration::ZERO).await;
}

/// Comes when the API should accept no more connections. After SIGTERM others still send us some for a while.
async fn stopping(stop: impl Future<Output = Stop>, readiness: Readiness, drain: Duration) {
    let stop = stop.await;
    readiness.not_ready("stopping");
    tracing::info!(signal = ?stop, "stopping");
    if stop == Stop::Terminate {
        tokio::time::sleep(LAME_DUCK.min(drain / 4)).await;
    }
}
