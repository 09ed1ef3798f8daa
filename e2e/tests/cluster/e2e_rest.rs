//! At rest nothing is written.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use berth_e2e::audit::{AuditLog, counted};
use berth_e2e::cluster::{Cluster, PATIENCE, eventually, is_own_cluster};
use berth_e2e::managed_registry::{ManagedRegistry, light};
use berth_e2e::pod::seconds;
use berth_e2e::temp_namespace::{TempNamespace, with_namespace};
use serde_json::json;

const REGISTRIES: usize = 20;

#[tokio::test]
async fn twenty_registries_at_rest_cost_no_write() -> Result<()> {
    if !is_own_cluster("twenty_registries_at_rest_cost_no_write") {
        return Ok(());
    }
    // Alone, so that every write of Berth's would be one for nothing.
    let cluster = Cluster::alone().await?;
    // Longer than any interval of operator and agents but that of the handshakes, which is about as long.
    let idle = std::env::var("BERTH_E2E_IDLE_SECONDS").map_or(Ok(300), |seconds| seconds.parse())?;
    with_namespace(&cluster, "rest", async |namespace| {
        let begun = Instant::now();
        make_ready(namespace).await?;
        println!("{REGISTRIES} Registries were ready and known to all nodes after {}", seconds(begun.elapsed()));
        // What was asked for last may still be on its way: the operator looks at the nodes every half minute.
        eventually("the last writes", PATIENCE * 2, async || no_write_within(Duration::from_secs(35)).await).await?;
        println!("they and what other tests left were at rest after {}", seconds(begun.elapsed()));
        no_write_within(Duration::from_secs(idle)).await?;
        println!("{idle} s at rest with {REGISTRIES} Registries: no write of operator and agents but of Leases");
        Ok(())
    })
    .await
}

/// Makes them all, and returns when every node has said what it makes of each, and the statuses tell so.
async fn make_ready(namespace: &TempNamespace<'_>) -> Result<()> {
    let names: Vec<String> = (0..REGISTRIES).map(|number| format!("r{number}")).collect();
    let mut registries = Vec::new();
    for name in &names {
        // Small, for there are many of them on few processors.
        let mut spec = light();
        // A collection may be due just then, and its result is news.
        spec["garbageCollection"] = json!({"suspend": true});
        spec["podTemplate"] = json!({"resources": {"requests": {"cpu": "5m", "memory": "16Mi"}}});
        registries.push(ManagedRegistry::create(namespace, name, spec).await?);
    }
    for registry in &registries {
        registry.wait_ready().await?;
        registry.known_by_nodes().await?;
    }
    Ok(())
}

async fn no_write_within(time: Duration) -> Result<()> {
    let log = AuditLog::from_now()?;
    tokio::time::sleep(time).await;
    let writes = log.writes()?;
    ensure!(writes.is_empty(), "{:?}\n{writes:?}", counted(&writes));
    Ok(())
}
