//! What stands in a Registry's way has a name, and a word on what to do about it.

use anyhow::{Context as _, Result, ensure};
use berth_e2e::cluster::{Cluster, PATIENCE, eventually, is_own_cluster, on_node};
use berth_e2e::managed_registry::{ManagedRegistry, light};
use berth_e2e::temp_namespace::with_namespace;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Service};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

#[tokio::test]
async fn a_service_that_is_somebody_elses_is_left_alone_and_named() -> Result<()> {
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "foreign", async |namespace| {
        let services = namespace.api::<Service>();
        let foreign =
            json!({"metadata": {"name": "images"}, "spec": {"ports": [{"port": 80}], "selector": {"app": "other"}}});
        let foreign = services.create(&PostParams::default(), &serde_json::from_value(foreign)?).await?;
        let registry = ManagedRegistry::create(namespace, "images", light()).await?;
        let stalled = registry.wait_for("Stalled", "AdoptionConflict").await?;
        ensure!(stalled.message.contains("images"), "{}", stalled.message);
        let ready = registry.wait_for("Ready", "AdoptionConflict").await?;
        ensure!(ready.status == "False", "it is ready");
        ensure!(services.get("images").await? == foreign, "it was changed");
        println!("a foreign Service: {}", stalled.message);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_others_change_is_put_right() -> Result<()> {
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "drift", async |namespace| {
        let registry = ManagedRegistry::ready(namespace, "images", light()).await?;
        let (deployments, maps) = (namespace.api::<Deployment>(), namespace.api::<ConfigMap>());
        let bundle = maps.get("images-ca").await?.data;
        let scale = Patch::Merge(json!({"spec": {"replicas": 0}}));
        deployments.patch("images", &PatchParams::default(), &scale).await?;
        let spoil = Patch::Merge(json!({"data": {"ca.crt": "nonsense"}}));
        maps.patch("images-ca", &PatchParams::default(), &spoil).await?;
        namespace.api::<Service>().delete("images", &DeleteParams::default()).await?;
        eventually("all three to be put right", PATIENCE, async || {
            let replicas = deployments.get("images").await?.spec.and_then(|spec| spec.replicas);
            ensure!(replicas == Some(1), "{replicas:?} replicas");
            ensure!(maps.get("images-ca").await?.data == bundle, "the bundle is another");
            namespace.api::<Service>().get("images").await?;
            Ok(())
        })
        .await?;
        // An apply only adds: beside the port that was renumbered, ours of the same name is refused.
        let services = namespace.api::<Service>();
        let renumber = json!({"spec": {"ports": [{"name": "https", "port": 444, "targetPort": "registry"}]}});
        services.patch("images", &PatchParams::default(), &Patch::Merge(renumber)).await?;
        eventually("the port to be put right", PATIENCE, async || {
            let ports = services.get("images").await?.spec.and_then(|spec| spec.ports).unwrap_or_default();
            let ports: Vec<i32> = ports.into_iter().map(|port| port.port).collect();
            ensure!(ports == [443], "{ports:?}");
            Ok(())
        })
        .await?;
        // The new Service has another address, so there is another certificate.
        eventually("it to be served at its new address", PATIENCE * 2, async || registry.served_certificate().await)
            .await?;
        registry.wait_ready().await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_registry_that_cannot_be_read_does_not_stop_others() -> Result<()> {
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "broken", async |namespace| {
        // The definition's formats are hints to the API server, and a number may be too large for us.
        let mut broken = light();
        broken["podTemplate"] = json!({"topologySpreadConstraints": [{
            "maxSkew": 3_000_000_000_u32, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}]});
        let written = json!({"apiVersion": "berth.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "broken"}, "spec": broken});
        let resource = kube::api::ApiResource::erase::<berth_operator::api::Registry>(&());
        let api: Api<kube::api::DynamicObject> = Api::namespaced_with(namespace.client(), &namespace.name, &resource);
        if let Err(kube::Error::Api(refused)) = api.create(&PostParams::default(), &serde_json::from_value(written)?).await {
            println!("SKIPPED in part: the API server takes nothing that the operator cannot read: {}", refused.message);
        } else {
            eventually("the broken one to say so", PATIENCE, async || {
                let found = api.get("broken").await?;
                let conditions = found.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
                let stalled = conditions.iter().find(|condition| condition["type"] == "Stalled").context("not stalled")?;
                ensure!(stalled["reason"] == "InvalidSpec", "{stalled}");
                println!("a broken Registry: {}", stalled["message"]);
                Ok(())
            })
            .await?;
        }
        ManagedRegistry::ready(namespace, "sound", light()).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_claim_that_is_missing_is_named_and_waited_for() -> Result<()> {
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "claim", async |namespace| {
        let spec = json!({"storage": {"persistentVolumeClaim": {"existingClaim": "mine"}}});
        let registry = ManagedRegistry::create(namespace, "images", spec).await?;
        let stalled = registry.wait_for("Stalled", "ClaimNotFound").await?;
        ensure!(stalled.message.contains("mine"), "{}", stalled.message);
        registry.wait_for("StorageReady", "ClaimNotFound").await?;
        println!("a missing claim: {}", stalled.message);
        let claim = json!({"metadata": {"name": "mine"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        namespace
            .api::<PersistentVolumeClaim>()
            .create(&PostParams::default(), &serde_json::from_value(claim)?)
            .await?;
        registry.wait_ready().await?;
        registry.delete().await?;
        let claim = namespace.api::<PersistentVolumeClaim>().get("mine").await?;
        ensure!(claim.metadata.deletion_timestamp.is_none(), "it was deleted");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_volume_that_cannot_be_written_to_is_named() -> Result<()> {
    let cluster = Cluster::shared().await?;
    if !is_own_cluster("a_volume_that_cannot_be_written_to_is_named") {
        return Ok(());
    }
    with_namespace(&cluster, "readonly", async |namespace| {
        let name = &namespace.name;
        // The nodes share /tmp.
        let folder = format!("/tmp/{name}");
        on_node("node1", &["mkdir", "-m", "0700", &folder])?;
        let volumes: Api<PersistentVolume> = Api::all(namespace.client());
        let volume = json!({"metadata": {"name": name}, "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "none",
            "claimRef": {"namespace": name, "name": "mine"}, "hostPath": {"path": folder, "type": "Directory"}}});
        volumes.create(&PostParams::default(), &serde_json::from_value(volume)?).await?;
        let claim = json!({"metadata": {"name": "mine"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "none", "volumeName": name,
            "resources": {"requests": {"storage": "1Gi"}}}});
        namespace
            .api::<PersistentVolumeClaim>()
            .create(&PostParams::default(), &serde_json::from_value(claim)?)
            .await?;
        let spec = json!({"storage": {"persistentVolumeClaim": {"existingClaim": "mine"}}});
        let registry = ManagedRegistry::create(namespace, "images", spec).await?;
        let stalled = registry.wait_for("Stalled", "VolumeNotWritable").await;
        if stalled.is_ok() {
            volumes.delete(name, &DeleteParams::default()).await?;
            on_node("node1", &["rmdir", &folder])?;
        }
        println!("an unwritable volume: {}", stalled?.message);
        Ok(())
    })
    .await
}
