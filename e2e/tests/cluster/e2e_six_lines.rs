//! The main job: six lines, and pods pull from the registry on every node that can.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use berth_e2e::cluster::{Cluster, PATIENCE, eventually, own_cluster};
use berth_e2e::managed_registry::{ManagedRegistry, condition, light};
use berth_e2e::pod::{self, Outcome, Pulled, seconds};
use berth_e2e::push::{push, speaking};
use berth_e2e::temp_namespace::{TempNamespace, with_namespace};
use berth_operator::api::Registry;
use berth_operator::api::registry::{NodesStatus, StorageType};
use http::StatusCode;
use kube::api::PostParams;

/// What the pods say.
const WORDS: &str = "six lines";
/// How long after a Registry is ready every node that can pulls from it, with nothing tried again.
const PROMISE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn six_lines_give_a_registry_that_every_node_with_certs_d_pulls_from() -> Result<()> {
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "six", async |namespace| {
        let begun = Instant::now();
        let registry = six_lines(namespace).await?;
        println!("six lines to Ready: {}", seconds(begun.elapsed()));
        // Nobody comes in without a password, and TLS is verified by what the status shows.
        let anonymous =
            berth_e2e::http::Client::plain(registry.address().await?).trusting(&registry.ca_bundle().await?)?;
        ensure!(anonymous.get("/v2/").await?.status == StatusCode::UNAUTHORIZED, "it lets anybody in");
        push(&registry.client().await?, "app", "1", &speaking(WORDS)?).await?;

        let node = cluster.nodes().await?.into_iter().next().context("no node")?;
        let image = format!("{}/app:1", registry.host());
        eventually("the first pull", PATIENCE, async || {
            let outcome = pod::run(namespace, &node, std::slice::from_ref(&image)).await?;
            ensure!(outcome == Outcome::Ran(vec![WORDS.into()]), "{outcome:?}");
            Ok(())
        })
        .await?;
        println!("six lines to a pod that ran: {}", seconds(begun.elapsed()));

        let nodes = wait_for_nodes(&registry).await?;
        println!("what the status says of nodes came after {}", seconds(begun.elapsed()));
        every_node_does_as_reported(&registry, &nodes).await
    })
    .await
}

#[tokio::test]
async fn half_a_minute_after_a_registry_is_ready_the_first_pull_on_every_node_that_can_succeeds() -> Result<()> {
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "promise", async |namespace| {
        let registry = ManagedRegistry::ready(namespace, "images", light()).await?;
        let ready = Instant::now();
        push(&registry.client().await?, "app", "1", &speaking(WORDS)?).await?;
        tokio::time::sleep(PROMISE.saturating_sub(ready.elapsed())).await;
        let image = [format!("{}/app:1", registry.host())];
        let nodes = cluster.nodes().await?;
        let outcomes = nodes.iter().map(|node| pod::run(namespace, node, &image));
        let outcomes = futures::future::try_join_all(outcomes).await?;
        let trusted = registry.trusted_nodes().await?;
        for (node, outcome) in nodes.iter().zip(outcomes) {
            let expected = trusted.contains(node);
            let ran = outcome == Outcome::Ran(vec![WORDS.into()]);
            ensure!(ran == expected, "{node}, which is {}trusted: {outcome:?}", if expected { "" } else { "not " });
        }
        println!("{PROMISE:?} after Ready the first pull succeeded on {trusted:?}");
        Ok(())
    })
    .await
}

/// The README's, applied and ready.
async fn six_lines<'a>(namespace: &'a TempNamespace<'a>) -> Result<ManagedRegistry<'a>> {
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
    Ok(registry)
}

/// A pod on each node: it runs, by every spelling, where the status says so, and is refused where the status names the node.
async fn every_node_does_as_reported(registry: &ManagedRegistry<'_>, nodes: &NodesStatus) -> Result<()> {
    let (namespace, spellings) = (registry.namespace, spellings(registry));
    for node in namespace.cluster.nodes().await? {
        match nodes.examples.iter().find(|example| example.node == node) {
            None => {
                let Pulled { said, failed } = pod::pull(namespace, &node, &spellings).await?;
                ensure!(said == vec![WORDS; spellings.len()], "{node}: {said:?}");
                println!("{node}: reported Trusted, a pod ran by {} spellings after {failed} failed pulls", said.len());
            }
            Some(example) => {
                let outcome = pod::run(namespace, &node, &spellings).await?;
                ensure!(matches!(outcome, Outcome::Refused(_)), "{example:?}, but its pod {outcome:?}");
                println!("{node}: reported {}, a pod {outcome:?}", example.reason);
            }
        }
    }
    Ok(())
}

/// The names that the nodes know it by.
fn spellings(registry: &ManagedRegistry<'_>) -> Vec<String> {
    let host = registry.host();
    let all =
        [host.clone(), format!("{host}:443"), format!("{host}.cluster.local"), format!("{host}.cluster.local:443")];
    all.into_iter().map(|host| format!("{host}/app:1")).collect()
}

/// What the status says of nodes once it knows of every one, after checking what it says of everything else.
async fn wait_for_nodes(registry: &ManagedRegistry<'_>) -> Result<NodesStatus> {
    let nodes = registry.known_by_nodes().await?;
    let found = registry.get().await?;
    let status = found.status.as_ref().context("no status")?;
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
        let named: Vec<(&str, &str)> =
            nodes.examples.iter().map(|example| (example.node.as_str(), example.reason.as_str())).collect();
        ensure!((nodes.desired, nodes.trusted, nodes.unsupported) == (3, 2, 1), "{nodes:?}");
        ensure!(named == [("node3", "NoConfigPath")], "{nodes:?}");
    }
    Ok(nodes)
}
