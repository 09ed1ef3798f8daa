//! `watchNamespaces`: the operator has rights in the namespaces that it was given, and says so elsewhere.

use anyhow::{Context as _, Result, ensure};
use berth_e2e::cluster::{Cluster, OPERATOR_NAMESPACE, PATIENCE, eventually, is_own_cluster, run};
use berth_e2e::managed_registry::{ManagedRegistry, light};
use berth_e2e::temp_namespace::{TempNamespace, with_namespace};
use serde_json::json;

#[tokio::test]
async fn a_registry_where_the_operator_has_no_rights_says_which_command_grants_them() -> Result<()> {
    // It takes the operator's rights from everybody else's Registries.
    if !is_own_cluster("a_registry_where_the_operator_has_no_rights_says_which_command_grants_them") {
        return Ok(());
    }
    let cluster = Cluster::alone().await?;
    let result = with_namespace(&cluster, "given", async |given| {
        with_namespace(&cluster, "not-given", async |other| serves_only(given, other).await).await
    })
    .await;
    upgrade("--set-json=watchNamespaces=[]")?;
    result
}

async fn serves_only(given: &TempNamespace<'_>, other: &TempNamespace<'_>) -> Result<()> {
    upgrade(&format!("--set=watchNamespaces={{{}}}", given.name))?;
    has_rights_in(&[&given.name])?;
    let served = ManagedRegistry::ready(given, "images", light()).await?;
    let refused = ManagedRegistry::create(other, "images", light()).await?;
    let stalled = refused.wait_for("Stalled", "NamespaceNotGranted").await?;
    refused.wait_for("Ready", "NamespaceNotGranted").await?;
    let says = format!(
        "the operator has no rights in this namespace; an administrator grants them by the chart's value watchNamespaces, with: helm upgrade berth charts/berth --namespace berth-system --reuse-values --set 'watchNamespaces={{{},{}}}'",
        given.name, other.name
    );
    ensure!(stalled.message == says, "{}", stalled.message);
    let made =
        run("kubectl", &["-n", &other.name, "get", "all,secrets,pvc", "-l", "berth.dev/registry", "-o", "name"])?;
    ensure!(made.is_empty(), "it made {made}");
    println!("not given: {}", stalled.message);

    // Word by word.
    let (_, command) = stalled.message.split_once("with: ").context("no command")?;
    run("sh", &["-c", &format!("{command} --wait --timeout=5m")])?;
    has_rights_in(&[&given.name, &other.name])?;
    refused.wait_ready().await?;
    println!("after that command it was ready");
    goes_on_where_it_may(&served, &refused).await
}

/// Rights that somebody took away in one namespace hold up nobody in another, also when an operator begins.
async fn goes_on_where_it_may(served: &ManagedRegistry<'_>, refused: &ManagedRegistry<'_>) -> Result<()> {
    run("kubectl", &["-n", &refused.namespace.name, "delete", "rolebinding", "berth-registries"])?;
    let operator = ["-n", OPERATOR_NAMESPACE, "rollout"];
    run("kubectl", &[&operator[..], &["restart", "deployment/berth-operator"]].concat())?;
    run("kubectl", &[&operator[..], &["status", "deployment/berth-operator", "--timeout=3m"]].concat())?;
    let ask = json!({"metadata": {"annotations": {"berth.dev/rotate-certificates": "1"}}});
    served.patch(ask).await?;
    eventually("the Registry that may be served to be served", PATIENCE, async || {
        let certificate = served.get().await?.status.and_then(|status| status.certificate).unwrap_or_default();
        ensure!(certificate.handled_certificate_rotation.as_deref() == Some("1"), "{certificate:?}");
        Ok(())
    })
    .await?;
    let stalled = refused.wait_for("Stalled", "Forbidden").await?;
    println!("rights taken away in one namespace: {}; the other went on", stalled.message);
    Ok(())
}

/// The rights on Deployments, Secrets and the like: in these namespaces, and not in the cluster.
fn has_rights_in(namespaces: &[&str]) -> Result<()> {
    let label = "--selector=app.kubernetes.io/instance=berth";
    let everywhere = run("kubectl", &["get", "clusterrolebindings", label, "-o", "name"])?;
    ensure!(!everywhere.contains("berth-registries"), "{everywhere}");
    let columns =
        "jsonpath={range .items[?(@.metadata.name==\"berth-registries\")]}{.metadata.namespace}{\"\\n\"}{end}";
    let bound = run("kubectl", &["get", "rolebindings", "-A", label, "-o", columns])?;
    let mut bound: Vec<&str> = bound.lines().collect();
    bound.sort_unstable();
    let mut expected = namespaces.to_vec();
    expected.sort_unstable();
    ensure!(bound == expected, "{bound:?}");
    Ok(())
}

fn upgrade(change: &str) -> Result<()> {
    let upgrade = ["upgrade", "berth", "charts/berth", "--namespace", OPERATOR_NAMESPACE, "--reuse-values"];
    run("helm", &[&upgrade[..], &[change, "--wait", "--timeout=5m"]].concat()).map(drop)
}
