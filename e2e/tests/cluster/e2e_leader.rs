//! One operator leads. Told to end, it hands over; and each tells how it is doing.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use berth_e2e::cluster::{Cluster, OPERATOR_NAMESPACE, PATIENCE, eventually, is_own_cluster, read};
use berth_e2e::http::Client;
use berth_e2e::managed_registry::{ManagedRegistry, light};
use berth_e2e::pod::seconds;
use berth_e2e::temp_namespace::{TempNamespace, with_namespace};
use futures::StreamExt as _;
use http::StatusCode;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::json;

#[tokio::test]
async fn a_leader_that_is_told_to_end_hands_over_and_nothing_waits_for_its_lease_to_lapse() -> Result<()> {
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "leader", async |namespace| {
        let holders = Holders::watched(&cluster);
        let (old, pod) = leader(&cluster).await?;
        let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), OPERATOR_NAMESPACE);
        let begun = Instant::now();
        pods.delete(&pod, &DeleteParams::default()).await?;
        let registry = ManagedRegistry::create(namespace, "between", light()).await?;
        let new = eventually("another leader", PATIENCE, async || {
            let (holder, _) = leader(&cluster).await?;
            ensure!(holder != old, "it is the old one");
            Ok(holder)
        })
        .await?;
        println!("after {} {new} led instead of {old}", seconds(begun.elapsed()));
        registry.wait_ready().await?;
        println!("a Registry made in between was ready after {}", seconds(begun.elapsed()));
        // A lease that lapsed would go from one name to the next.
        let seen = holders.seen();
        ensure!(seen == [old, String::new(), new], "{seen:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_operator_tells_what_its_documentation_names_and_nothing_else() -> Result<()> {
    // It asks pods by their addresses.
    if !is_own_cluster("an_operator_tells_what_its_documentation_names_and_nothing_else") {
        return Ok(());
    }
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "metrics", async |namespace| {
        ManagedRegistry::ready(namespace, "images", light()).await?;
        let documented = documented()?;
        eventually("a leader that has written and put right", PATIENCE, async || {
            spoil(namespace).await?;
            let told = of_leader(&cluster).await?;
            let families: BTreeSet<String> = told.lines().filter_map(family).collect();
            ensure!(families == documented, "told: {families:?}\ndocumented: {documented:?}");
            let value = |line: &str| told.lines().find_map(|told| told.strip_prefix(line)?.trim().parse::<f64>().ok());
            ensure!(value("berth_operator_leader") == Some(1.0), "the leader says that it does not lead");
            ensure!(value("berth_operator_registries") >= Some(1.0), "it knows of no Registry");
            for counter in [
                "berth_operator_reconciliations_total{result=\"ok\"}",
                "berth_operator_reconcile_seconds_count",
                "berth_operator_writes_total{kind=\"Deployment\"}",
                "berth_operator_drift_corrections_total{kind=\"ConfigMap\"}",
            ] {
                ensure!(value(counter) >= Some(1.0), "{counter}: {:?}", value(counter));
            }
            println!("the leader tells {}", families.iter().cloned().collect::<Vec<_>>().join(", "));
            Ok(())
        })
        .await
    })
    .await
}

/// Who has led, as the Lease says, since this was made; the empty name is nobody's.
struct Holders(Arc<Mutex<Vec<String>>>);

impl Holders {
    fn watched(cluster: &Cluster) -> Self {
        let config = watcher::Config::default().fields("metadata.name=berth-operator");
        let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), OPERATOR_NAMESPACE);
        let seen = Arc::new(Mutex::new(Vec::<String>::new()));
        let into = Arc::clone(&seen);
        tokio::spawn(watcher(leases, config).applied_objects().for_each(move |lease| {
            if let Ok(lease) = lease {
                let holder = holder(&lease).to_owned();
                let mut seen = into.lock().unwrap_or_else(PoisonError::into_inner);
                if seen.last() != Some(&holder) {
                    seen.push(holder);
                }
            }
            std::future::ready(())
        }));
        Self(seen)
    }

    fn seen(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

/// Who leads, and the name of its pod.
async fn leader(cluster: &Cluster) -> Result<(String, String)> {
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), OPERATOR_NAMESPACE);
    let holder = holder(&leases.get("berth-operator").await?).to_owned();
    let (pod, _) = holder.rsplit_once('-').context("nobody leads")?;
    let pod = pod.to_owned();
    Ok((holder, pod))
}

/// What somebody else changes is put right, and counted.
async fn spoil(namespace: &TempNamespace<'_>) -> Result<()> {
    let spoil = Patch::Merge(json!({"data": {"ca.crt": "nonsense"}}));
    namespace.api::<ConfigMap>().patch("images-ca", &PatchParams::default(), &spoil).await?;
    Ok(())
}

/// `/metrics` of the leader, after checking that those who stand by answer and know that they do not lead.
async fn of_leader(cluster: &Cluster) -> Result<String> {
    let (_, leader) = leader(cluster).await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), OPERATOR_NAMESPACE);
    let ours = ListParams::default().labels("app.kubernetes.io/name=berth,app.kubernetes.io/component=operator");
    let mut of_leader = None;
    for pod in pods.list(&ours).await?.items {
        let ip = pod.status.and_then(|status| status.pod_ip).context("a pod without an address")?;
        let client = Client::plain(SocketAddr::new(ip.parse()?, 8080));
        let answer = client.get("/metrics").await?.expect(StatusCode::OK)?;
        let told = String::from_utf8(answer.body.to_vec())?;
        match pod.metadata.name {
            Some(name) if name == leader => of_leader = Some(told),
            name => ensure!(told.contains("\nberth_operator_leader 0\n"), "{name:?}, which stands by:\n{told}"),
        }
    }
    of_leader.context("the leader's pod is not there")
}

/// The families that `docs/operations.md` names.
fn documented() -> Result<BTreeSet<String>> {
    let text = read("docs/operations.md")?;
    let (_, section) = text.split_once("## Metrics").context("no section on metrics")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let words = section.split('`').skip(1).step_by(2);
    let names = words.map(|word| word.split('{').next().unwrap_or_default());
    let names = names.filter(|name| name.starts_with("berth_operator_") || name.starts_with('_'));
    let whole = |name: &str| match name.strip_prefix('_') {
        Some(rest) => format!("berth_operator_{rest}"),
        None => name.to_owned(),
    };
    Ok(names.map(whole).collect())
}

/// The family that a line of `/metrics` is a sample of, by its documented name.
fn family(line: &str) -> Option<String> {
    let name = line.split(['{', ' ']).next().filter(|name| name.starts_with("berth_operator_"))?;
    let of_histogram = ["_bucket", "_count", "_sum"].iter().find_map(|part| name.strip_suffix(part));
    Some(of_histogram.unwrap_or(name).to_owned())
}
