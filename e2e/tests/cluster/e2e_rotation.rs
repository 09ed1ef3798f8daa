//! Certificates, authorities and pods are replaced while nodes pull.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use berth_e2e::cluster::{Cluster, PATIENCE, eventually};
use berth_e2e::managed_registry::{ManagedRegistry, light};
use berth_e2e::pod::{PullLoop, seconds};
use berth_e2e::push::{push, speaking};
use berth_e2e::temp_namespace::with_namespace;
use http::StatusCode;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use serde_json::json;

/// A kubelet brings a changed Secret to its pods within a minute or two.
const PROPAGATION: Duration = Duration::from_secs(300);

#[tokio::test]
async fn certificate_and_authority_rotate_with_no_failed_pull_and_no_rollout() -> Result<()> {
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "rotate", async |namespace| {
        let registry = ManagedRegistry::ready(namespace, "images", light()).await?;
        let nodes = registry.trusted_nodes().await?;
        let pods = registry.identities().await?;
        let pulls = PullLoop::default();
        // Nothing that is pulled was there before, and what pushes trusts what the status shows at that moment.
        let fresh = async |number: usize| {
            let tags = [format!("{number}-a"), format!("{number}-b")];
            for tag in &tags {
                push(&registry.client().await?, "app", tag, &speaking(tag)?).await?;
            }
            Ok(tags.map(|tag| format!("{}/app:{tag}", registry.host())).to_vec())
        };
        let rotate = async {
            let result = rotate(&registry, &pulls).await;
            pulls.stop();
            result
        };
        let loops = futures::future::try_join_all(nodes.iter().map(|node| pulls.pull(namespace, node, &fresh)));
        let (rotated, looped) = futures::join!(rotate, loops);
        println!("rotation: {} pulls of new images on {nodes:?}, {} failed", pulls.pulled(), pulls.failed());
        rotated?;
        looped?;
        ensure!(pulls.failed() == 0, "{} pulls failed", pulls.failed());
        ensure!(registry.identities().await? == pods, "pods were replaced or restarted");
        Ok(())
    })
    .await
}

async fn rotate(registry: &ManagedRegistry<'_>, pulls: &PullLoop) -> Result<()> {
    pulls.more(4).await?;
    let first = registry.served_certificate().await?;
    let begun = Instant::now();
    registry.patch(json!({"metadata": {"annotations": {"berth.dev/rotate-certificates": "1"}}})).await?;
    eventually("another certificate to be served", PROPAGATION, async || {
        ensure!(registry.served_certificate().await? != first, "it is the first one");
        Ok(())
    })
    .await?;
    println!("a new certificate was served after {}", seconds(begun.elapsed()));
    let handled = registry.get().await?.status.and_then(|status| status.certificate);
    let handled = handled.and_then(|certificate| certificate.handled_certificate_rotation);
    ensure!(handled.as_deref() == Some("1"), "{handled:?}");
    pulls.more(4).await?;

    let old = registry.ca_bundle().await?;
    let begun = Instant::now();
    registry.patch(json!({"metadata": {"annotations": {"berth.dev/rotate-authority": "1"}}})).await?;
    eventually("another authority to be the only one", PROPAGATION, async || {
        let bundle = registry.ca_bundle().await?;
        ensure!(!bundle.contains(old.trim()), "the old one is trusted");
        registry.served_certificate().await?;
        Ok(())
    })
    .await?;
    println!("a new authority had replaced the old one after {}", seconds(begun.elapsed()));
    pulls.more(4).await
}

#[tokio::test]
async fn a_password_is_replaced_when_asked_and_comes_back_when_deleted() -> Result<()> {
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "password", async |namespace| {
        let registry = ManagedRegistry::ready(namespace, "images", light()).await?;
        let (pods, old) = (registry.identities().await?, registry.client().await?);
        let first = registry.password().await?;
        let begun = Instant::now();
        registry.patch(json!({"metadata": {"annotations": {"berth.dev/rotate-password": "1"}}})).await?;
        eventually("the new password to be let in and the old one not", PROPAGATION, async || {
            ensure!(registry.password().await? != first, "it is the old one");
            registry.client().await?.get("/v2/").await?.expect(StatusCode::OK)?;
            old.get("/v2/").await?.expect(StatusCode::UNAUTHORIZED)?;
            Ok(())
        })
        .await?;
        println!("a new password was let in, and the old one no longer, after {}", seconds(begun.elapsed()));

        let second = registry.password().await?;
        let lost = registry.admin_secret().await?;
        namespace.api::<Secret>().delete(&lost, &DeleteParams::default()).await?;
        // At rest it may take ten minutes to be missed; a Registry that is touched is looked at sooner.
        let begun = Instant::now();
        let touch =
            async |at: u64| registry.patch(json!({"metadata": {"annotations": {"test": at.to_string()}}})).await;
        eventually("the deleted Secret to come back", PROPAGATION, async || {
            touch(begun.elapsed().as_secs() / 10).await?;
            ensure!(registry.password().await? == second, "it is another password");
            Ok(())
        })
        .await?;
        ensure!(registry.admin_secret().await? != lost, "it came back under a name that others know");
        println!("the deleted Secret came back after {}", seconds(begun.elapsed()));
        ensure!(registry.identities().await? == pods, "pods were replaced or restarted");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn pulls_fail_only_while_the_only_pod_is_replaced() -> Result<()> {
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "replace", async |namespace| {
        let spec = json!({"storage": {"persistentVolumeClaim": {"size": "1Gi"}}});
        let registry = ManagedRegistry::ready(namespace, "images", spec).await?;
        let nodes = registry.trusted_nodes().await?;
        let client = registry.client().await?;
        const IMAGES: usize = 150;
        for number in 0..IMAGES {
            push(&client, "app", &number.to_string(), &speaking(&number.to_string())?).await?;
        }
        let pulls = PullLoop::default();
        let next = async |number: usize| Ok(vec![format!("{}/app:{}", registry.host(), number % IMAGES)]);
        let replace = async {
            let result = replace_twice(&registry, &pulls).await;
            pulls.stop();
            result
        };
        // Several at a time, or none would fall into the few seconds.
        let busy = nodes.iter().cycle().take(nodes.len() * 3);
        let loops = futures::future::try_join_all(busy.map(|node| pulls.pull(namespace, node, &next)));
        let (replaced, looped) = futures::join!(replace, loops);
        println!("every one of {} pulls succeeded in the end, {} attempts had failed", pulls.pulled(), pulls.failed());
        let under_way = replaced?;
        looped?;
        let failed = pulls.failed_outside(&under_way);
        ensure!(failed == 0, "{failed} attempts failed of pods that began and ended while a pod served");
        Ok(())
    })
    .await
}

/// Replaces the only pod in either way; returns when it was under way.
async fn replace_twice(registry: &ManagedRegistry<'_>, pulls: &PullLoop) -> Result<[Range<Instant>; 2]> {
    Ok([
        replace(registry, pulls, "told to end", &DeleteParams::default()).await?,
        replace(registry, pulls, "killed", &DeleteParams::default().grace_period(0)).await?,
    ])
}

/// Deletes the only pod while pulls go on, and waits for the next one.
async fn replace(
    registry: &ManagedRegistry<'_>,
    pulls: &PullLoop,
    how: &str,
    delete: &DeleteParams,
) -> Result<Range<Instant>> {
    pulls.more(12).await?;
    let (pulled, failed) = (pulls.pulled(), pulls.failed());
    let pod = registry.pods().await?.into_iter().next().context("no pod")?;
    let begun = Instant::now();
    registry.namespace.api::<Pod>().delete(&pod.name_any(), delete).await?;
    eventually("another pod to serve", PATIENCE, async || {
        let pods = registry.pods().await?;
        ensure!(pods.iter().all(|other| other.uid() != pod.uid()), "the old one is there");
        // One that was killed is gone before its process is, which may answer for a moment.
        ensure!(pods.iter().any(is_ready), "the new one is not ready");
        registry.served_certificate().await
    })
    .await?;
    let after = seconds(begun.elapsed());
    registry.wait_ready().await?;
    let ended = Instant::now();
    pulls.more(12).await?;
    println!(
        "the only pod was {how}, and another served alone after {after}: {} of {} attempts to pull failed",
        pulls.failed() - failed,
        pulls.pulled() - pulled + pulls.failed() - failed
    );
    Ok(begun..ended)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|found| found.type_ == "Ready" && found.status == "True")
}
