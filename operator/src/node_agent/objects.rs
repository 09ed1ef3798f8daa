//! The objects of the agent's own namespace, kept up to date. The agent reads nothing else but its Node.

use std::sync::Arc;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::wanted::Objects;
use crate::node_entry::{HOST_GRANTS_NAME, NODE_ENTRY_LABEL};

/// Three watches. They end with it.
pub(super) struct ObjectWatch {
    entries: Store<ConfigMap>,
    secrets: Store<Secret>,
    grants: Store<ConfigMap>,
    changed: Arc<Notify>,
    _tasks: JoinSet<()>,
}

impl ObjectWatch {
    pub(super) fn start(client: &Client, namespace: &str) -> Self {
        let labelled = watcher::Config::default().labels(&format!("{NODE_ENTRY_LABEL}=true"));
        let granted = watcher::Config::default().fields(&format!("metadata.name={HOST_GRANTS_NAME}"));
        let changed = Arc::new(Notify::new());
        let mut tasks = JoinSet::new();
        let config_maps = || Api::<ConfigMap>::namespaced(client.clone(), namespace);
        let entries = follow(config_maps(), labelled.clone(), &changed, &mut tasks);
        let secrets = follow(Api::<Secret>::namespaced(client.clone(), namespace), labelled, &changed, &mut tasks);
        let grants = follow(config_maps(), granted, &changed, &mut tasks);
        Self { entries, secrets, grants, changed, _tasks: tasks }
    }

    /// Waits for the first complete lists. Before that, what is missing might only not have arrived.
    pub(super) async fn ready(&mut self) -> anyhow::Result<()> {
        self.entries.wait_until_ready().await.context("watch the entries")?;
        self.secrets.wait_until_ready().await.context("watch the credentials")?;
        self.grants.wait_until_ready().await.context("watch the host grants")
    }

    /// Waits for a change since the last call.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn current(&self) -> Objects {
        Objects { entries: self.entries.state(), secrets: self.secrets.state(), grants: self.grants.state() }
    }
}

fn follow<K>(api: Api<K>, config: watcher::Config, changed: &Arc<Notify>, tasks: &mut JoinSet<()>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let changed = Arc::clone(changed);
    let stream = watcher(api, config).default_backoff().reflect(writer);
    tasks.spawn(async move {
        let mut stream =
            stream.inspect_err(|error| tracing::warn!(%error, kind = %K::kind(&()), "watching failed")).boxed();
        while let Some(event) = stream.next().await {
            // While a list arrives piece by piece the store still shows the one before.
            if matches!(event, Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_) | watcher::Event::InitDone)) {
                changed.notify_one();
            }
        }
    });
    store
}
