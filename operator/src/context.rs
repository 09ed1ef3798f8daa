//! What every reconciliation shares: the client, the settings, what is watched, and what is remembered between two passes.
//!
//! What is remembered only saves work; losing it with the process costs a few requests and nothing else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use kube::Client;
use kube::runtime::events::Recorder;

use crate::api::RegistryStatus;
use crate::apply::Applier;
use crate::metrics::Metrics;
use crate::nodes::NodesView;
use crate::rollouts::Rollouts;
use crate::watches::Stores;

/// What the operator is told when it starts.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// The operator's own namespace, where keyrings and the lease are kept.
    #[arg(long, env = "POD_NAMESPACE", default_value = "berth-system")]
    pub namespace: String,
    /// The namespace of the node agent.
    #[arg(long, default_value = "berth-nodes")]
    pub node_namespace: String,
    /// Whether there are node agents to tell.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub node_agent: bool,
    /// The image of a Registry that names none.
    #[arg(long, default_value = concat!("berth-registry:", env!("CARGO_PKG_VERSION")))]
    pub registry_image: String,
    /// The domain of the cluster's Services.
    #[arg(long, default_value = "cluster.local")]
    pub cluster_domain: String,
    /// The namespaces whose Registries may be served; all when none is named.
    #[arg(long, value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// The Helm release, for the commands that messages show.
    #[arg(long, default_value = "berth")]
    pub release: String,
    /// How many Registries are reconciled at once.
    #[arg(long, default_value_t = 8)]
    pub concurrency: u16,
    /// How many Registries may replace their pods at once, so that a new default image does not restart all of them.
    #[arg(long, default_value_t = 5)]
    pub max_rollouts: usize,
}

/// What every reconciliation shares.
pub struct Context {
    /// The client.
    pub client: Client,
    /// What the operator was told.
    pub settings: Settings,
    /// Where events go.
    pub recorder: Recorder,
    /// What is counted.
    pub metrics: Metrics,
    /// What is watched.
    pub stores: Stores,
    /// Who writes.
    pub applier: Applier,
    /// What nodes reported, at most half a minute ago.
    pub nodes: NodesView,
    /// Whose pods are being replaced.
    pub rollouts: Rollouts,
    /// What is remembered of each Registry, by uid.
    memories: Mutex<HashMap<String, Memory>>,
}

/// What is remembered of one Registry.
#[derive(Clone, Default)]
pub struct Memory {
    /// The status that was written last, and the resourceVersion it gave.
    pub status: Option<(RegistryStatus, Option<String>)>,
    /// The Secrets that nobody here may read, by name. What was not written by this process is written once, to be sure of it.
    pub secrets: HashMap<String, SeenSecret>,
    /// How many passes failed in a row.
    pub failures: u32,
    /// Since when each ready pod that does not answer does not, by uid.
    pub silent: HashMap<String, Instant>,
}

/// What is remembered of a Secret that nobody here may read.
#[derive(Clone, Copy)]
pub struct SeenSecret {
    /// When it was written last.
    pub written: Instant,
    /// When it was last known to be there.
    pub looked: Instant,
}

impl Context {
    /// Joins the parts.
    pub fn new(client: Client, settings: Settings, metrics: Metrics, stores: Stores) -> Self {
        let instance = std::env::var("POD_NAME").ok();
        let reporter = kube::runtime::events::Reporter { controller: crate::labels::FIELD_MANAGER.into(), instance };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            applier: Applier::new(client.clone(), metrics.clone()),
            nodes: NodesView::default(),
            rollouts: Rollouts::default(),
            memories: Mutex::default(),
            client,
            settings,
            metrics,
            stores,
        }
    }

    /// What is remembered of this Registry.
    pub fn recall(&self, uid: &str) -> Memory {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).get(uid).cloned().unwrap_or_default()
    }

    /// Changes what is remembered of this Registry.
    pub fn remember(&self, uid: &str, change: impl FnOnce(&mut Memory)) {
        change(self.memories.lock().unwrap_or_else(PoisonError::into_inner).entry(uid.into()).or_default());
    }

    /// Forgets every Registry that is none of these.
    pub fn forget_others(&self, living: &std::collections::BTreeSet<String>) {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| living.contains(uid));
    }
}

/// What is shared is shared by pointer.
pub type SharedContext = Arc<Context>;
