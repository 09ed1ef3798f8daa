//! The chart's whole life: installed, upgraded, asked, refused to go, forced to go, and back under other names.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use berth_e2e::cluster::{Cluster, NODE_NAMESPACE, PATIENCE, eventually, fails, is_own_cluster, on_node, run};
use berth_e2e::managed_registry::{ManagedRegistry, light};
use berth_e2e::temp_namespace::{TempNamespace, with_namespace};
use http::StatusCode;
use serde_json::Value;

use crate::e2e_kubectl::comes_and_goes_by_kubectl;

const CHART: &str = "charts/berth";
const VALUES: &str = "--values=e2e/cluster/values.yaml";
const NAMESPACE: &str = "--namespace=berth-system";
/// A directory that the owner of a node made, beside Berth's.
const FOREIGN: &str = "/etc/containerd/certs.d/foreign.example";

#[tokio::test]
async fn the_chart_installs_upgrades_and_leaves_nothing_but_what_it_must() -> Result<()> {
    // It takes Berth and every Registry away, which nobody's own cluster deserves.
    if !is_own_cluster("the_chart_installs_upgrades_and_leaves_nothing_but_what_it_must") {
        return Ok(());
    }
    let cluster = Cluster::alone().await?;
    let result = lifecycle(&cluster).await;
    restore()?;
    result
}

async fn lifecycle(cluster: &Cluster) -> Result<()> {
    println!("{}", run("helm", &["lint", "--strict", CHART, VALUES])?.trim());
    applies_without_a_difference()?;
    with_namespace(cluster, "chart", async |namespace| {
        let registry = ManagedRegistry::ready(namespace, "images", light()).await?;
        upgrades(&registry).await?;
        cleans_nodes_when_asked(&registry).await?;
        refuses_to_go(namespace)?;
        goes_when_forced(&registry).await?;
        comes_back_under_another_name(&registry).await
    })
    .await?;
    no_registry_is_left(cluster).await?;
    comes_and_goes_by_kubectl(cluster).await?;
    comes_back_on_definitions_that_were_there(cluster).await
}

/// They would go with their definition. Those of finished tests are still on their way.
async fn no_registry_is_left(cluster: &Cluster) -> Result<()> {
    eventually("no Registry to be left", PATIENCE, async || {
        let left = cluster.registries().await?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await
}

/// What the chart makes, twice: the second time changes nothing.
fn applies_without_a_difference() -> Result<()> {
    let rendered = run("helm", &["template", "berth", CHART, VALUES, NAMESPACE, "--no-hooks"])?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("chart.yaml").display().to_string();
    std::fs::write(&file, rendered)?;
    run("kubectl", &["apply", "--dry-run=server", "--validate=strict", "-f", &file])?;
    let apply = ["apply", "--server-side", "--field-manager=helm", "-f", &file];
    run("kubectl", &apply)?;
    let versions = || -> Result<BTreeMap<String, String>> {
        let objects: Value = serde_json::from_str(&run("kubectl", &["get", "-f", &file, "-o", "json"])?)?;
        let objects = objects["items"].as_array().context("no objects")?;
        // Controllers write the status of these; their generation tells of the rest.
        let version = |object: &Value| match object["metadata"]["generation"].as_i64() {
            Some(generation) => format!("generation {generation}"),
            None => object["metadata"]["resourceVersion"].to_string(),
        };
        Ok(objects
            .iter()
            .map(|object| (format!("{} {}", object["kind"], object["metadata"]["name"]), version(object)))
            .collect())
    };
    let before = versions()?;
    run("kubectl", &apply)?;
    ensure!(before == versions()?, "{before:?}\n{:?}", versions()?);
    let diff = ["diff", "--server-side", "--field-manager=helm", "-f", &file];
    ensure!(run("kubectl", &diff)?.is_empty(), "a difference");
    println!("{} objects of the chart applied twice, no difference", before.len());
    Ok(())
}

async fn upgrades(registry: &ManagedRegistry<'_>) -> Result<()> {
    let pods = registry.pod_names().await?;
    let args = ["upgrade", "berth", CHART, NAMESPACE, "--reuse-values", "--set=operator.logLevel=debug", "--wait"];
    run("helm", &[&args[..], &["--timeout=5m"]].concat())?;
    registry.wait_ready().await?;
    ensure!(registry.pod_names().await? == pods, "the upgrade of the operator replaced pods of a Registry");
    let tested = run("helm", &["test", "berth", NAMESPACE, "--logs"])?;
    ensure!(tested.contains(" 0 failed") && !tested.contains(" 0 answered"), "{tested}");
    println!(
        "helm upgrade and helm test: {}",
        tested.lines().filter(|line| line.contains("Regist")).collect::<Vec<_>>().join("; ")
    );
    Ok(())
}

/// As the documentation says: before the agents are switched off.
async fn cleans_nodes_when_asked(registry: &ManagedRegistry<'_>) -> Result<()> {
    let upgrade = |change: &str| {
        let args = ["upgrade", "berth", CHART, NAMESPACE, "--reuse-values", change, "--wait", "--timeout=5m"];
        run("helm", &args).map(drop)
    };
    let rolled_out =
        || run("kubectl", &["-n", NODE_NAMESPACE, "rollout", "status", "daemonset/berth-node-agent", "--timeout=3m"]);
    upgrade("--set=nodeAgent.cleanup=true")?;
    rolled_out()?;
    for node in &registry.namespace.cluster.nodes().await? {
        let found = on_node(node, &["find", "/etc/containerd", "-mindepth", "1"])?;
        let mut found: Vec<&str> = found.lines().collect();
        found.sort_unstable();
        // The node had both before.
        ensure!(found == ["/etc/containerd/certs.d", "/etc/containerd/config.toml"], "{node}: {found:?}");
    }
    registry.wait_for("NodesReady", "AgentDisabled").await?;
    upgrade("--set=nodeAgent.cleanup=false,nodeAgent.enabled=false")?;
    let agents = run("kubectl", &["-n", NODE_NAMESPACE, "get", "daemonsets", "-o", "name", "--ignore-not-found"])?;
    ensure!(agents.is_empty(), "{agents}");
    // Their namespace went with them, and cannot be made again before it is gone.
    run("kubectl", &["wait", "--for=delete", &format!("namespace/{NODE_NAMESPACE}"), "--timeout=2m"])?;
    upgrade("--set=nodeAgent.enabled=true")?;
    rolled_out()?;
    println!(
        "nodeAgent.cleanup left every node as it was; afterwards {:?} pull again",
        registry.trusted_nodes().await?
    );
    Ok(())
}

fn refuses_to_go(namespace: &TempNamespace<'_>) -> Result<()> {
    let said = fails("helm", &["uninstall", "berth", NAMESPACE])?;
    let name = format!("{}/images", namespace.name);
    ensure!(said.contains(&name), "it does not name the Registry: {said}");
    let advice = said.lines().find(|line| line.contains(&name)).unwrap_or_default();
    println!("helm uninstall with a Registry: {advice}");
    // As the advice says.
    let history: Value = serde_json::from_str(&run("helm", &["history", "berth", NAMESPACE, "--output=json"])?)?;
    let revision = history.as_array().and_then(|all| all.last()).context("no revision")?["revision"].to_string();
    run("helm", &["rollback", "berth", &revision, NAMESPACE, "--wait", "--timeout=5m"])?;
    run("kubectl", &["-n", NODE_NAMESPACE, "rollout", "status", "daemonset/berth-node-agent", "--timeout=3m"])?;
    Ok(())
}

async fn goes_when_forced(registry: &ManagedRegistry<'_>) -> Result<()> {
    let nodes = registry.namespace.cluster.nodes().await?;
    for node in &nodes {
        on_node(node, &["mkdir", "-p", FOREIGN])?;
        on_node(node, &["sh", "-c", &format!("echo 'server = \"https://foreign.example\"' > {FOREIGN}/hosts.toml")])?;
    }
    let force = ["upgrade", "berth", CHART, NAMESPACE, "--reuse-values", "--set=forceUninstall=true", "--wait"];
    run("helm", &[&force[..], &["--timeout=5m"]].concat())?;
    run("helm", &["uninstall", "berth", NAMESPACE, "--wait", "--timeout=5m"])?;
    for node in &nodes {
        let found = on_node(node, &["find", "/etc/containerd", "-mindepth", "1"])?;
        let mut found: Vec<&str> = found.lines().collect();
        found.sort_unstable();
        let hosts = format!("{FOREIGN}/hosts.toml");
        let expected = ["/etc/containerd/certs.d", FOREIGN, &hosts, "/etc/containerd/config.toml"];
        ensure!(found == expected, "{node}: {found:?}");
        let foreign = on_node(node, &["cat", &hosts])?;
        ensure!(foreign == "server = \"https://foreign.example\"\n", "{node}: {foreign}");
        on_node(node, &["rm", "-r", FOREIGN])?;
    }
    let left = left_of_release("berth").await?;
    ensure!(left == ["customresourcedefinition.apiextensions.k8s.io/registries.berth.dev"], "{left:?}");
    no_lease_is_left().await?;
    ensure!(registry.keyring().await?.is_some(), "the keys of a living Registry are gone");
    let answer = registry.client().await?.get("/v2/").await?;
    ensure!(answer.status == StatusCode::OK, "the Registry does not serve any more: {}", answer.status);
    println!("forced uninstall left {left:?} and the keyring; nodes are as before; the Registry serves on");
    Ok(())
}

/// Everything that the release made and that is still there, once the garbage collector is done.
pub(crate) async fn left_of_release(release: &str) -> Result<Vec<String>> {
    let label = format!("--selector=app.kubernetes.io/instance={release},app.kubernetes.io/name=berth");
    let kinds = |namespaced: &str| -> Result<String> {
        let kinds = run("kubectl", &["api-resources", "--verbs=list", "-o", "name", namespaced])?;
        // Metrics and events are nobody's.
        let kinds = kinds.lines().filter(|kind| !kind.starts_with("events") && !kind.ends_with(".metrics.k8s.io"));
        Ok(kinds.collect::<Vec<_>>().join(","))
    };
    let (inside, outside) = (kinds("--namespaced=true")?, kinds("--namespaced=false")?);
    let look = || -> Result<Vec<String>> {
        let inside = run("kubectl", &["get", &inside, "-A", &label, "-o", "name", "--ignore-not-found"])?;
        let outside = run("kubectl", &["get", &outside, &label, "-o", "name", "--ignore-not-found"])?;
        Ok(inside.lines().chain(outside.lines()).map(ToOwned::to_owned).collect())
    };
    let few = eventually("the rest of the release to go", PATIENCE, async || {
        let left = look()?;
        ensure!(left.len() <= 1, "{left:?}");
        Ok(left)
    });
    // Whoever asked says what is too much.
    match few.await {
        Ok(left) => Ok(left),
        Err(_) => look(),
    }
}

/// It has no label of the release, whose operator made it: it goes with the ServiceAccount.
async fn no_lease_is_left() -> Result<()> {
    eventually("the Lease to go", PATIENCE, async || {
        let left = run("kubectl", &["get", "leases", NAMESPACE, "-o", "name", "--ignore-not-found"])?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })
    .await
}

async fn comes_back_under_another_name(registry: &ManagedRegistry<'_>) -> Result<()> {
    let password = registry.password().await?;
    let pods = registry.pod_names().await?;
    let install = ["install", "two", CHART, NAMESPACE, VALUES, "--wait", "--timeout=5m"];
    let said = fails("helm", &install)?;
    ensure!(said.contains("registries.berth.dev"), "{said}");
    run("helm", &[&install[..], &["--set=crds.enabled=false"]].concat())?;
    // A change that only a living operator takes up.
    registry.patch(serde_json::json!({"metadata": {"annotations": {"berth.dev/rotate-certificates": "two"}}})).await?;
    eventually("the other release to serve the Registry", PATIENCE, async || {
        let certificate = registry.get().await?.status.and_then(|status| status.certificate).unwrap_or_default();
        ensure!(certificate.handled_certificate_rotation.as_deref() == Some("two"), "{certificate:?}");
        Ok(())
    })
    .await?;
    registry.wait_ready().await?;
    ensure!(registry.password().await? == password, "the password is another");
    ensure!(registry.pod_names().await? == pods, "pods were replaced");
    registry.delete().await?;
    run("helm", &["uninstall", "two", NAMESPACE, "--wait", "--timeout=5m"])?;
    let left = left_of_release("two").await?;
    ensure!(left.is_empty(), "{left:?}");
    no_lease_is_left().await?;
    println!("back as another release with crds.enabled=false: the Registry went on with its pods and its password");
    Ok(())
}

/// `kubectl apply -f crds/` before the chart.
async fn comes_back_on_definitions_that_were_there(cluster: &Cluster) -> Result<()> {
    run("kubectl", &["apply", "-f", "crds/"])?;
    let install = ["install", "berth", CHART, NAMESPACE, "--create-namespace", VALUES, "--wait", "--timeout=5m"];
    fails("helm", &install)?;
    run("helm", &[&install[..], &["--take-ownership"]].concat())?;
    with_namespace(cluster, "owned", async |namespace| {
        let registry = ManagedRegistry::ready(namespace, "images", light()).await?;
        registry.delete().await
    })
    .await?;
    println!("kubectl apply -f crds/, then the chart with --take-ownership: a Registry was ready");
    Ok(())
}

/// The release as `e2e/install` makes it, whatever happened.
fn restore() -> Result<()> {
    let releases: Value = serde_json::from_str(&run("helm", &["list", NAMESPACE, "--output=json"])?)?;
    for release in releases.as_array().into_iter().flatten() {
        let name = release["name"].as_str().unwrap_or_default();
        // One that was refused is "uninstalling" to Helm, which upgrades only a deployed one.
        if name != "berth" || release["status"] != "deployed" {
            run("helm", &["uninstall", name, NAMESPACE, "--no-hooks", "--wait"])?;
        }
    }
    let more = std::env::var("BERTH_HELM_ARGS").unwrap_or_default();
    let more: Vec<&str> = more.split_whitespace().collect();
    let install =
        ["upgrade", "--install", "berth", CHART, NAMESPACE, "--create-namespace", VALUES, "--wait", "--timeout=5m"];
    run("helm", &[&install[..], &["--take-ownership", "--force-conflicts"], &more[..]].concat()).map(drop)
}
