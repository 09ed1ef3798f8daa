//! A namespace for one test, gone afterwards. It enforces the Pod Security Standard `restricted`, as careful clusters do, so
//! every test shows that Berth passes it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use crate::cluster::{self, Cluster, NODE_NAMESPACE, OPERATOR_NAMESPACE};
use crate::port_forward::PortForward;

/// A namespace that one test has for itself.
pub struct TempNamespace<'a> {
    /// Its name.
    pub name: String,
    /// The cluster it is in.
    pub cluster: &'a Cluster,
    /// The ways to its Services that are open, by the Services' names.
    ways: Mutex<BTreeMap<String, PortForward>>,
}

impl TempNamespace<'_> {
    /// What speaks of one kind of object in it.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client(), &self.name)
    }

    /// Where this machine reaches `port` of a Service whose address it does not reach.
    ///
    /// # Errors
    /// When no pod is behind the Service.
    pub fn forwarded(&self, service: &str, port: u16) -> Result<SocketAddr> {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(way) = ways.get_mut(service)
            && way.is_alive()
        {
            return Ok(way.address);
        }
        let way = PortForward::to_service(&self.name, service, port)?;
        let address = way.address;
        ways.insert(service.to_owned(), way);
        Ok(address)
    }

    /// The cluster's API server.
    pub fn client(&self) -> Client {
        self.cluster.client.clone()
    }
}

/// Runs a test in a namespace of its own. When it fails, prints what is in there and what operator and agents logged;
/// `BERTH_E2E_KEEP=1` then keeps the namespace.
///
/// # Errors
/// What the test returns.
pub async fn with_namespace(
    cluster: &Cluster,
    purpose: &str,
    test: impl AsyncFnOnce(&TempNamespace<'_>) -> Result<()>,
) -> Result<()> {
    let unique: String = std::iter::repeat_with(fastrand::lowercase).take(5).collect();
    let name = format!("e2e-{purpose}-{unique}");
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    let namespace = serde_json::from_value(json!({"metadata": {"name": name, "labels": {
        "berth.dev/e2e": "true",
        "pod-security.kubernetes.io/enforce": "restricted",
    }}}))?;
    api.create(&PostParams::default(), &namespace).await.with_context(|| format!("namespace {name}"))?;
    let namespace = TempNamespace { name, cluster, ways: Mutex::default() };
    let result = test(&namespace).await;
    if let Err(error) = &result {
        dump(&namespace.name, error);
    }
    if result.is_ok() || std::env::var_os("BERTH_E2E_KEEP").is_none() {
        api.delete(&namespace.name, &DeleteParams::background()).await?;
    }
    result
}

/// Everything that helps to understand a failure, in one piece, because other tests print too.
fn dump(namespace: &str, error: &anyhow::Error) {
    let mut text = format!("==== the test in {namespace} failed: {error:#}\n");
    let system =
        ["--since=10m", "--tail=200", "--prefix", "--all-containers", "--selector=app.kubernetes.io/name=berth"];
    let commands = [
        vec!["get", "registries", "-n", namespace, "-o", "yaml"],
        vec!["get", "pods,services,persistentvolumeclaims,deployments", "-n", namespace, "-o", "wide"],
        vec!["get", "events", "-n", namespace, "--sort-by=.metadata.creationTimestamp"],
        vec!["logs", "-n", namespace, "--selector=berth.dev/registry", "--tail=60", "--prefix"],
        [vec!["logs", "-n", OPERATOR_NAMESPACE], system.to_vec()].concat(),
        [vec!["logs", "-n", NODE_NAMESPACE], system.to_vec()].concat(),
    ];
    for command in commands {
        let said = cluster::run("kubectl", &command).unwrap_or_else(|error| format!("{error:#}"));
        text.push_str(&format!("---- kubectl {}\n{said}\n", command.join(" ")));
    }
    eprintln!("{text}");
}
