//! What stands in a Registry's way has a name, and a word on what to do about it.

use anyhow::{Context as _, Result, ensure};
use berth_e2e::cluster::{Cluster, PATIENCE, eventually, is_own_cluster, on_node, run};
use berth_e2e::managed_registry::{ManagedRegistry, light};
use berth_e2e::temp_namespace::{TempNamespace, with_namespace};
use berth_operator::api::Registry;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Event, PersistentVolume, PersistentVolumeClaim, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

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
async fn a_registry_of_another_definition_that_cannot_be_read_says_so_and_stops_no_other() -> Result<()> {
    // It changes the definition, which everybody's Registries share.
    if !is_own_cluster("a_registry_of_another_definition_that_cannot_be_read_says_so_and_stops_no_other") {
        return Ok(());
    }
    let cluster = Cluster::alone().await?;
    with_namespace(&cluster, "broken", async |namespace| {
        let resource = ApiResource::erase::<Registry>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(namespace.client(), &namespace.name, &resource);
        let schema = run("kubectl", &["get", "crd", DEFINITION, "-o", &format!("jsonpath={{{SCHEMA}}}")])?;
        set_schema(&json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}))?;
        let broken = DynamicObject::new("broken", &resource).data(json!({"spec": {"replicas": "two"}}));
        let made = eventually("the API server to take what its definition no longer refuses", PATIENCE, async || {
            Ok(api.create(&PostParams::default(), &broken).await?)
        })
        .await;
        set_schema(&serde_json::from_str(&schema)?)?;
        made?;
        let says = eventually("the broken one to say so", PATIENCE, async || {
            // The API server takes no status of an object that is not as its definition says.
            let about = ListParams::default().fields("involvedObject.name=broken,reason=InvalidSpec");
            let event = namespace.api::<Event>().list(&about).await?.items.into_iter().next();
            event.and_then(|event| event.message).context("no event")
        })
        .await?;
        println!("a Registry that cannot be read: {says}");
        ManagedRegistry::ready(namespace, "sound", light()).await.map(drop)
    })
    .await
}

const DEFINITION: &str = "registries.berth.dev";
const SCHEMA: &str = ".spec.versions[0].schema.openAPIV3Schema";

fn set_schema(schema: &Value) -> Result<()> {
    let change = json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value": schema}]);
    run("kubectl", &["patch", "crd", DEFINITION, "--type=json", "-p", &change.to_string()]).map(drop)
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
        // The nodes share /tmp.
        let folder = format!("/tmp/{}", namespace.name);
        on_node("node1", &["mkdir", "-m", "0700", &folder])?;
        let stalled = on_a_folder(namespace, &folder).await;
        Api::<PersistentVolume>::all(namespace.client()).delete(&namespace.name, &DeleteParams::default()).await?;
        on_node("node1", &["rmdir", &folder])?;
        println!("an unwritable volume: {}", stalled?.message);
        Ok(())
    })
    .await
}

/// What a Registry says whose volume is this folder of a node.
async fn on_a_folder(namespace: &TempNamespace<'_>, folder: &str) -> Result<Condition> {
    let name = &namespace.name;
    let volume = json!({"metadata": {"name": name}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "none",
        "claimRef": {"namespace": name, "name": "mine"}, "hostPath": {"path": folder, "type": "Directory"}}});
    let volumes: Api<PersistentVolume> = Api::all(namespace.client());
    volumes.create(&PostParams::default(), &serde_json::from_value(volume)?).await?;
    let claim = json!({"metadata": {"name": "mine"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "none", "volumeName": name,
        "resources": {"requests": {"storage": "1Gi"}}}});
    let claims = namespace.api::<PersistentVolumeClaim>();
    claims.create(&PostParams::default(), &serde_json::from_value(claim)?).await?;
    let spec = json!({"storage": {"persistentVolumeClaim": {"existingClaim": "mine"}}});
    ManagedRegistry::create(namespace, "images", spec).await?.wait_for("Stalled", "VolumeNotWritable").await
}

#[tokio::test]
async fn an_image_that_does_not_exist_is_named_with_the_field_to_correct() -> Result<()> {
    const IMAGE: &str = "registry.invalid/berth-registry:none";
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "no-image", async |namespace| {
        let mut spec = light();
        spec["image"] = json!({"repository": "registry.invalid/berth-registry", "tag": "none"});
        let registry = ManagedRegistry::create(namespace, "images", spec).await?;
        let stalled = registry.wait_for("Stalled", "ImagePullFailed").await?;
        let says = format!(
            "the image {IMAGE} cannot be pulled; correct spec.image or its pullSecrets, or make the image available: "
        );
        let why = stalled.message.strip_prefix(&says).with_context(|| stalled.message.clone())?;
        ensure!(why.contains(IMAGE), "it does not repeat what the kubelet said: {why:?}");
        let ready = registry.wait_for("Ready", "ImagePullFailed").await?;
        ensure!(ready.status == "False" && ready.message == stalled.message, "{ready:?}");
        println!("an image that does not exist: {}", stalled.message);
        // As the message says.
        registry.patch(json!({"spec": {"image": null}})).await?;
        registry.wait_ready().await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_cluster_without_a_default_class_is_named_and_the_command_in_the_message_helps() -> Result<()> {
    if !is_own_cluster("a_cluster_without_a_default_class_is_named_and_the_command_in_the_message_helps") {
        return Ok(());
    }
    // Whoever asks for a volume meanwhile would have to wait.
    let cluster = Cluster::alone().await?;
    mark_as_default(false)?;
    let result = with_namespace(&cluster, "no-class", async |namespace| {
        const SAYS: &str = "the cluster has no default StorageClass; create a second Registry with spec.storage.persistentVolumeClaim.storageClassName, or let an administrator mark a class as default: ";
        let spec = json!({"storage": {"persistentVolumeClaim": {"size": "1Gi"}}});
        let registry = ManagedRegistry::create(namespace, "images", spec).await?;
        let stalled = registry.wait_for("Stalled", "NoDefaultStorageClass").await?;
        let advice = stalled.message.strip_prefix(SAYS).with_context(|| stalled.message.clone())?;
        registry.wait_for("StorageReady", "NoDefaultStorageClass").await?;
        registry.wait_for("Ready", "NoDefaultStorageClass").await?;
        println!("no default class: {}", stalled.message);
        // Word by word, on a class that has the annotation with another value.
        run("sh", &["-c", &advice.replace("<name>", CLASS)])?;
        registry.wait_ready().await.map(drop)
    })
    .await;
    mark_as_default(true)?;
    result
}

/// The class that the test cluster's volumes are of unless they say otherwise.
const CLASS: &str = "e2e";

fn mark_as_default(is_default: bool) -> Result<()> {
    let mark = format!("storageclass.kubernetes.io/is-default-class={is_default}");
    run("kubectl", &["annotate", "storageclass", CLASS, &mark, "--overwrite"]).map(drop)
}
