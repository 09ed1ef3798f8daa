//! The main job: six lines, and pods pull from the registry on every node that can.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use berth_e2e::cluster::{Cluster, PATIENCE, eventually, own_cluster};
use berth_e2e::managed_registry::{ManagedRegistry, condition};
use berth_e2e::pod::{self, Outcome, seconds};
use berth_e2e::push::{push, speaking};
use berth_e2e::temp_namespace::with_namespace;
use berth_operator::api::Registry;
use berth_operator::api::registry::StorageType;
use http::StatusCode;
use kube::api::PostParams;

#[tokio::test]
async fn six_lines_give_a_registry_that_every_node_with_certs_d_pulls_from() -> Result<()> {
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "six", async |namespace| {
        let begun = Instant::now();
        let six_lines = format!(
            "apiVersion: berth.dev/v1alpha1\n\
             kind: Registry\n\
             metadata: {{name: images, namespace: {}}}\n\
             spec:\n  \
               storage: {{persistentVolumeClaim: {{size: 10Gi}}}}\n",
            namespace.name
        );
        let written: Registry = serde_yaml::from_str(&six_lines)?;
        namespace.api::<Registry>().create(&PostParams::default(), &written).await?;
        let registry = ManagedRegistry { namespace, name: "images" };
        registry.wait_ready().await?;
        println!("six lines to Ready: {}", seconds(begun.elapsed()));

        // Nobody comes in without a password, and TLS is verified by what the status shows.
        let anonymous =
            berth_e2e::http::Client::plain(registry.address().await?).trusting(&registry.ca_bundle().await?)?;
        ensure!(anonymous.get("/v2/").await?.status == StatusCode::UNAUTHORIZED, "it lets anybody in");
        push(&registry.client().await?, "app", "1", &speaking("six lines")?).await?;

        let node = cluster.nodes().await?.into_iter().next().context("no node")?;
        let image = format!("{}/app:1", registry.host());
        eventually("the first pull", PATIENCE, async || {
            let outcome = pod::run(namespace, &node, std::slice::from_ref(&image)).await?;
            ensure!(outcome == Outcome::Ran(vec!["six lines".into()]), "{outcome:?}");
            Ok(())
        })
        .await?;
        println!("six lines to a pod that ran: {}", seconds(begun.elapsed()));

        let status = wait_for_nodes(&registry).await?;
        println!("what the status says of nodes came after {}", seconds(begun.elapsed()));
        let examples = status.nodes.context("no status.nodes")?.examples;
        for node in cluster.nodes().await? {
            let reported = examples.iter().find(|example| example.node == node);
            let outcome = pod::run(namespace, &node, &spellings(&registry)).await?;
            println!("{node}: reported {:?}, a pod {outcome:?}", reported.map_or("Trusted", |example| &example.reason));
            let agrees = match &outcome {
                Outcome::Ran(said) => reported.is_none() && said.iter().all(|words| words == "six lines"),
                Outcome::Refused(_) => reported.is_some(),
            };
            ensure!(agrees, "{node} is reported as {reported:?}, but its pod {outcome:?}");
        }
        Ok(())
    })
    .await
}

/// The names that the nodes know it by.
fn spellings(registry: &ManagedRegistry<'_>) -> Vec<String> {
    let host = registry.host();
    let all =
        [host.clone(), format!("{host}:443"), format!("{host}.cluster.local"), format!("{host}.cluster.local:443")];
    all.into_iter().map(|host| format!("{host}/app:1")).collect()
}

/// The status once it knows of every node, after checking what it says of everything else.
async fn wait_for_nodes(registry: &ManagedRegistry<'_>) -> Result<berth_operator::api::RegistryStatus> {
    let status = eventually("status.nodes to know every node", PATIENCE, async || {
        let status = registry.get().await?.status.context("no status")?;
        let nodes = status.nodes.as_ref().context("no status.nodes")?;
        ensure!(nodes.unknown == 0, "{nodes:?}");
        Ok(status)
    })
    .await?;
    let found = registry.get().await?;
    ensure!(status.observed_generation == found.metadata.generation, "{:?}", status.observed_generation);
    ensure!(status.url == Some(format!("https://{}", registry.host())), "{:?}", status.url);
    ensure!(status.ca_bundle.as_ref().is_some_and(|bundle| bundle.contains("BEGIN CERTIFICATE")), "no caBundle");
    ensure!(status.admin_secret.is_some(), "no adminSecret");
    ensure!(status.replicas == Some(1) && status.ready_replicas == Some(1), "{:?}", status.replicas);
    ensure!(status.version.as_ref().is_some_and(|version| !version.is_empty()), "no version");
    let storage = status.storage.as_ref().context("no storage")?;
    ensure!(storage.type_ == StorageType::PersistentVolumeClaim && storage.capacity.is_some(), "{storage:?}");
    for type_ in ["StorageReady", "CertificateReady"] {
        ensure!(condition(&found, type_).is_some_and(|found| found.status == "True"), "{type_}");
    }
    ensure!(condition(&found, "Stalled").is_none(), "it is stalled");
    if own_cluster().is_some() {
        let nodes = status.nodes.as_ref().context("no status.nodes")?;
        let named: Vec<(&str, &str)> =
            nodes.examples.iter().map(|example| (example.node.as_str(), example.reason.as_str())).collect();
        ensure!((nodes.desired, nodes.trusted, nodes.unsupported) == (3, 2, 1), "{nodes:?}");
        ensure!(named == [("node3", "NoConfigPath")], "{nodes:?}");
    }
    Ok(status)
}
