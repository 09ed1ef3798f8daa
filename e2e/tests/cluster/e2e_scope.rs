//! `watchNamespaces`: the operator has rights in the namespaces that it was given, and says so elsewhere.

use anyhow::{Context as _, Result, ensure};
use berth_e2e::cluster::{Cluster, OPERATOR_NAMESPACE, is_own_cluster, run};
use berth_e2e::managed_registry::{ManagedRegistry, light};
use berth_e2e::temp_namespace::{TempNamespace, with_namespace};

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
    ManagedRegistry::ready(given, "images", light()).await?;
    let refused = ManagedRegistry::create(other, "images", light()).await?;
    let stalled = refused.wait_for("Stalled", "NamespaceNotGranted").await?;
    refused.wait_for("Ready", "NamespaceNotGranted").await?;
    let says = format!(
        "the operator has no rights in this namespace; an administrator grants them with: helm upgrade berth charts/berth --namespace berth-system --reuse-values --set 'watchNamespaces={{{},{}}}'",
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
