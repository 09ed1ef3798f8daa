//! Certificates, authorities, credentials and pods are replaced while nodes pull.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use berth_e2e::cluster::{Cluster, PATIENCE, eventually, on_node, own_cluster};
use berth_e2e::http::{Client, nothing};
use berth_e2e::managed_registry::{ManagedRegistry, light};
use berth_e2e::pod::{PullLoop, seconds};
use berth_e2e::push::{push, speaking};
use berth_e2e::temp_namespace::with_namespace;
use http::{Method, StatusCode};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

/// A kubelet brings a changed Secret to its pods within a minute or two.
const PROPAGATION: Duration = Duration::from_secs(300);
/// A new authority is trusted for five minutes before it signs, and a feared credential refused two minutes after pods and
/// nodes have heard of another.
const OVERLAP: Duration = Duration::from_secs(900);

#[tokio::test]
async fn certificate_authority_and_node_credential_rotate_with_no_failed_pull_and_no_rollout() -> Result<()> {
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

    let ask = json!({"berth.dev/rotate-authority": "1", "berth.dev/rotate-node-credential": "1"});
    let (old, feared) = (registry.ca_bundle().await?, node_credential(registry).await?);
    registry.patch(json!({"metadata": {"annotations": ask}})).await?;
    futures::try_join!(authority_replaced(registry, &old), node_credential_refused(registry, feared))?;
    pulls.more(4).await
}

async fn authority_replaced(registry: &ManagedRegistry<'_>, old: &str) -> Result<()> {
    let begun = Instant::now();
    eventually("another authority to be the only one", OVERLAP, async || {
        let bundle = registry.ca_bundle().await?;
        ensure!(!bundle.contains(old.trim()), "the old one is trusted");
        registry.served_certificate().await.map(drop)
    })
    .await?;
    println!("a new authority had replaced the old one after {}", seconds(begun.elapsed()));
    Ok(())
}

async fn node_credential_refused(registry: &ManagedRegistry<'_>, feared: Option<String>) -> Result<()> {
    let begun = Instant::now();
    eventually("the request for a node credential to be fulfilled", OVERLAP, async || {
        let nodes = registry.get().await?.status.and_then(|status| status.nodes).context("no status.nodes")?;
        ensure!(nodes.handled_credential_rotation.as_deref() == Some("1"), "{nodes:?}");
        Ok(())
    })
    .await?;
    println!("the old node credential was refused after {}", seconds(begun.elapsed()));
    let Some(feared) = feared else { return Ok(()) };
    let present = async |credential: &str| {
        let client = Client::plain(registry.address().await?).trusting(&registry.ca_bundle().await?)?;
        client.send(Method::GET, "/v2/", &[("authorization", credential)], nothing()).await
    };
    present(&feared).await?.expect(StatusCode::UNAUTHORIZED)?;
    let current = node_credential(registry).await?.context("no node has a credential")?;
    present(&current).await?.expect(StatusCode::OK).map(drop)
}

/// What a node presents, where it can be looked into.
async fn node_credential(registry: &ManagedRegistry<'_>) -> Result<Option<String>> {
    if own_cluster().is_none() {
        return Ok(None);
    }
    let node = registry.trusted_nodes().await?.into_iter().next().context("no node")?;
    let hosts = on_node(&node, &["cat", &format!("/etc/containerd/certs.d/{}/hosts.toml", registry.host())])?;
    let (_, rest) = hosts.split_once("\"Basic ").context("no credential in hosts.toml")?;
    let credential = rest.split('"').next().unwrap_or_default();
    Ok(Some(format!("Basic {credential}")))
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
        ensure!(registry.admin_secret().await? == lost, "it came back under another name");
        println!("the deleted Secret came back after {}", seconds(begun.elapsed()));
        ensure!(registry.identities().await? == pods, "pods were replaced or restarted");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_pods_mount_comes_back_when_deleted_and_no_pod_is_replaced_for_it() -> Result<()> {
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "mounted", async |namespace| {
        let registry = ManagedRegistry::ready(namespace, "images", light()).await?;
        let (pods, secrets) = (registry.identities().await?, namespace.api::<Secret>());
        let server = async || {
            let found = secrets.list(&ListParams::default()).await?;
            let names = found.items.iter().map(kube::ResourceExt::name_any);
            names.into_iter().find(|name| name.starts_with("images-server-")).context("there is none")
        };
        let lost = server().await?;
        secrets.delete(&lost, &DeleteParams::default()).await?;
        let begun = Instant::now();
        let touch =
            async |at: u64| registry.patch(json!({"metadata": {"annotations": {"test": at.to_string()}}})).await;
        eventually("the deleted Secret to come back", PROPAGATION, async || {
            touch(begun.elapsed().as_secs() / 10).await?;
            ensure!(server().await? == lost, "under another name");
            Ok(())
        })
        .await?;
        println!("the Secret that pods mount came back after {}", seconds(begun.elapsed()));
        registry.wait_ready().await?;
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
