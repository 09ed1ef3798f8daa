//! Registries side by side, and one that wants a name that is not its own.

use anyhow::{Context as _, Result, ensure};
use berth_e2e::cluster::{Cluster, PATIENCE, eventually, is_own_cluster, on_node};
use berth_e2e::managed_registry::{ManagedRegistry, light};
use berth_e2e::pod::{self, Outcome};
use berth_e2e::push::{push, speaking};
use berth_e2e::temp_namespace::with_namespace;
use berth_operator::api::registry::NodesStatus;
use serde_json::json;

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
            let status = known_by_nodes(&other).await?;
            let images = [&one, &other].map(|registry| format!("{}/app:1", registry.host()));
            for node in cluster.nodes().await? {
                if status.examples.iter().any(|example| example.node == node) {
                    continue;
                }
                let outcome = pod::run(left, &node, &images).await?;
                ensure!(outcome == Outcome::Ran(vec![left.name.clone(), right.name.clone()]), "{node}: {outcome:?}");
                println!("{node}: one pod ran app:1 of both namespaces, each with its own bytes");
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
    let nodes = cluster.nodes().await?;
    let look = || nodes.iter().map(|node| others(node)).collect::<Result<Vec<_>>>();
    with_namespace(&cluster, "hub", async |namespace| {
        // With the first Registry the agents make the directories that all Registries' are in.
        known_by_nodes(&ManagedRegistry::ready(namespace, "modest", light()).await?).await?;
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
        known_by_nodes(&registry).await?;
        let after = look()?;
        ensure!(before == after, "before: {before:?}\nafter: {after:?}");
        println!("docker.io without a grant: {}", refused.message);
        Ok(())
    })
    .await
}

/// What the status says of nodes, once every one has been heard of.
async fn known_by_nodes(registry: &ManagedRegistry<'_>) -> Result<NodesStatus> {
    eventually("every node to be heard of", PATIENCE, async || {
        let nodes = registry.get().await?.status.and_then(|status| status.nodes).context("no status.nodes")?;
        ensure!(nodes.unknown == 0 && nodes.trusted > 0, "{nodes:?}");
        Ok(nodes)
    })
    .await
}

/// Every file in the node's containerd configuration with its sum, but for what Registries have by their own names: those
/// come and go with other tests.
fn others(node: &str) -> Result<String> {
    let list = "find /etc/containerd -not -path '*.svc*' -not -path '*/.berth-tmp*' \\( -type f -exec sha256sum {} + -o -type d -print \\) | sort";
    on_node(node, &["sh", "-c", list])
}
