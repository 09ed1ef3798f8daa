//! Registries side by side, and those that want a name that is not their own.

use anyhow::{Context as _, Result, ensure};
use berth_e2e::cluster::{Cluster, NODE_NAMESPACE, PATIENCE, eventually, is_own_cluster, on_node, own_cluster};
use berth_e2e::managed_registry::{ManagedRegistry, light};
use berth_e2e::pod::{self, Pulled};
use berth_e2e::push::{push, speaking};
use berth_e2e::temp_namespace::with_namespace;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::Mutex;

/// What nodes have beyond Registries' own names is looked at by one test at a time, and granted by one.
static OTHER_HOSTS: Mutex<()> = Mutex::const_new(());

#[tokio::test]
async fn two_namespaces_have_an_image_of_the_same_name_and_each_pod_gets_its_own() -> Result<()> {
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "left", async |left| {
        with_namespace(&cluster, "right", async |right| {
            let one = ManagedRegistry::create(left, "images", light()).await?;
            let other = ManagedRegistry::create(right, "images", light()).await?;
            for registry in [&one, &other] {
                registry.wait_ready().await?;
                push(&registry.client().await?, "app", "1", &speaking(&registry.namespace.name)?).await?;
            }
            let images = [&one, &other].map(|registry| format!("{}/app:1", registry.host()));
            for node in other.trusted_nodes().await? {
                let Pulled { said, failed } = pod::pull(left, &node, &images).await?;
                ensure!(said == [left.name.as_str(), right.name.as_str()], "{node}: {said:?}");
                println!("{node}: one pod ran app:1 of both namespaces, each its own, after {failed} failed pulls");
            }
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test]
async fn a_claim_to_docker_hub_without_a_grant_changes_nothing_on_any_node() -> Result<()> {
    let cluster = Cluster::shared().await?;
    if !is_own_cluster("a_claim_to_docker_hub_without_a_grant_changes_nothing_on_any_node") {
        return Ok(());
    }
    let _turn = OTHER_HOSTS.lock().await;
    let nodes = cluster.nodes().await?;
    let look = || nodes.iter().map(|node| others(node)).collect::<Result<Vec<_>>>();
    with_namespace(&cluster, "hub", async |namespace| {
        // With the first Registry the agents make the directories that all Registries' are in.
        ManagedRegistry::ready(namespace, "modest", light()).await?.known_by_nodes().await?;
        let before = look()?;
        let mut spec = light();
        spec["nodes"] = json!({"hosts": ["docker.io", "registry-1.docker.io"]});
        let registry = ManagedRegistry::ready(namespace, "hub", spec).await?;
        let refused = registry.wait_for("HostsGranted", "HostNotGranted").await?;
        ensure!(
            refused.status == "False" && refused.message.contains("docker.io, registry-1.docker.io"),
            "{refused:?}"
        );
        ensure!(refused.message.contains("hostGrants"), "it does not say what to do: {}", refused.message);
        // The nodes have heard of it, by its own name.
        registry.known_by_nodes().await?;
        let after = look()?;
        ensure!(before == after, "before: {before:?}\nafter: {after:?}");
        println!("docker.io without a grant: {}", refused.message);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_host_that_is_granted_is_pulled_from_by_that_name_until_the_grant_goes() -> Result<()> {
    const HOST: &str = "registry.company.example";
    let cluster = Cluster::shared().await?;
    let _turn = OTHER_HOSTS.lock().await;
    with_namespace(&cluster, "granted", async |namespace| {
        let mut spec = light();
        spec["nodes"] = json!({"hosts": [HOST]});
        let registry = ManagedRegistry::ready(namespace, "images", spec).await?;
        let advice = registry.wait_for("HostsGranted", "HostNotGranted").await?.message;
        push(&registry.client().await?, "app", "1", &speaking("granted")?).await?;
        let grant = format!("{{host: {HOST}, namespace: {}, registry: images}}", namespace.name);
        ensure!(advice.ends_with(&format!("or ask for {grant}")), "{advice}");
        let before = host_grants(&cluster).await?;
        let mut grants: Vec<Value> = serde_yaml::from_str(&before)?;
        grants.push(serde_yaml::from_str(&grant)?);
        let result = async {
            write_host_grants(&cluster, &serde_yaml::to_string(&grants)?).await?;
            let granted = registry.wait_for("HostsGranted", "HostsGranted").await?;
            ensure!(granted.status == "True", "{granted:?}");
            let image = format!("{HOST}/app:1");
            for node in registry.trusted_nodes().await? {
                let Pulled { said, failed } = pod::pull(namespace, &node, std::slice::from_ref(&image)).await?;
                ensure!(said == ["granted"], "{node}: {said:?}");
                println!("{node}: a pod ran {image} after {failed} failed pulls");
            }
            Ok(())
        }
        .await;
        // Administrators may take it back.
        write_host_grants(&cluster, &before).await?;
        result?;
        registry.wait_for("HostsGranted", "HostNotGranted").await?;
        no_node_knows(&cluster, HOST).await
    })
    .await
}

/// What the chart's `hostGrants` became.
async fn host_grants(cluster: &Cluster) -> Result<String> {
    let api: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), NODE_NAMESPACE);
    let mut data = api.get("host-grants").await?.data.unwrap_or_default();
    data.remove("grants.yaml").context("no grants.yaml")
}

async fn write_host_grants(cluster: &Cluster, grants: &str) -> Result<()> {
    let api: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), NODE_NAMESPACE);
    let patch = Patch::Merge(json!({"data": {"grants.yaml": grants}}));
    api.patch("host-grants", &PatchParams::default(), &patch).await?;
    Ok(())
}

async fn no_node_knows(cluster: &Cluster, host: &str) -> Result<()> {
    if own_cluster().is_none() {
        println!("SKIPPED in part: whether nodes forgot {host}, which only the cluster of e2e/cluster/up lets it see");
        return Ok(());
    }
    eventually("nodes to forget what is granted no longer", PATIENCE, async || {
        for node in cluster.nodes().await? {
            let found = on_node(&node, &["find", "/etc/containerd", "-name", &format!("{host}*")])?;
            ensure!(found.is_empty(), "{node}: {found}");
        }
        Ok(())
    })
    .await
}

/// Every file in the node's containerd configuration with its sum, but for what Registries have by their own names: those
/// come and go with other tests.
fn others(node: &str) -> Result<String> {
    let list = "find /etc/containerd -not -path '*.svc*' -not -path '*/.berth-tmp*' \\( -type f -exec sha256sum {} + -o -type d -print \\) | sort";
    on_node(node, &["sh", "-c", list])
}
