//! What is watched, and the stores that answer from it.
//!
//! Only objects with our label are watched, and what nobody here reads is dropped from them at once, so that memory follows
//! the number of Registries and not the size of the cluster. Where the operator may see only some namespaces, each kind is
//! watched in each of them.

use std::fmt::Debug;
use std::sync::Arc;

use futures::stream::{BoxStream, SelectAll};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Predicate, PredicateConfig, WatchStreamExt, predicates, reflector, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};

use crate::api::Registry;
use crate::context::Settings;
use crate::labels::{FIELD_MANAGER, REGISTRY, REGISTRY_NAMESPACE};
use crate::node_entry::{HOST_GRANTS_NAME, NODE_ENTRY_LABEL, NODE_REPORT_LABEL};

/// A Registry that could be read, or one that could not.
pub type Guarded = DeserializeGuard<Registry>;
/// Something happened to this Registry.
pub type Trigger = BoxStream<'static, ObjectRef<Guarded>>;

/// One kind, watched in one or several scopes.
pub struct Watched<K: Resource<DynamicType = ()> + 'static>(Vec<Scope<K>>);

/// One kind in one namespace, or in all.
struct Scope<K: Resource<DynamicType = ()> + 'static> {
    namespace: Option<String>,
    store: Store<K>,
    /// Whether the API server refused to list it.
    refused: watch::Receiver<bool>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Watched<K> {
    /// The object, if it has our label.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let key = ObjectRef::new(name).within(namespace);
        self.stores(namespace).find_map(|store| store.get(&key))
    }

    /// The objects of one namespace that this holds for.
    pub fn filter(&self, namespace: &str, holds: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let here = |object: &K| object.meta().namespace.as_deref() == Some(namespace) && holds(object);
        self.stores(namespace).flat_map(|store| store.state_filter(&here)).collect()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.0.iter().flat_map(|scope| scope.store.state()).collect()
    }

    /// Returns when the first list has arrived everywhere, or was refused: one namespace whose rights were taken away must
    /// not keep the Registries of all others waiting.
    pub async fn wait_until_ready(&self) {
        for scope in &self.0 {
            let mut refused = scope.refused.clone();
            // Both fail when the watch has ended, which is when the process does.
            tokio::select! {
                _ = scope.store.wait_until_ready() => {}
                _ = refused.wait_for(|refused| *refused) => {}
            }
        }
    }

    fn stores(&self, namespace: &str) -> impl Iterator<Item = &Store<K>> {
        let here = move |scope: &&Scope<K>| scope.namespace.as_deref().is_none_or(|scope| scope == namespace);
        self.0.iter().filter(here).map(|scope| &scope.store)
    }
}

/// Everything that is watched.
pub struct Stores {
    /// Registries.
    pub registries: Store<Guarded>,
    /// Their identities.
    pub service_accounts: Watched<ServiceAccount>,
    /// Their configuration and certificates.
    pub config_maps: Watched<ConfigMap>,
    /// Their addresses.
    pub services: Watched<Service>,
    /// Their volumes.
    pub claims: Watched<PersistentVolumeClaim>,
    /// Their workloads.
    pub deployments: Watched<Deployment>,
    /// Their budgets.
    pub disruption_budgets: Watched<PodDisruptionBudget>,
    /// Their pods.
    pub pods: Watched<Pod>,
    /// What nodes are told.
    pub node_entries: Watched<ConfigMap>,
    /// What nodes report.
    pub node_reports: Watched<ConfigMap>,
    /// What administrators granted.
    pub host_grants: Watched<ConfigMap>,
    /// Nodes: their names, systems and readiness.
    pub nodes: Store<Node>,
    /// Namespaces: their names and uids.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
}

impl Stores {
    /// Returns when the first lists have arrived. Before that, what is missing may just not have come yet.
    pub async fn wait_until_ready(&self) {
        let _ = self.registries.wait_until_ready().await;
        let _ = self.nodes.wait_until_ready().await;
        let _ = self.namespaces.wait_until_ready().await;
        self.service_accounts.wait_until_ready().await;
        self.config_maps.wait_until_ready().await;
        self.services.wait_until_ready().await;
        self.claims.wait_until_ready().await;
        self.deployments.wait_until_ready().await;
        self.disruption_budgets.wait_until_ready().await;
        self.pods.wait_until_ready().await;
        self.node_entries.wait_until_ready().await;
        self.node_reports.wait_until_ready().await;
        self.host_grants.wait_until_ready().await;
    }
}

/// What the watches tell the controller.
pub struct Triggers {
    /// A Registry was written. Its own status is no reason.
    pub registries: BoxStream<'static, Result<Guarded, watcher::Error>>,
    /// Something that belongs to a Registry changed.
    pub others: Trigger,
    /// What administrators granted changed.
    pub grants: BoxStream<'static, ()>,
}

/// What the watches tell besides.
pub struct Told {
    /// A Registry went away, or the list of all of them is new.
    pub removals: mpsc::Receiver<()>,
    /// To be told of a Registry whose nodes have something new to say.
    pub looks: mpsc::UnboundedSender<ObjectRef<Guarded>>,
}

/// Polls a stream from now on, so that its store fills before anybody reads what the stream tells. What waits is bounded by
/// the number of objects: nobody writes faster than the controller merges for longer than its start.
fn driven<T: Send + 'static>(mut stream: BoxStream<'static, T>) -> BoxStream<'static, T> {
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(item) = stream.next().await {
            if sender.send(item).is_err() {
                return;
            }
        }
    });
    received(receiver)
}

fn received<T: Send + 'static>(receiver: mpsc::UnboundedReceiver<T>) -> BoxStream<'static, T> {
    futures::stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver))).boxed()
}

/// Starts every watch.
pub fn start(client: &Client, settings: &Settings) -> (Stores, Triggers, Told) {
    let scopes: Vec<Option<String>> = match settings.watch_namespaces.as_slice() {
        [] => vec![None],
        some => some.iter().cloned().map(Some).collect(),
    };
    let ours = watcher::Config::default()
        .labels(&format!("app.kubernetes.io/managed-by={FIELD_MANAGER},{REGISTRY},!{REGISTRY_NAMESPACE}"));
    // Without agents there is no namespace of theirs, and no right to watch it.
    let node_scope: Vec<Option<String>> =
        if settings.node_agent { vec![Some(settings.node_namespace.clone())] } else { Vec::new() };
    let mut children = SelectAll::new();
    let (registries_store, registries, removals) = registries(client);
    let labelled = |label: &str| watcher::Config::default().labels(label);
    let (node_reports, reports) =
        watched::<ConfigMap>(client, &node_scope, &labelled(NODE_REPORT_LABEL), drop_managers);
    let named = watcher::Config::default().fields(&format!("metadata.name={HOST_GRANTS_NAME}"));
    let (host_grants, grants) = watched::<ConfigMap>(client, &node_scope, &named, drop_managers);
    let (nodes, node_stream) = cluster_wide::<Node>(client, prune_node);
    let (namespaces, namespace_stream) = cluster_wide::<PartialObjectMeta<Namespace>>(client, drop_managers);
    let stores = Stores {
        registries: registries_store,
        service_accounts: child(client, &scopes, &ours, drop_managers, &mut children),
        config_maps: child(client, &scopes, &ours, drop_managers, &mut children),
        services: child(client, &scopes, &ours, drop_managers, &mut children),
        claims: child(client, &scopes, &ours, drop_managers, &mut children),
        deployments: child(client, &scopes, &ours, drop_managers, &mut children),
        disruption_budgets: child(client, &scopes, &ours, drop_managers, &mut children),
        pods: child(client, &scopes, &labelled(REGISTRY), prune_pod, &mut children),
        node_entries: child(client, &node_scope, &labelled(NODE_ENTRY_LABEL), drop_managers, &mut children),
        node_reports,
        host_grants,
        nodes,
        namespaces,
    };
    // These are only looked up: their streams are polled for the stores' sake.
    let background = futures::stream::select(reports.map(drop), futures::stream::select(node_stream, namespace_stream));
    tokio::spawn(background.for_each(async |()| {}));
    let (looks, looked) = mpsc::unbounded_channel();
    let others = futures::stream::select(driven(children.boxed()), received(looked));
    let triggers =
        Triggers { registries: driven(registries), others: others.boxed(), grants: driven(grants.map(drop).boxed()) };
    (stores, triggers, Told { removals, looks })
}

type Removals = mpsc::Receiver<()>;
type Registries = BoxStream<'static, Result<Guarded, watcher::Error>>;

fn registries(client: &Client) -> (Store<Guarded>, Registries, Removals) {
    let (reader, writer) = reflector::store();
    // One waiting message is enough: who reads it looks at everything.
    let (tell, removals) = mpsc::channel(1);
    let stream = watcher(Api::<Guarded>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .modify(drop_managers)
        .reflect(writer)
        .inspect(move |event| {
            if matches!(event, Ok(watcher::Event::Delete(_) | watcher::Event::InitDone)) {
                let _ = tell.try_send(());
            }
        })
        .applied_objects()
        .predicate_filter(predicates::generation.combine(predicates::annotations), PredicateConfig::default());
    (reader, stream.boxed(), removals)
}

fn child<K>(
    client: &Client,
    scopes: &[Option<String>],
    config: &watcher::Config,
    prune: fn(&mut K),
    triggers: &mut SelectAll<Trigger>,
) -> Watched<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + Sync
        + 'static,
{
    let (watched, stream) = watched(client, scopes, config, prune);
    triggers.push(stream.filter_map(async |object| registry_of(&object)).boxed());
    watched
}

fn watched<K>(
    client: &Client,
    scopes: &[Option<String>],
    config: &watcher::Config,
    prune: fn(&mut K),
) -> (Watched<K>, BoxStream<'static, K>)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + Sync
        + 'static,
{
    let mut stores = Vec::new();
    let mut streams = SelectAll::new();
    for scope in scopes {
        let api = match scope {
            Some(namespace) => Api::<K>::namespaced(client.clone(), namespace),
            None => Api::<K>::all(client.clone()),
        };
        let (reader, writer) = reflector::store();
        let (tell, refused) = watch::channel(false);
        let (mut refusals, is_namespaced) = (0, scope.is_some());
        let stream = watcher(api, config.clone()).default_backoff().modify(prune).reflect(writer).touched_objects();
        let told = stream.inspect_err(move |error| {
            log::<K>(error);
            // Rights that were just given take a moment to be in force, so the first refusals are no answer.
            refusals += u32::from(is_refused(error));
            if is_namespaced && refusals == PATIENCE {
                tell.send_replace(true);
            }
        });
        streams.push(told.filter_map(async |object| object.ok()).boxed());
        stores.push(Scope { namespace: scope.clone(), store: reader, refused });
    }
    (Watched(stores), streams.boxed())
}

/// How often one namespace is asked before what it refuses is not waited for.
const PATIENCE: u32 = 3;

/// Whether it may not be listed, or its namespace is not there; either may change, and is tried again.
fn is_refused(error: &watcher::Error) -> bool {
    let watcher::Error::InitialListFailed(kube::Error::Api(status)) = error else { return false };
    matches!(status.code, 403 | 404)
}

fn cluster_wide<K>(client: &Client, prune: fn(&mut K)) -> (Store<K>, BoxStream<'static, ()>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (reader, writer) = reflector::store();
    let stream = watcher(Api::<K>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .modify(prune)
        .reflect(writer)
        .touched_objects();
    (reader, stream.map(|object| drop(object.inspect_err(log::<K>))).boxed())
}

fn log<K: Resource<DynamicType = ()>>(error: &watcher::Error) {
    tracing::warn!(kind = %K::kind(&()), %error, "a watch failed and is started again");
}

/// Which Registry an object belongs to, by its labels.
fn registry_of(object: &impl Resource) -> Option<ObjectRef<Guarded>> {
    let labels = object.meta().labels.as_ref()?;
    let namespace = labels.get(REGISTRY_NAMESPACE).cloned().or_else(|| object.meta().namespace.clone())?;
    Some(ObjectRef::new(labels.get(REGISTRY)?).within(&namespace))
}

fn drop_managers<K: Resource>(object: &mut K) {
    object.managed_fields_mut().clear();
}

/// Of a pod only its state is read.
fn prune_pod(pod: &mut Pod) {
    drop_managers(pod);
    pod.metadata.annotations = None;
    pod.spec = None;
}

/// Of a node only its name, its labels and whether it is ready are read. The rest changes every few minutes.
fn prune_node(node: &mut Node) {
    drop_managers(node);
    node.metadata.annotations = None;
    node.spec = None;
    if let Some(status) = node.status.take() {
        let conditions = status
            .conditions
            .map(|conditions| conditions.into_iter().filter(|condition| condition.type_ == "Ready").collect());
        node.status = Some(k8s_openapi::api::core::v1::NodeStatus { conditions, ..Default::default() });
    }
}
