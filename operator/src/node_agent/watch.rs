//! The agent at work: waits for something to change, and makes the node and its report fit.
//!
//! Level-triggered: every round starts from all objects, the whole configuration and the whole disk. A round at rest is some
//! reads of small files, and no request. When the API server is away, rounds go on with what was last seen.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use tokio::time::{Instant, MissedTickBehavior};

use super::directory::Directory;
use super::effective_config::{self, ConfigDirectory, Lookup, Why};
use super::host_path::HostPath;
use super::objects::ObjectWatch;
use super::placement::{self, Trouble};
use super::report::{self, Publisher};
use super::root_dir;
use super::verification::Verification;
use super::wanted::{Wanted, Wish, wanted};

/// How often the disk is compared although nothing was heard.
const RESYNC: Duration = Duration::from_secs(30);
/// How often the node's description and its report are read again.
const REFRESH: Duration = Duration::from_secs(600);
/// How long to wait for the rest of a change: an entry and its Secret come one after the other.
const SETTLE: Duration = Duration::from_millis(100);
/// How long to wait after the API server refused a report or did not answer.
const RETRY: Duration = Duration::from_secs(5);

/// What the agent was told at its start.
pub(super) struct Settings {
    pub(super) node: String,
    pub(super) namespace: String,
    pub(super) cluster_domain: String,
    pub(super) config: ConfigDirectory,
    pub(super) mounts: Vec<HostPath>,
}

/// Runs until something makes going on pointless; the caller ends it at a signal.
pub(super) async fn run(settings: Settings, client: Client) -> anyhow::Result<()> {
    let mut objects = ObjectWatch::start(&client, &settings.namespace);
    let nodes = Api::<Node>::all(client.clone());
    let mut publisher = Publisher::new(Api::namespaced(client, &settings.namespace), &settings.node);
    let node = patiently("read the node", || nodes.get(&settings.node)).await;
    patiently_read(&mut publisher).await;
    objects.ready().await?;
    let mut agent = Agent {
        settings,
        node,
        verification: Verification::new(),
        used: BTreeSet::new(),
        lookup: Lookup::Directories(Vec::new()),
    };
    let mut resync = tokio::time::interval(RESYNC);
    resync.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut refresh_at = Instant::now() + REFRESH;
    loop {
        if Instant::now() >= refresh_at {
            refresh_at = Instant::now() + REFRESH;
            agent.refresh(&nodes, &mut publisher).await;
        }
        let published = agent.round(&objects, &mut publisher).await?;
        tokio::select! {
            () = objects.changed() => tokio::time::sleep(SETTLE).await,
            () = agent.verification.changed() => {}
            _ = resync.tick() => {}
            () = tokio::time::sleep(RETRY), if !published => {}
        }
    }
}

struct Agent {
    settings: Settings,
    node: Node,
    verification: Verification,
    /// Every directory that the runtime was seen configured to read since the agent started. containerd takes a new
    /// configuration up when it is restarted, which cannot be seen from here; until then it reads the old one.
    used: BTreeSet<String>,
    lookup: Lookup,
}

impl Agent {
    /// One comparison of everything. Whether the report is now what it should be.
    async fn round(&mut self, objects: &ObjectWatch, publisher: &mut Publisher) -> anyhow::Result<bool> {
        let wanted = wanted(&objects.current(), &self.settings.cluster_domain);
        let trouble = self.place(&wanted)?;
        self.verification.begin(wanted.values().filter_map(|wish| match wish {
            Wish::Known(known) => Some(&known.endpoint),
            Wish::Malformed(_) => None,
        }));
        let runtime = runtime(&self.node);
        let report = report::compose(&self.settings.node, runtime, &self.lookup, &wanted, &trouble, &self.verification);
        let Some(report) = report else { return Ok(true) };
        match publisher.publish(&self.node, report).await {
            Ok(()) => Ok(true),
            Err(error) => {
                tracing::warn!(%error, "the report could not be written");
                Ok(false)
            }
        }
    }

    fn place(&mut self, wanted: &Wanted) -> anyhow::Result<Trouble> {
        let Settings { config, mounts, .. } = &self.settings;
        for mount in mounts {
            check_mount(config, mount)?;
        }
        let mut lookup = effective_config::lookup(runtime(&self.node), config);
        if let Lookup::Directories(directories) = &lookup {
            match placement::check(mounts, directories) {
                Ok(()) => self.used.extend(directories.iter().cloned()),
                Err(why) => lookup = Lookup::Unsupported(why),
            }
        }
        if lookup != self.lookup {
            describe(&lookup);
            self.lookup = lookup;
        }
        let keep = matches!(self.lookup, Lookup::Unknown(_));
        Ok(placement::place(mounts, &self.used, wanted, keep))
    }

    async fn refresh(&mut self, nodes: &Api<Node>, publisher: &mut Publisher) {
        match nodes.get(&self.settings.node).await {
            Ok(node) => self.node = node,
            Err(error) => tracing::warn!(%error, "the node could not be read"),
        }
        if let Err(error) = publisher.read().await {
            tracing::warn!(%error, "the report could not be read");
        }
    }
}

fn describe(lookup: &Lookup) {
    match lookup {
        Lookup::Directories(directories) => tracing::info!(?directories, "the runtime reads hosts.toml"),
        Lookup::Unsupported(Why { reason, message }) | Lookup::Unknown(Why { reason, message }) => {
            tracing::warn!(reason, "the runtime does not read what the agent writes: {message}");
        }
    }
}

/// Fails when a mount shows a directory that is no longer the node's: somebody removed it and perhaps made another. Only a
/// new container can see that one.
fn check_mount(config: &ConfigDirectory, mount: &HostPath) -> anyhow::Result<()> {
    let around = HostPath { host: config.host.clone(), seen_at: config.seen_at.clone() };
    let Some(names) = around.names_to(&mount.host) else { return Ok(()) };
    // A link on the way cannot be followed from here; then nothing can be said.
    let Ok(on_the_node) = Directory::open(&config.seen_at).and_then(|base| root_dir::open(base, &names)) else {
        return Ok(());
    };
    let seen = Directory::open(&mount.seen_at).with_context(|| format!("open {}", mount.seen_at.display()))?;
    if !on_the_node.is_some_and(|directory| directory.is_same_as(&seen).unwrap_or(true)) {
        bail!("{} was removed or replaced on the node; a new container will mount what is there now", mount.host);
    }
    Ok(())
}

fn runtime(node: &Node) -> &str {
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    info.map_or("", |info| info.container_runtime_version.as_str())
}

async fn patiently_read(publisher: &mut Publisher) {
    while let Err(error) = publisher.read().await {
        tracing::warn!(%error, "cannot read the report yet");
        tokio::time::sleep(RETRY).await;
    }
}

async fn patiently<T, F: Future<Output = kube::Result<T>>>(what: &str, mut attempt: impl FnMut() -> F) -> T {
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => tracing::warn!(%error, "cannot {what} yet"),
        }
        tokio::time::sleep(RETRY).await;
    }
}
