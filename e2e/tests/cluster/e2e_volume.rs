//! A volume grows when its Registry says so and its class lets it.

use anyhow::{Context as _, Result, ensure};
use berth_e2e::cluster::{Cluster, PATIENCE, eventually};
use berth_e2e::managed_registry::{ManagedRegistry, condition};
use berth_e2e::temp_namespace::{TempNamespace, with_namespace};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

#[tokio::test]
async fn a_larger_size_is_asked_of_the_volume_once_its_class_lets_it_grow() -> Result<()> {
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "grow", async |namespace| {
        let classes: Api<StorageClass> = Api::all(namespace.client());
        let class = class_like_the_default(&classes, &namespace.name).await?;
        classes.create(&PostParams::default(), &class).await?;
        let result = grow(namespace, &classes).await;
        classes.delete(&namespace.name, &DeleteParams::default()).await?;
        result
    })
    .await
}

async fn grow(namespace: &TempNamespace<'_>, classes: &Api<StorageClass>) -> Result<()> {
    let class = &namespace.name;
    let spec = json!({"storage": {"persistentVolumeClaim": {"size": "1Gi", "storageClassName": class}}});
    let registry = ManagedRegistry::ready(namespace, "images", spec).await?;
    let larger = json!({"spec": {"storage": {"persistentVolumeClaim": {"size": "2Gi"}}}});
    registry.patch(larger).await?;
    let stalled = registry.wait_for("Stalled", "VolumeResizeRefused").await?;
    ensure!(stalled.message.contains("allowVolumeExpansion"), "{}", stalled.message);
    let ready = registry.get().await?;
    let ready = condition(&ready, "Ready").context("no condition Ready")?;
    ensure!(ready.status == "True", "it stopped serving: {}", ready.message);
    println!("a class that does not let volumes grow: {}", stalled.message);
    nodes_are_told_all_the_same(&registry).await?;

    // As the message says.
    let allow = Patch::Merge(json!({"allowVolumeExpansion": true}));
    classes.patch(class, &PatchParams::default(), &allow).await?;
    eventually("the claim to ask for more", PATIENCE, async || {
        let claim = namespace.api::<PersistentVolumeClaim>().get("images-data").await?;
        let requests = claim.spec.and_then(|spec| spec.resources).and_then(|resources| resources.requests);
        let size = requests.and_then(|mut requests| requests.remove("storage")).context("it asks for nothing")?;
        ensure!(size.0 == "2Gi", "{size:?}");
        ensure!(condition(&registry.get().await?, "Stalled").is_none(), "it is still stalled");
        Ok(())
    })
    .await?;
    println!("the claim asks for 2Gi; that the volume follows is its driver's part, and this cluster's has none");
    Ok(())
}

/// What nodes need does not wait for the volume.
async fn nodes_are_told_all_the_same(registry: &ManagedRegistry<'_>) -> Result<()> {
    registry.patch(json!({"metadata": {"annotations": {"berth.dev/rotate-node-credential": "1"}}})).await?;
    eventually("another credential to be the only one", PATIENCE * 5, async || {
        let nodes = registry.get().await?.status.and_then(|status| status.nodes).context("no status.nodes")?;
        ensure!(nodes.handled_credential_rotation.as_deref() == Some("1"), "{nodes:?}");
        Ok(())
    })
    .await?;
    let found = registry.get().await?;
    ensure!(condition(&found, "Stalled").is_some(), "it is no longer stalled, so this shows nothing");
    Ok(())
}

/// A class of the same volumes as the default one, that does not let them grow.
async fn class_like_the_default(classes: &Api<StorageClass>, name: &str) -> Result<StorageClass> {
    let all = classes.list(&ListParams::default()).await?.items;
    let is_default = |class: &StorageClass| {
        let annotations = class.metadata.annotations.as_ref();
        annotations
            .and_then(|all| all.get("storageclass.kubernetes.io/is-default-class"))
            .is_some_and(|it| it == "true")
    };
    let default = all.into_iter().find(is_default).context("no default StorageClass")?;
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name},
        "provisioner": default.provisioner,
        "parameters": default.parameters,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": default.volume_binding_mode,
        "allowVolumeExpansion": false,
    }))?)
}
