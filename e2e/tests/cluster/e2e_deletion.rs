//! What stays of a deleted Registry, and what does not.

use anyhow::{Context as _, Result, ensure};
use berth_e2e::cluster::{self, Cluster, NODE_NAMESPACE, PATIENCE, eventually, on_node, own_cluster};
use berth_e2e::managed_registry::ManagedRegistry;
use berth_e2e::pod::{self, Pulled};
use berth_e2e::push::{push, speaking};
use berth_e2e::temp_namespace::{TempNamespace, with_namespace};
use kube::ResourceExt as _;
use serde_json::json;

/// Everything that the operator may make in a Registry's namespace.
const KINDS: &str = "deployments,replicasets,pods,services,endpointslices,configmaps,secrets,serviceaccounts,\
                     persistentvolumeclaims,poddisruptionbudgets";

#[tokio::test]
async fn a_retained_registry_comes_back_with_its_images_and_its_password() -> Result<()> {
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "retain", async |namespace| {
        let spec = json!({"storage": {"persistentVolumeClaim": {"size": "1Gi"}}});
        let first = ManagedRegistry::ready(namespace, "images", spec.clone()).await?;
        let image = speaking("kept")?;
        push(&first.client().await?, "app", "1", &image).await?;
        let (uid, password, bundle) =
            (first.get().await?.uid().context("no uid")?, first.password().await?, first.ca_bundle().await?);
        deletes_all_but_what_is_retained(&first, &uid).await?;

        let second = ManagedRegistry::ready(namespace, "images", spec).await?;
        ensure!(second.get().await?.uid().as_ref() != Some(&uid), "it is the same object");
        ensure!(second.password().await? == password, "the password is another");
        ensure!(second.ca_bundle().await? == bundle, "the authority is another");
        let manifest = second.client().await?.get("/v2/app/manifests/1").await?;
        ensure!(manifest.body == image.bytes, "the image is another");
        let node = second.trusted_nodes().await?.into_iter().next().context("no node")?;
        let Pulled { said, failed } = pod::pull(namespace, &node, &[format!("{}/app:1", second.host())]).await?;
        ensure!(said == ["kept"], "{said:?}");
        println!("a pod on {node} ran an image of the first from the second, after {failed} failed pulls");
        deletes_everything_when_told_to(&second).await
    })
    .await
}

async fn deletes_all_but_what_is_retained(registry: &ManagedRegistry<'_>, uid: &str) -> Result<()> {
    registry.delete().await?;
    eventually("all but the claim to be gone", PATIENCE, async || {
        let left = left(registry.namespace)?;
        ensure!(left == ["persistentvolumeclaim/images-data"], "{left:?}");
        Ok(())
    })
    .await?;
    nodes_forget(registry, uid).await?;
    ensure!(registry.keyring().await?.is_some(), "the operator's Secret is gone");
    println!("deleted with Retain: the claim and the operator's Secret stayed, nothing else");
    Ok(())
}

async fn deletes_everything_when_told_to(registry: &ManagedRegistry<'_>) -> Result<()> {
    let namespace = registry.namespace;
    registry.patch(json!({"spec": {"deletionPolicy": "Delete"}})).await?;
    eventually("the claim to be owned", PATIENCE, async || {
        let owner = cluster::run(
            "kubectl",
            &["-n", &namespace.name, "get", "pvc", "images-data", "-o", "jsonpath={.metadata.ownerReferences}"],
        )?;
        ensure!(owner.contains("Registry"), "{owner}");
        let keyring = registry.keyring().await?.context("no keyring")?;
        ensure!(!keyring.labels().contains_key("berth.dev/retained-for"), "the operator's Secret is retained");
        Ok(())
    })
    .await?;
    registry.delete().await?;
    eventually("everything to be gone", PATIENCE, async || {
        let left = left(namespace)?;
        ensure!(left.is_empty(), "{left:?}");
        ensure!(registry.keyring().await?.is_none(), "the operator's Secret is there");
        Ok(())
    })
    .await?;
    println!("deleted with Delete: nothing stayed");
    Ok(())
}

/// What is labelled as Berth's in the namespace.
fn left(namespace: &TempNamespace<'_>) -> Result<Vec<String>> {
    let label = "--selector=berth.dev/registry";
    let found =
        cluster::run("kubectl", &["-n", &namespace.name, "get", KINDS, label, "-o", "name", "--ignore-not-found"])?;
    Ok(found.lines().map(ToOwned::to_owned).collect())
}

/// Returns when no node knows the Registry.
async fn nodes_forget(registry: &ManagedRegistry<'_>, uid: &str) -> Result<()> {
    eventually("nodes to forget the Registry", PATIENCE, async || {
        let entry = format!("registry-{uid}");
        let found = cluster::run("kubectl", &["-n", NODE_NAMESPACE, "get", "configmaps,secrets", "-o", "name"])?;
        ensure!(!found.contains(&entry), "{entry} is there");
        if own_cluster().is_some() {
            for node in registry.namespace.cluster.nodes().await? {
                let found = on_node(&node, &["find", "/etc/containerd", "-name", &format!("{}*", registry.host())])?;
                ensure!(found.is_empty(), "{node}: {found}");
            }
        }
        Ok(())
    })
    .await
}
