//! Registries on a container of Azure Blob Storage: images that are still there when the Registry was not, and what is wrong in the
//! conditions. On Azurite: what only Azure has, such as workload identities, is tried nowhere.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use berth_e2e::azurite::{self, ACCOUNT, Azurite};
use berth_e2e::cluster::{Cluster, MACHINE, PATIENCE, eventually, is_own_cluster};
use berth_e2e::managed_registry::{ManagedRegistry, condition};
use berth_e2e::pod::{self, Pulled};
use berth_e2e::push::{push, speaking};
use berth_e2e::s3_server::BUCKET;
use berth_e2e::temp_namespace::{TempNamespace, with_namespace};
use berth_operator::api::registry::StorageType;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::e2e_bucket::says;

#[tokio::test]
async fn two_pods_on_a_container_of_azure_serve_and_another_registry_on_it_finds_the_images() -> Result<()> {
    if !is_own_cluster("two_pods_on_a_container_of_azure_serve_and_another_registry_on_it_finds_the_images") {
        return Ok(());
    }
    let (cluster, azurite) = (Cluster::shared().await?, Azurite::start_for_others(MACHINE).await?);
    with_namespace(&cluster, "azure", async |namespace| {
        give_key(namespace, &azurite::key()).await?;
        let spec = json!({"replicas": 2, "storage": {"azure": container(&azurite, BUCKET)}});
        let registry = ManagedRegistry::ready(namespace, "images", spec.clone()).await?;
        let nodes: BTreeSet<_> = registry.pods().await?.into_iter().filter_map(|pod| pod.spec?.node_name).collect();
        ensure!(nodes.len() == 2, "both pods are on {nodes:?}");
        let storage = registry.storage().await?.context("no storage in the status")?;
        ensure!(storage.type_ == StorageType::Azure && storage.bucket.is_none(), "{storage:?}");
        let names = [&storage.account_name, &storage.container, &storage.prefix].map(Option::as_deref);
        ensure!(names == [Some(ACCOUNT), Some(BUCKET), Some("registries/images")], "{storage:?}");
        // The status hears of it from the pods, which may be ready before.
        eventually("the status to say what the pods found", PATIENCE, async || {
            let found = registry.storage().await?.and_then(|storage| storage.conditional_overwrite);
            found.context("it does not").map(drop)
        })
        .await?;

        push(&registry.client().await?, "app", "kept", &speaking("kept")?).await?;
        // The container is nobody's to delete, whatever the policy.
        registry.patch(json!({"spec": {"deletionPolicy": "Delete"}})).await?;
        registry.delete().await?;
        let registry = ManagedRegistry::ready(namespace, "again", spec).await?;
        let node = registry.trusted_nodes().await?.into_iter().next().context("no node")?;
        let Pulled { said, .. } = pod::pull(namespace, &node, &[format!("{}/app:kept", registry.host())]).await?;
        ensure!(said == ["kept"], "{said:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_key_of_azure_that_is_wrong_and_a_container_that_is_missing_are_said_so_and_can_be_mended() -> Result<()> {
    if !is_own_cluster("a_key_of_azure_that_is_wrong_and_a_container_that_is_missing_are_said_so_and_can_be_mended") {
        return Ok(());
    }
    let (cluster, azurite) = (Cluster::shared().await?, Azurite::start_for_others(MACHINE).await?);
    with_namespace(&cluster, "azure-key", async |namespace| {
        let spec = json!({"storage": {"azure": container(&azurite, "to-come")}});
        let registry = ManagedRegistry::create(namespace, "images", spec).await?;
        says(&registry, "ReferenceNotFound", "spec.storage.azure.credentialsSecretRef: ").await?;
        give_key(namespace, "").await?;
        let sentence = "the registry cannot use its bucket: AZURE_STORAGE_KEY is set and empty: ";
        says(&registry, "BucketUnusable", sentence).await?;
        give_key(namespace, "d3Jvbmc=").await?;
        // Azurite calls it a right that is missing; Azure itself, a key that is not accepted.
        says(&registry, "BucketUnusable", "the registry cannot use its bucket: the credentials may not write ").await?;
        give_key(namespace, &azurite::key()).await?;
        let sentence = "the registry cannot use its bucket: there is no bucket to-come: create it, or ";
        says(&registry, "BucketUnusable", sentence).await?;
        azurite.make_container("to-come").await?;
        // Its pod has failed so often by now that the kubelet waits for minutes.
        eventually("the container to be enough", PATIENCE * 2, async || {
            let found = registry.get().await?;
            ensure!(condition(&found, "Ready").is_some_and(|ready| ready.status == "True"), "it is not ready");
            Ok(())
        })
        .await?;
        registry.wait_ready().await?;
        push(&registry.client().await?, "app", "1", &speaking("at last")?).await
    })
    .await
}

/// `spec.storage.azure` for one of the containers.
fn container(azurite: &Azurite, name: &str) -> Value {
    json!({
        "accountName": ACCOUNT,
        "container": name,
        "endpoint": azurite.endpoint(),
        "prefix": "registries/images",
        "credentialsSecretRef": {"name": "account-key"},
    })
}

async fn give_key(namespace: &TempNamespace<'_>, key: &str) -> Result<()> {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "account-key"},
        "stringData": {"AZURE_STORAGE_KEY": key},
    });
    namespace.api::<Secret>().patch("account-key", &PatchParams::apply("e2e").force(), &Patch::Apply(secret)).await?;
    Ok(())
}
