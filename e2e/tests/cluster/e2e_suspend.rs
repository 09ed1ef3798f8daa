//! A suspended Registry is left as it is, and what was written meanwhile is applied when it goes on.

use anyhow::{Context as _, Result, ensure};
use berth_e2e::argocd;
use berth_e2e::cluster::{Cluster, PATIENCE, eventually};
use berth_e2e::managed_registry::{ManagedRegistry, condition, light};
use berth_e2e::temp_namespace::{TempNamespace, with_namespace};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

#[tokio::test]
async fn what_is_written_while_suspended_is_applied_when_it_goes_on_and_not_before() -> Result<()> {
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "suspend", async |namespace| {
        let registry = ManagedRegistry::ready(namespace, "images", light()).await?;
        let (before, certificate) = (versions(namespace).await?, registry.served_certificate().await?);
        registry.patch(json!({"spec": {"suspend": true, "logLevel": "debug"}})).await?;
        has_been_looked_at(&registry).await?;
        // Neither a changed wish, nor what others spoil, nor a rotation.
        let spoil = Patch::Merge(json!({"data": {"ca.crt": "nonsense"}}));
        namespace.api::<ConfigMap>().patch("images-ca", &PatchParams::default(), &spoil).await?;
        let more = json!({"metadata": {"annotations": {"berth.dev/rotate-certificates": "1"}},
            "spec": {"logLevel": "trace", "drainTimeout": "61s"}});
        registry.patch(more).await?;
        has_been_looked_at(&registry).await?;
        ensure!(versions(namespace).await? == before, "an object was changed");
        ensure!(bundle(namespace).await? == "nonsense", "what others spoilt was put right");
        ensure!(registry.served_certificate().await? == certificate, "a certificate was issued");
        says_that_it_is_suspended(&registry).await?;

        registry.patch(json!({"spec": {"suspend": false}})).await?;
        eventually("all of it to be applied", PATIENCE, async || {
            let config = namespace.api::<ConfigMap>().get("images-config").await?.data.unwrap_or_default();
            ensure!(config.values().any(|file| file.contains("trace")), "{config:?}");
            ensure!(bundle(namespace).await? == registry.ca_bundle().await?, "the bundle is spoilt");
            let handled = registry.get().await?.status.and_then(|status| status.certificate);
            let handled = handled.and_then(|certificate| certificate.handled_certificate_rotation);
            ensure!(handled.as_deref() == Some("1"), "{handled:?}");
            Ok(())
        })
        .await?;
        registry.wait_ready().await?;
        println!("suspended: three wishes, a rotation and a spoilt object left alone; applied when it went on");
        Ok(())
    })
    .await
}

/// Returns when the operator has seen what was written last.
async fn has_been_looked_at(registry: &ManagedRegistry<'_>) -> Result<()> {
    eventually("the operator to look", PATIENCE, async || {
        let found = registry.get().await?;
        let seen = found.status.and_then(|status| status.observed_generation);
        ensure!(seen == found.metadata.generation, "{seen:?} of {:?}", found.metadata.generation);
        Ok(())
    })
    .await
}

/// It is neither at work nor in need of a human, and Argo CD shows it as what it is.
async fn says_that_it_is_suspended(registry: &ManagedRegistry<'_>) -> Result<()> {
    let found = registry.get().await?;
    for type_ in ["Reconciling", "Stalled"] {
        ensure!(condition(&found, type_).is_none(), "it is {type_}");
    }
    let says = condition(&found, "Suspended").context("no condition Suspended")?;
    ensure!(says.status == "True", "{says:?}");
    let health = argocd::health(&serde_json::to_value(&found)?)?;
    ensure!(health.status == "Suspended", "{health:?}");
    let conditions = found.status.unwrap_or_default().conditions;
    let says = conditions.iter().map(|found| format!("{}={} {}", found.type_, found.status, found.reason));
    println!("suspended, it says {:?}", says.collect::<Vec<_>>());
    Ok(())
}

/// What the operator last wrote of the objects that a change would reach. Others write their status.
async fn versions(namespace: &TempNamespace<'_>) -> Result<(Option<i64>, Value)> {
    let deployment = namespace.api::<Deployment>().get("images").await?;
    let config = namespace.api::<ConfigMap>().get("images-config").await?;
    Ok((deployment.metadata.generation, json!([config.metadata.resource_version, config.data])))
}

async fn bundle(namespace: &TempNamespace<'_>) -> Result<String> {
    let mut data = namespace.api::<ConfigMap>().get("images-ca").await?.data.unwrap_or_default();
    data.remove("ca.crt").context("no ca.crt")
}
