//! At rest nothing is written.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use berth_e2e::audit::{AuditLog, Write, counted};
use berth_e2e::cluster::{Cluster, NODE_NAMESPACE, PATIENCE, eventually, is_own_cluster};
use berth_e2e::managed_registry::{ManagedRegistry, light};
use berth_e2e::pod::seconds;
use berth_e2e::temp_namespace::with_namespace;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

const REGISTRIES: usize = 20;

#[tokio::test]
async fn twenty_registries_at_rest_cost_no_write() -> Result<()> {
    if !is_own_cluster("twenty_registries_at_rest_cost_no_write") {
        return Ok(());
    }
    let cluster = Cluster::shared().await?;
    let idle = std::env::var("BERTH_E2E_IDLE_SECONDS").map_or(Ok(300), |seconds| seconds.parse())?;
    with_namespace(&cluster, "rest", async |namespace| {
        let names: Vec<String> = (0..REGISTRIES).map(|number| format!("r{number}")).collect();
        let begun = Instant::now();
        let mut uids = Vec::new();
        let mut registries = Vec::new();
        for name in &names {
            // Small, for there are many of them on few processors.
            let mut spec = light();
            spec["podTemplate"] = json!({"resources": {"requests": {"cpu": "5m", "memory": "16Mi"}}});
            registries.push(ManagedRegistry::create(namespace, name, spec).await?);
        }
        for registry in &registries {
            registry.wait_ready().await?;
            uids.push(settled(registry).await?);
        }
        println!("{REGISTRIES} Registries were ready and known to all nodes after {}", seconds(begun.elapsed()));
        // What was asked for last may still be on its way: the operator looks at the nodes every half minute.
        eventually("the last writes", PATIENCE, async || {
            let log = AuditLog::from_now()?;
            tokio::time::sleep(Duration::from_secs(35)).await;
            let writes = ours(&log.writes()?, &namespace.name, &uids);
            ensure!(writes.is_empty(), "{:?}", counted(&writes));
            Ok(())
        })
        .await?;

        let log = AuditLog::from_now()?;
        let reports = changes_of_reports(&cluster, &uids, Duration::from_secs(idle)).await?;
        let all = log.writes()?;
        let writes = ours(&all, &namespace.name, &uids);
        println!("{idle} s at rest with {REGISTRIES} Registries: {} writes for them but Leases", writes.len());
        println!(
            "for Registries of other tests meanwhile: {:?}",
            counted(all.iter().filter(|write| !writes.contains(write)))
        );
        println!("reports of nodes that changed in what they say of the {REGISTRIES}: {reports}");
        ensure!(writes.is_empty(), "{:?}\n{writes:?}", counted(&writes));
        ensure!(reports == 0, "{reports} reports changed");
        Ok(())
    })
    .await
}

/// Returns the uid of a Registry once every node has said what it makes of it, and the status tells so.
async fn settled(registry: &ManagedRegistry<'_>) -> Result<String> {
    eventually("every node to be heard of", PATIENCE, async || {
        let found = registry.get().await?;
        let nodes = found.status.as_ref().and_then(|status| status.nodes.clone()).context("no status.nodes")?;
        ensure!(nodes.unknown == 0, "{nodes:?}");
        found.uid().context("no uid")
    })
    .await
}

/// The writes that are about these Registries: in their namespace, of their entries for nodes and of their keyrings. A report
/// of a node is about all Registries, so those are looked into instead ([`changes_of_reports`]).
fn ours(writes: &[Write], namespace: &str, uids: &[String]) -> Vec<Write> {
    let ours = |write: &&Write| {
        write.namespace == namespace
            || write.name.contains(namespace)
            || uids.iter().any(|uid| write.name.contains(uid.as_str()))
    };
    writes.iter().filter(ours).cloned().collect()
}

/// How often, within `time`, a node's report was written without saying anything new of other Registries than these.
async fn changes_of_reports(cluster: &Cluster, uids: &[String], time: Duration) -> Result<usize> {
    let api: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), NODE_NAMESPACE);
    let config = watcher::Config::default().labels("berth.dev/node-report");
    let mut reports = watcher(api, config).applied_objects().boxed();
    let mut known: BTreeMap<String, (Option<String>, Value)> = BTreeMap::new();
    let mut idle = 0;
    let _ = tokio::time::timeout(time, async {
        while let Some(report) = reports.next().await {
            let Ok(report) = report else { continue };
            let version = report.resource_version();
            let others = of_others(&report, uids);
            let before = known.insert(report.name_any(), (version.clone(), others.clone()));
            // A watch that begins anew tells again what is known.
            idle += usize::from(before.is_some_and(|(was, said)| was != version && said == others));
        }
    })
    .await;
    ensure!(!known.is_empty(), "no node reports");
    Ok(idle)
}

fn of_others(report: &ConfigMap, uids: &[String]) -> Value {
    let text = report.data.as_ref().and_then(|data| data.get("report.json"));
    let mut report: Value = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    if let Some(registries) = report["registries"].as_object_mut() {
        registries.retain(|uid, _| !uids.contains(uid));
    }
    report
}
