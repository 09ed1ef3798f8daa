//! `berth-operator run`: the watches, the lease, the controllers and the port, put together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, Resource, ResourceExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedSender;

use crate::context::{Context, Settings};
use crate::lease::{self, Contender, Ended};
use crate::metrics::Metrics;
use crate::telemetry::Health;
use crate::watches::{self, Guarded};
use crate::{api_client, registry_controller, sweep};

/// How often the nodes' reports are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// The arguments of `run`.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    settings: Settings,
    /// Where `/livez`, `/readyz` and `/metrics` listen.
    #[arg(long, default_value = "0.0.0.0:8080")]
    health_address: SocketAddr,
    /// Work without contending for leadership: for one process on a developer's machine.
    #[arg(long)]
    without_lease: bool,
}

/// Runs until told to stop, or until another process leads.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = Metrics::new(&mut registry);
    let health = Health::new(registry);
    let stop = stop_signal()?;
    let client = api_client::connect().await?;
    let mut serving = tokio::spawn(health.clone().serve(args.health_address));
    health.set_ready();
    let settings = args.settings.clone();
    let ended = if args.without_lease {
        lead(client, settings, metrics, stop).await;
        Ended::Finished
    } else {
        let identity = std::env::var("POD_NAME").unwrap_or_else(|_| format!("process-{}", std::process::id()));
        let nonce = crate::random::name(5)?;
        let name = "berth-operator";
        let contender = Contender::new(client.clone(), &settings.namespace, name, format!("{identity}-{nonce}"));
        let mut contender = contender.owned_by(service_account(&client, &settings.namespace).await);
        tokio::select! {
            () = contender.acquire() => {}
            () = stop.clone() => return Ok(()),
            port = &mut serving => return Ok(port??),
        }
        tracing::info!("leading");
        let leading = lease::lead(contender, lead(client, settings, metrics, stop.clone()), stop);
        tokio::select! {
            ended = leading => ended,
            // Nobody would see how it is doing.
            port = serving => return Ok(port??),
        }
    };
    match ended {
        Ended::Finished => Ok(()),
        // Whatever is under way is abandoned with the process: every write is right by itself.
        Ended::LostLeadership => anyhow::bail!("leadership was lost"),
    }
}

/// The ServiceAccount of this process, which is the chart's: what goes with it goes with the release.
async fn service_account(client: &Client, namespace: &str) -> Option<OwnerReference> {
    let name = std::env::var("SERVICE_ACCOUNT").ok()?;
    let found = Api::<ServiceAccount>::namespaced(client.clone(), namespace).get_metadata(&name).await;
    let found = found.inspect_err(|error| tracing::warn!(%error, "the Lease will outlive this release")).ok()?;
    Some(OwnerReference {
        api_version: ServiceAccount::api_version(&()).into(),
        kind: ServiceAccount::kind(&()).into(),
        name,
        uid: found.uid()?,
        ..Default::default()
    })
}

async fn lead(
    client: Client,
    settings: Settings,
    metrics: Metrics,
    stop: impl Future<Output = ()> + Clone + Send + Sync + 'static,
) {
    metrics.leader.set(1);
    let (stores, triggers, told) = watches::start(&client, &settings);
    let context = Arc::new(Context::new(client, settings, metrics, stores));
    // A pass that saw half of what there is would say of a healthy Registry that it has no pods.
    tokio::select! {
        () = context.stores.wait_until_ready() => {}
        () = stop.clone() => return,
    }
    context.nodes.refresh(&context.stores.nodes.state(), &context.stores.node_reports.all());
    tracing::info!(registries = context.stores.registries.len(), "reconciling");
    tokio::select! {
        () = registry_controller::run(Arc::clone(&context), triggers, stop) => {}
        () = sweep::run(&context, told.removals) => {}
        () = look_at_nodes(&context, &told.looks) => {}
    }
}

/// Looks at the nodes' reports now and again, and tells whose changed.
async fn look_at_nodes(context: &Context, tell: &UnboundedSender<ObjectRef<Guarded>>) {
    let mut interval = tokio::time::interval(LOOK_INTERVAL);
    interval.tick().await;
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        sweep::count(context);
        let changed = context.nodes.refresh(&context.stores.nodes.state(), &context.stores.node_reports.all());
        for registry in context.stores.registries.state() {
            let concerned = changed.as_ref().is_none_or(|uids| registry.uid().is_some_and(|uid| uids.contains(&uid)));
            if concerned && tell.send(ObjectRef::from_obj(registry.as_ref())).is_err() {
                return;
            }
        }
    }
}

/// Resolves at the first SIGTERM or SIGINT. A second one ends the process at once.
fn stop_signal() -> std::io::Result<futures::future::Shared<futures::future::BoxFuture<'static, ()>>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (tell, told) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        let mut either = async || tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} };
        either().await;
        tracing::info!("stopping");
        let _ = tell.send(());
        either().await;
        std::process::exit(1);
    });
    Ok(told.map(drop).boxed().shared())
}
