//! Registries on a bucket, over TLS from an authority that only the Registry names: several pods and no volume, images that are
//! still there when the Registry was not, and what is wrong with a bucket in the conditions.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use berth_e2e::audit::AuditLog;
use berth_e2e::certificate::ServingCertificate;
use berth_e2e::cluster::{Cluster, MACHINE, PATIENCE, eventually, is_own_cluster, run};
use berth_e2e::managed_registry::{ManagedRegistry, condition};
use berth_e2e::pod::{self, Pulled};
use berth_e2e::port::free_port;
use berth_e2e::push::{push, speaking};
use berth_e2e::s3_server::{ACCESS_KEY, BUCKET, S3Program, S3Server, SECRET_KEY};
use berth_e2e::temp_namespace::{TempNamespace, with_namespace};
use berth_operator::api::registry::{StorageStatus, StorageType};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod, Secret};
use kube::ResourceExt as _;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::e2e_replicas::{has_a_budget, loses_no_pull};

#[tokio::test]
async fn two_pods_on_a_bucket_lose_no_pull_and_another_registry_on_it_finds_the_images() -> Result<()> {
    if !is_own_cluster("two_pods_on_a_bucket_lose_no_pull_and_another_registry_on_it_finds_the_images") {
        return Ok(());
    }
    let (cluster, store) = (Cluster::shared().await?, Store::start(S3Program::Minio)?);
    with_namespace(&cluster, "bucket", async |namespace| {
        store.give_authority(namespace).await?;
        store.give_key(namespace, SECRET_KEY).await?;
        let spec = json!({"replicas": 2, "storage": {"s3": store.bucket(BUCKET)}});
        let registry = ManagedRegistry::ready(namespace, "images", spec.clone()).await?;
        let nodes: BTreeSet<_> = registry.pods().await?.into_iter().filter_map(|pod| pod.spec?.node_name).collect();
        ensure!(nodes.len() == 2, "both pods are on {nodes:?}");
        status_says(&registry, honoured(true)).await?;
        has_a_budget(namespace).await?;
        loses_no_pull(&registry).await?;
        a_restart_replaces_the_pods(&registry).await?;

        push(&registry.client().await?, "app", "kept", &speaking("kept")?).await?;
        // The bucket is nobody's to delete, whatever the policy.
        registry.patch(json!({"spec": {"deletionPolicy": "Delete"}})).await?;
        registry.delete().await?;
        let registry = ManagedRegistry::ready(namespace, "again", spec).await?;
        let node = registry.trusted_nodes().await?.into_iter().next().context("no node")?;
        let Pulled { said, .. } = pod::pull(namespace, &node, &[format!("{}/app:kept", registry.host())]).await?;
        ensure!(said == ["kept"], "{said:?}");
        println!("a pod on {node} ran an image that a deleted Registry had left in the bucket");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_access_key_that_is_wrong_is_said_so_without_a_write_at_rest_and_mended_in_its_secret() -> Result<()> {
    if !is_own_cluster("an_access_key_that_is_wrong_is_said_so_without_a_write_at_rest_and_mended_in_its_secret") {
        return Ok(());
    }
    let (cluster, store) = (Cluster::shared().await?, Store::start(S3Program::Versitygw)?);
    with_namespace(&cluster, "bucket-key", async |namespace| {
        let spec = json!({"storage": {"s3": store.bucket(BUCKET)}});
        let registry = ManagedRegistry::create(namespace, "images", spec).await?;
        says(&registry, "ReferenceNotFound", "spec.storage.s3.caBundle.configMapKeyRef: ").await?;
        store.give_authority(namespace).await?;
        says(&registry, "ReferenceNotFound", "spec.storage.s3.credentialsSecretRef: ").await?;
        store.give_key(namespace, "wrong-secret").await?;
        let sentence = "the registry cannot use its bucket: the secret is not that of the access key: ";
        registry.wait_for("Reconciling", "BucketUnusable").await?;
        says(&registry, "BucketUnusable", sentence).await?;
        registry.wait_for("StorageReady", "BucketUnusable").await?;
        eventually("an event that says so", PATIENCE, async || {
            let about = ListParams::default().fields("involvedObject.name=images,reason=BucketUnusable");
            let event = namespace.api::<Event>().list(&about).await?.items.into_iter().next().context("no event")?;
            ensure!(event.message.as_deref().is_some_and(|note| note.starts_with(sentence)), "{event:?}");
            Ok(())
        })
        .await?;
        is_at_rest_while_the_pod_fails(&registry).await?;
        store.give_key(namespace, SECRET_KEY).await?;
        eventually("the right key to be enough", PATIENCE * 2, async || {
            let found = registry.get().await?;
            ensure!(condition(&found, "Stalled").is_none(), "it is stalled");
            ensure!(condition(&found, "Ready").is_some_and(|ready| ready.status == "True"), "it is not ready");
            Ok(())
        })
        .await?;
        says_what_its_pod_found(&registry).await
    })
    .await
}

#[tokio::test]
async fn an_endpoint_that_is_wrong_can_be_corrected_and_a_bucket_that_is_missing_is_waited_for() -> Result<()> {
    if !is_own_cluster("an_endpoint_that_is_wrong_can_be_corrected_and_a_bucket_that_is_missing_is_waited_for") {
        return Ok(());
    }
    let (cluster, store) = (Cluster::shared().await?, Store::start(S3Program::Minio)?);
    with_namespace(&cluster, "no-bucket", async |namespace| {
        store.give_authority(namespace).await?;
        store.give_key(namespace, SECRET_KEY).await?;
        let mut spec = json!({"storage": {"s3": store.bucket("to-come")}});
        spec["storage"]["s3"]["endpoint"] = json!(format!("https://{MACHINE}:{}", free_port(MACHINE)?));
        let registry = ManagedRegistry::create(namespace, "images", spec).await?;
        let sentence = "the registry cannot use its bucket: the store of the bucket to-come cannot be asked to write: ";
        says(&registry, "BucketUnusable", sentence).await?;
        registry.patch(json!({"spec": {"storage": {"s3": {"endpoint": store.server.endpoint()}}}})).await?;
        let sentence = "the registry cannot use its bucket: there is no bucket to-come: create it, or ";
        says(&registry, "BucketUnusable", sentence).await?;
        store.server.make_bucket("to-come")?;
        registry.wait_ready().await?;
        push(&registry.client().await?, "app", "1", &speaking("at last")?).await
    })
    .await
}

#[tokio::test]
async fn the_younger_of_two_registries_in_one_place_says_so_and_both_serve_the_same_images() -> Result<()> {
    if !is_own_cluster("the_younger_of_two_registries_in_one_place_says_so_and_both_serve_the_same_images") {
        return Ok(());
    }
    let (cluster, store) = (Cluster::shared().await?, Store::start(S3Program::Minio)?);
    with_namespace(&cluster, "one-place", async |namespace| {
        store.give_authority(namespace).await?;
        store.give_key(namespace, SECRET_KEY).await?;
        let mut spec = json!({"storage": {"s3": store.bucket(BUCKET)}});
        let elder = ManagedRegistry::ready(namespace, "elder", spec.clone()).await?;
        spec["garbageCollection"] = json!({"grace": "48h"});
        let younger = ManagedRegistry::ready(namespace, "younger", spec).await?;
        let said = younger.wait_for("StorageShared", "GraceDiffers").await?;
        ensure!(said.status == "True" && said.message.contains("the Registry elder is older"), "{said:?}");
        younger.patch(json!({"spec": {"garbageCollection": null}})).await?;
        younger.wait_for("StorageShared", "SamePlace").await?;
        ensure!(condition(&elder.get().await?, "StorageShared").is_none(), "the elder one says so too");
        push(&elder.client().await?, "app", "1", &speaking("shared")?).await?;
        let client = younger.client().await?;
        client.get("/v2/app/manifests/1").await?.expect(http::StatusCode::OK)?;
        println!("StorageShared: {}", said.message);
        Ok(())
    })
    .await
}

/// A store on this machine, and the authority of its certificate.
struct Store {
    server: S3Server,
    authority: String,
}

impl Store {
    fn start(program: S3Program) -> Result<Self> {
        let certificate = ServingCertificate::new(&MACHINE.to_string())?;
        let server = S3Server::start_for_others(program, MACHINE, &certificate)?;
        Ok(Self { server, authority: certificate.authority })
    }

    /// `spec.storage.s3` for one of its buckets.
    fn bucket(&self, name: &str) -> Value {
        json!({
            "bucket": name,
            "endpoint": self.server.endpoint(),
            "prefix": "registries/images",
            "credentialsSecretRef": {"name": "bucket-key", "accessKeyIDKey": "id"},
            "caBundle": {"configMapKeyRef": {"name": "bucket-authority"}},
        })
    }

    async fn give_authority(&self, namespace: &TempNamespace<'_>) -> Result<()> {
        let map = json!({"metadata": {"name": "bucket-authority"}, "data": {"ca.crt": self.authority}});
        namespace.api::<ConfigMap>().create(&PostParams::default(), &serde_json::from_value(map)?).await?;
        Ok(())
    }

    async fn give_key(&self, namespace: &TempNamespace<'_>, secret: &str) -> Result<()> {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bucket-key"},
            "stringData": {"id": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": secret},
        });
        let ours = PatchParams::apply("e2e").force();
        namespace.api::<Secret>().patch("bucket-key", &ours, &Patch::Apply(secret)).await?;
        Ok(())
    }
}

/// What the status says of [`BUCKET`].
fn honoured(conditional_overwrite: bool) -> Option<StorageStatus> {
    Some(StorageStatus {
        type_: StorageType::S3,
        claim_name: None,
        capacity: None,
        bucket: Some(BUCKET.into()),
        account_name: None,
        container: None,
        prefix: Some("registries/images".into()),
        conditional_overwrite: Some(conditional_overwrite),
    })
}

/// Returns once the status says that of the storage: it hears of it from the pods, which may be ready before.
async fn status_says(registry: &ManagedRegistry<'_>, expected: Option<StorageStatus>) -> Result<()> {
    eventually("the status to say what the pods found", PATIENCE, async || {
        let said = registry.storage().await?;
        ensure!(said == expected, "{said:?}");
        Ok(())
    })
    .await
}

/// Returns once `Stalled` and `Ready` give this reason, in a message that begins so.
pub(crate) async fn says(registry: &ManagedRegistry<'_>, reason: &str, beginning: &str) -> Result<()> {
    let said = eventually(&format!("{reason}: {beginning}"), PATIENCE, async || {
        let found = registry.get().await?;
        let said = |type_: &str| condition(&found, type_).cloned().with_context(|| format!("no condition {type_}"));
        let (stalled, ready) = (said("Stalled")?, said("Ready")?);
        ensure!(stalled.reason == reason && stalled.message.starts_with(beginning), "{}", stalled.message);
        ensure!(ready.status == "False" && ready.message == stalled.message, "{ready:?}");
        Ok(stalled.message)
    })
    .await?;
    println!("{reason}: {said}");
    Ok(())
}

/// Shows that an attempt that fails like the one before it changes nothing.
async fn is_at_rest_while_the_pod_fails(registry: &ManagedRegistry<'_>) -> Result<()> {
    let restarts = async || Ok::<i32, anyhow::Error>(registry.identities().await?.iter().map(|pod| pod.1).sum());
    // What was asked for last may still be on its way: the operator looks at the nodes every half minute.
    tokio::time::sleep(Duration::from_secs(35)).await;
    let (log, before) = (AuditLog::from_now()?, restarts().await?);
    eventually("another attempt", PATIENCE, async || {
        ensure!(restarts().await? > before, "no other yet");
        Ok(())
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut writes = log.writes()?;
    writes.retain(|write| write.namespace == registry.namespace.name);
    ensure!(writes.is_empty(), "{writes:?}");
    println!("attempts of the pod {before} to {}: no write", restarts().await?);
    Ok(())
}

/// Shows that the status says of the store what the pod logged of it.
async fn says_what_its_pod_found(registry: &ManagedRegistry<'_>) -> Result<()> {
    let pod = registry.pod_names().await?.into_iter().next().context("no pod")?;
    let log = registry.namespace.api::<Pod>().logs(&pod, &Default::default()).await?;
    let ignores = log.contains("the store ignores the condition of a write");
    status_says(registry, honoured(!ignores)).await.context(log)?;
    let reason = if ignores { "OverwritesUnconditional" } else { "Probed" };
    let finding = registry.wait_for("StorageReady", reason).await?;
    ensure!(finding.status == "True", "{finding:?}");
    println!("{reason}: {}", finding.message);
    Ok(())
}

/// The restart that documents recommend after a change of the key is not undone by the operator.
async fn a_restart_replaces_the_pods(registry: &ManagedRegistry<'_>) -> Result<()> {
    let before: BTreeSet<_> = registry.pods().await?.iter().map(kube::ResourceExt::uid).collect();
    let namespace = registry.namespace.name.as_str();
    run("kubectl", &["-n", namespace, "rollout", "restart", "deployment/images"])?;
    run("kubectl", &["-n", namespace, "rollout", "status", "deployment/images", "--timeout=3m"])?;
    registry.wait_ready().await?;
    let mut pods = registry.pods().await?;
    pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    ensure!(pods.len() == 2 && pods.iter().all(|pod| !before.contains(&pod.uid())), "pods of before serve");
    Ok(())
}
