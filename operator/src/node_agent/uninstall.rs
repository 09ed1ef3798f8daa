//! What the chart's hooks do in the cluster before the release is removed: refuse while Registries exist, stop the agents,
//! and wait until every node that can be reached is as it was. What happens on a node is [`installation`](super::installation)'s.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt};
use tokio::time::Instant;

use crate::api::registry::Registry;

/// How often to look whether the nodes are done.
const POLL: Duration = Duration::from_secs(1);

/// One step of the removal of a release.
#[derive(Args, Clone, Debug)]
pub struct UninstallArgs {
    #[command(subcommand)]
    step: Step,
}

#[derive(Clone, Debug, Subcommand)]
enum Step {
    /// Fail while Registries exist; otherwise stop the node agents.
    Check {
        /// Go on although Registries exist.
        #[arg(long)]
        force: bool,
        /// How to go on although Registries exist, for those who are refused.
        #[arg(long, default_value = "")]
        advice: String,
        /// The DaemonSet of the agents, as `namespace/name`; none when the release has no agents.
        #[arg(long, value_name = "NAMESPACE/NAME")]
        agent: Option<String>,
    },
    /// Wait until the cleanup is done on every node that is Ready.
    Wait {
        /// The namespace of the cleanup.
        #[arg(long)]
        namespace: String,
        /// The DaemonSet of the cleanup.
        #[arg(long)]
        cleanup: String,
        /// How long, in seconds.
        #[arg(long, default_value_t = 300)]
        timeout: u64,
    },
}

/// Runs one step.
pub async fn run(args: UninstallArgs) -> anyhow::Result<()> {
    let client = crate::api_client::connect().await?;
    match args.step {
        Step::Check { force, advice, agent } => {
            if !force {
                refuse_while_registries_exist(&client, &advice).await?;
            }
            match agent.as_deref().and_then(|agent| agent.split_once('/')) {
                Some((namespace, name)) => stop(&Api::namespaced(client, namespace), name).await,
                None => Ok(()),
            }
        }
        Step::Wait { namespace, cleanup, timeout } => {
            wait(&client, &namespace, &cleanup, Instant::now() + Duration::from_secs(timeout)).await
        }
    }
}

async fn refuse_while_registries_exist(client: &Client, advice: &str) -> anyhow::Result<()> {
    let registries = match Api::<Registry>::all(client.clone()).list_metadata(&ListParams::default().limit(100)).await {
        Ok(registries) => registries.items,
        // The definition is gone, and with it every Registry.
        Err(kube::Error::Api(status)) if status.is_not_found() => Vec::new(),
        Err(error) => return Err(error).context("list the Registries"),
    };
    let names: Vec<_> = registries
        .iter()
        .map(|registry| format!("{}/{}", registry.namespace().unwrap_or_default(), registry.name_any()))
        .collect();
    if !names.is_empty() {
        bail!("Registries exist: {}. Delete them and uninstall again. {advice}", names.join(", "));
    }
    Ok(())
}

async fn stop(daemon_sets: &Api<DaemonSet>, agent: &str) -> anyhow::Result<()> {
    match daemon_sets.delete(agent, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error).context("stop the node agents"),
    }
}

async fn wait(client: &Client, namespace: &str, cleanup: &str, deadline: Instant) -> anyhow::Result<()> {
    let daemon_sets = Api::<DaemonSet>::namespaced(client.clone(), namespace);
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let nodes = Api::<Node>::all(client.clone());
    loop {
        let daemon_set = daemon_sets.get(cleanup).await.context("read the cleanup")?;
        let pods = pods.list(&ListParams::default().labels(&selector(&daemon_set))).await.context("list its pods")?;
        let nodes = nodes.list(&ListParams::default()).await.context("list the nodes")?;
        let unreachable: BTreeSet<_> =
            nodes.iter().filter(|node| !node_is_ready(node)).map(ResourceExt::name_any).collect();
        match unfinished(&daemon_set, &pods.items, &unreachable) {
            Some(unfinished) if unfinished.is_empty() => {
                if !unreachable.is_empty() {
                    tracing::warn!(?unreachable, "not Ready, and therefore not waited for");
                }
                return Ok(());
            }
            unfinished if Instant::now() >= deadline => {
                bail!("the cleanup is not done on {}", unfinished.unwrap_or_default().join(", "))
            }
            _ => tokio::time::sleep(POLL).await,
        }
    }
}

/// The reachable nodes that are not done; `None` until every node has its pod.
fn unfinished(daemon_set: &DaemonSet, pods: &[Pod], unreachable: &BTreeSet<String>) -> Option<Vec<String>> {
    let status = daemon_set.status.as_ref()?;
    let complete = status.observed_generation == daemon_set.metadata.generation
        && i32::try_from(pods.len()) == Ok(status.desired_number_scheduled);
    let node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    complete.then(|| {
        pods.iter().filter(|pod| !pod_is_ready(pod)).map(node).filter(|node| !unreachable.contains(node)).collect()
    })
}

fn selector(daemon_set: &DaemonSet) -> String {
    let labels = daemon_set.spec.as_ref().and_then(|spec| spec.selector.match_labels.as_ref());
    let pairs = labels.into_iter().flatten().map(|(key, value)| format!("{key}={value}"));
    pairs.collect::<Vec<_>>().join(",")
}

fn pod_is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn node_is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(node: &str, ready: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {}, "spec": {"nodeName": node, "containers": []},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    #[test]
    fn every_reachable_node_is_waited_for() {
        let daemon_set = |observed: i64| {
            serde_json::from_value::<DaemonSet>(json!({
                "metadata": {"generation": 2},
                "status": {"observedGeneration": observed, "desiredNumberScheduled": 3, "currentNumberScheduled": 0,
                           "numberMisscheduled": 0, "numberReady": 0},
            }))
            .unwrap()
        };
        let unreachable = BTreeSet::from(["gone".to_owned()]);
        let pods = [pod("a", "True"), pod("b", "False"), pod("gone", "False")];
        assert_eq!(unfinished(&daemon_set(2), &pods, &unreachable), Some(vec!["b".to_owned()]));
        assert_eq!(unfinished(&daemon_set(1), &pods, &unreachable), None);
        assert_eq!(unfinished(&daemon_set(2), &pods[..2], &unreachable), None);
        let pods = [pod("a", "True"), pod("b", "True"), pod("gone", "False")];
        assert_eq!(unfinished(&daemon_set(2), &pods, &unreachable), Some(vec![]));
    }
}
