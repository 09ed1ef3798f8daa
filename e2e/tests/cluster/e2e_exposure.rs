//! A Registry is reached from outside: by a load balancer, and under a certificate of the user's own.

use anyhow::{Context as _, Result, ensure};
use berth_e2e::certificate::ServingCertificate;
use berth_e2e::cluster::{Cluster, PATIENCE, eventually};
use berth_e2e::managed_registry::{ManagedRegistry, condition, light};
use berth_e2e::pod::{self, Outcome};
use berth_e2e::push::{push, speaking};
use berth_e2e::temp_namespace::{TempNamespace, with_namespace};
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

/// The time in which a kubelet brings a changed Secret to its pods, and more.
const PROPAGATION: std::time::Duration = std::time::Duration::from_secs(300);

#[tokio::test]
async fn what_a_load_balancer_is_given_is_in_the_certificate() -> Result<()> {
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "balancer", async |namespace| {
        let mut spec = light();
        spec["service"] = json!({
            "type": "LoadBalancer",
            "loadBalancerClass": "example.com/none",
            "annotations": {"example.com/scheme": "internal"},
        });
        let registry = ManagedRegistry::ready(namespace, "images", spec).await?;
        let services = namespace.api::<Service>();
        let service = services.get("images").await?;
        let made = service.spec.clone().context("no spec")?;
        ensure!(made.type_.as_deref() == Some("LoadBalancer"), "{:?}", made.type_);
        ensure!(made.load_balancer_class.as_deref() == Some("example.com/none"), "{:?}", made.load_balancer_class);
        ensure!(service.annotations().get("example.com/scheme").is_some_and(|scheme| scheme == "internal"));

        // No cloud is here, so the test says what a cloud's controller would.
        let given = Patch::Merge(json!({"status": {"loadBalancer": {"ingress": [
            {"ip": "192.0.2.7"}, {"hostname": "registry.balancer.example"}]}}}));
        services.patch_status("images", &PatchParams::default(), &given).await?;
        let bundle = registry.ca_bundle().await?;
        for name in ["192.0.2.7", "registry.balancer.example"] {
            eventually(&format!("a certificate for {name}"), PROPAGATION, async || {
                registry.served_as(name, &bundle).await
            })
            .await?;
        }
        registry.served_certificate().await?;
        let after = services.get("images").await?.spec.context("no spec")?;
        ensure!(after.ports == made.ports, "the ports moved: {:?}, then {:?}", made.ports, after.ports);
        println!("LoadBalancer: its address and its name are certified, and the node ports stayed");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_certificate_of_the_users_is_served_under_its_names_and_ours_to_nodes() -> Result<()> {
    const NAME: &str = "registry.company.example";
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "own-tls", async |namespace| {
        let mut spec = light();
        spec["tls"] = json!({"secretRef": {"name": "company"}});
        let registry = ManagedRegistry::create(namespace, "images", spec).await?;
        let stalled = registry.wait_for("Stalled", "ReferenceNotFound").await?;
        ensure!(stalled.message.contains("spec.tls.secretRef"), "{}", stalled.message);
        println!("no such Secret: {}", stalled.message);

        let first = ServingCertificate::new(NAME)?;
        let secret = json!({"metadata": {"name": "company"}, "type": "kubernetes.io/tls", "stringData": files(&first)});
        namespace.api::<Secret>().create(&PostParams::default(), &serde_json::from_value(secret)?).await?;
        registry.wait_ready().await?;
        let pods = registry.pod_names().await?;
        let theirs = registry.served_as(NAME, &first.authority).await?;
        let ours = registry.served_certificate().await?;
        ensure!(theirs != ours, "both are the same");
        pulls(namespace, &registry).await?;

        let second = ServingCertificate::new(NAME)?;
        let change = Patch::Merge(json!({"stringData": files(&second)}));
        namespace.api::<Secret>().patch("company", &PatchParams::default(), &change).await?;
        eventually("the second certificate to be served", PROPAGATION, async || {
            registry.served_as(NAME, &second.authority).await
        })
        .await?;
        ensure!(registry.served_certificate().await? == ours, "the change reached ours");
        ensure!(registry.pod_names().await? == pods, "pods were replaced");
        ensure!(condition(&registry.get().await?, "Stalled").is_none(), "it is stalled");
        println!("tls.secretRef: served by its name, renewed in place; nodes pull with ours");
        Ok(())
    })
    .await
}

async fn pulls(namespace: &TempNamespace<'_>, registry: &ManagedRegistry<'_>) -> Result<()> {
    push(&registry.client().await?, "app", "1", &speaking("own tls")?).await?;
    let node = namespace.cluster.nodes().await?.into_iter().next().context("no node")?;
    eventually("a pull", PATIENCE, async || {
        let outcome = pod::run(namespace, &node, &[format!("{}/app:1", registry.host())]).await?;
        ensure!(outcome == Outcome::Ran(vec!["own tls".into()]), "{outcome:?}");
        Ok(())
    })
    .await
}

fn files(certificate: &ServingCertificate) -> Value {
    json!({"tls.crt": certificate.chain, "tls.key": certificate.key})
}
