//! What nothing refers to goes by itself, and the status says so.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use berth_e2e::cluster::{Cluster, PATIENCE, eventually};
use berth_e2e::http::Client;
use berth_e2e::image::Manifest;
use berth_e2e::managed_registry::{ManagedRegistry, condition};
use berth_e2e::pod::{self, seconds};
use berth_e2e::push::{push, speaking};
use berth_e2e::temp_namespace::{TempNamespace, with_namespace};
use http::StatusCode;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use serde_json::json;

/// The shortest there is.
const GRACE: Duration = Duration::from_secs(300);

#[tokio::test]
async fn what_nothing_refers_to_is_collected_beside_pulls_and_the_status_says_how_much() -> Result<()> {
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "garbage", async |namespace| {
        let spec = json!({
            "storage": {"persistentVolumeClaim": {"size": "1Gi"}},
            "garbageCollection": {"schedule": "* * * * *", "grace": "5m", "untagged": "Delete"},
        });
        let registry = ManagedRegistry::ready(namespace, "images", spec).await?;
        let client = registry.client().await?;
        let (first, second, other) = (speaking("first")?, speaking("second")?, speaking("other")?);
        let pushed = Instant::now();
        // The tag moves on, and another image is deleted. Both share the program with what stays.
        for image in [&first, &second] {
            push(&client, "app", "latest", image).await?;
        }
        push(&client, "other", "1", &other).await?;
        let deleted = client.delete(&format!("/v2/other/manifests/{}", other.digest)).await?;
        deleted.expect(StatusCode::ACCEPTED)?;
        is_all_there(&client, "app", &first).await?;

        eventually("the garbage to go", GRACE + PATIENCE * 3, async || {
            // At rest the operator asks the pods every ten minutes; a change makes it ask now.
            registry
                .patch(json!({"metadata": {"annotations": {"example.com/look": seconds(pushed.elapsed())}}}))
                .await?;
            tokio::time::sleep(Duration::from_secs(5)).await;
            let found = registry.get().await?;
            let collected = condition(&found, "GarbageCollected").context("no condition GarbageCollected")?;
            ensure!(collected.status == "True" && collected.reason == "Collected", "{}", collected.message);
            let status = found.status.and_then(|status| status.garbage_collection).context("no garbageCollection")?;
            ensure!(status.error.is_none() && status.left_alone.is_empty(), "{status:?}");
            // The untagged image and what only it held; what only the deleted one held, and its link to the program.
            is_gone(&client, "app", &first).await?;
            is_gone(&client, "other", &other).await?;
            ensure!(!events(namespace).await?.is_empty(), "no event told of it");
            Ok(())
        })
        .await?;
        ensure!(pushed.elapsed() > GRACE, "it went before its grace was over");
        is_all_there(&client, "app", &second).await?;
        println!("after {}: {}", seconds(pushed.elapsed()), events(namespace).await?.join("; "));
        let node = registry.trusted_nodes().await?.into_iter().next().context("no node")?;
        let pulled = pod::pull(namespace, &node, &[format!("{}/app:latest", registry.host())]).await?;
        ensure!(pulled.said == ["second"], "{:?}", pulled.said);
        Ok(())
    })
    .await
}

async fn is_all_there(client: &Client, repository: &str, image: &Manifest) -> Result<()> {
    client.get(&format!("/v2/{repository}/manifests/{}", image.digest)).await?.expect(StatusCode::OK)?;
    for blob in &image.blobs {
        let got = client.get(&format!("/v2/{repository}/blobs/{}", blob.digest)).await?.expect(StatusCode::OK)?;
        ensure!(got.body == blob.bytes, "{} is another", blob.digest);
    }
    Ok(())
}

/// The manifest, and every blob that is its own.
async fn is_gone(client: &Client, repository: &str, image: &Manifest) -> Result<()> {
    let manifest = format!("/v2/{repository}/manifests/{}", image.digest);
    client.get(&manifest).await?.expect(StatusCode::NOT_FOUND)?;
    let program = &image.blobs.iter().max_by_key(|blob| blob.bytes.len()).context("no blob")?.digest;
    for blob in image.blobs.iter().filter(|blob| blob.digest != *program) {
        client.head(&format!("/v2/{repository}/blobs/{}", blob.digest)).await?.expect(StatusCode::NOT_FOUND)?;
    }
    Ok(())
}

async fn events(namespace: &TempNamespace<'_>) -> Result<Vec<String>> {
    let events = namespace.api::<Event>().list(&ListParams::default()).await?.items;
    let collected = events.into_iter().filter(|event| event.reason.as_deref() == Some("GarbageCollected"));
    Ok(collected.filter_map(|event| event.note).collect())
}
