//! Several pods on one volume: what goes, one after the other, is missed by nobody.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use berth_e2e::cluster::{Cluster, PATIENCE, eventually};
use berth_e2e::managed_registry::{ManagedRegistry, condition};
use berth_e2e::pod::{PullLoop, seconds};
use berth_e2e::push::{push, speaking};
use berth_e2e::temp_namespace::{TempNamespace, with_namespace};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, EvictParams};
use serde_json::json;

/// As many different images, so that hardly any pull finds its layers on the node.
const IMAGES: usize = 150;

#[tokio::test]
async fn two_pods_on_a_shared_volume_lose_no_pull_to_a_deletion_an_eviction_or_a_rollout() -> Result<()> {
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "replicas", async |namespace| {
        let claim = json!({"size": "1Gi", "accessModes": ["ReadWriteMany"]});
        let spec = json!({"replicas": 2, "storage": {"persistentVolumeClaim": claim}});
        let registry = ManagedRegistry::ready(namespace, "images", spec).await?;
        has_a_budget(namespace).await?;
        loses_no_pull(&registry).await?;
        one_pod_needs_no_budget(&registry).await
    })
    .await
}

/// Shows that every pod of a Registry of two can go while pods on all nodes pull from it.
pub(crate) async fn loses_no_pull(registry: &ManagedRegistry<'_>) -> Result<()> {
    ensure!(registry.pod_names().await?.len() == 2, "{:?}", registry.pod_names().await?);
    let (nodes, client) = (registry.trusted_nodes().await?, registry.client().await?);
    for number in 0..IMAGES {
        push(&client, "app", &number.to_string(), &speaking(&number.to_string())?).await?;
    }
    let pulls = PullLoop::default();
    let next = async |number: usize| Ok(vec![format!("{}/app:{}", registry.host(), number % IMAGES)]);
    let replace = async {
        let result = replace_all(registry, &pulls).await;
        pulls.stop();
        result
    };
    let busy = nodes.iter().cycle().take(nodes.len() * 3);
    let loops = futures::future::try_join_all(busy.map(|node| pulls.pull(registry.namespace, node, &next)));
    let (replaced, looped) = futures::join!(replace, loops);
    println!("two pods: {} pulls succeeded, {} attempts had failed", pulls.pulled(), pulls.failed());
    replaced?;
    looped?;
    ensure!(pulls.failed() == 0, "{} attempts to pull failed", pulls.failed());
    Ok(())
}

/// One that lets a node be drained, pod by pod, and does not keep a pod that serves nobody.
pub(crate) async fn has_a_budget(namespace: &TempNamespace<'_>) -> Result<()> {
    let budget = namespace.api::<PodDisruptionBudget>().get("images").await?;
    let spec = budget.spec.context("no spec")?;
    ensure!(spec.max_unavailable == Some(IntOrString::Int(1)) && spec.min_available.is_none(), "{spec:?}");
    ensure!(spec.unhealthy_pod_eviction_policy.as_deref() == Some("AlwaysAllow"), "{spec:?}");
    eventually("the budget to know the two pods", PATIENCE, async || {
        let status = namespace.api::<PodDisruptionBudget>().get("images").await?.status.context("no status")?;
        ensure!((status.expected_pods, status.disruptions_allowed) == (2, 1), "{status:?}");
        Ok(())
    })
    .await
}

/// Three ways in which pods go while others serve.
async fn replace_all(registry: &ManagedRegistry<'_>, pulls: &PullLoop) -> Result<()> {
    let pods = registry.namespace.api::<Pod>();
    let first = async || registry.pod_names().await?.into_iter().next().context("no pod");
    replace(registry, pulls, 1, "one pod was deleted", async || {
        pods.delete(&first().await?, &DeleteParams::default()).await?;
        Ok(())
    })
    .await?;
    replace(registry, pulls, 1, "one pod was evicted, as by a drain", async || {
        pods.evict(&first().await?, &EvictParams::default()).await?;
        Ok(())
    })
    .await?;
    let rollout = async || registry.patch(json!({"spec": {"logLevel": "warn"}})).await;
    replace(registry, pulls, 2, "a changed log level replaced both", rollout).await
}

/// Returns when `count` of the pods have been replaced and nothing is under way.
async fn replace(
    registry: &ManagedRegistry<'_>,
    pulls: &PullLoop,
    count: usize,
    what: &str,
    go: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    pulls.more(12).await?;
    let before: Vec<Option<String>> = registry.pods().await?.iter().map(Pod::uid).collect();
    let (pulled, failed, begun) = (pulls.pulled(), pulls.failed(), Instant::now());
    go().await?;
    eventually(what, PATIENCE, async || {
        let pods = registry.pods().await?;
        let new = pods.iter().filter(|pod| !before.contains(&pod.uid())).count();
        ensure!(pods.len() == 2 && new == count, "{} pods, {new} of them new", pods.len());
        let found = registry.get().await?;
        ensure!(condition(&found, "Reconciling").is_none(), "it is still reconciling");
        ensure!(condition(&found, "Ready").is_some_and(|ready| ready.status == "True"), "it is not ready");
        ensure!(found.status.and_then(|status| status.ready_replicas) == Some(2), "not both are ready");
        Ok(())
    })
    .await?;
    let after = seconds(begun.elapsed());
    pulls.more(12).await?;
    println!(
        "{what}, done after {after}: {} of {} attempts to pull failed",
        pulls.failed() - failed,
        pulls.pulled() - pulled + pulls.failed() - failed
    );
    Ok(())
}

async fn one_pod_needs_no_budget(registry: &ManagedRegistry<'_>) -> Result<()> {
    registry.patch(json!({"spec": {"replicas": 1}})).await?;
    eventually("the budget to go", PATIENCE, async || {
        let budget = registry.namespace.api::<PodDisruptionBudget>().get_opt("images").await?;
        ensure!(budget.is_none(), "it is there, and would keep the only pod on its node");
        Ok(())
    })
    .await
}
