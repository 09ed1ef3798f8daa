//! The commands of `docs/operations.md` for clusters without Helm's releases, word by word; and what it shows of Argo CD.

use anyhow::{Context as _, Result, ensure};
use berth_e2e::cluster::{Cluster, OPERATOR_NAMESPACE, on_node, read, run};
use berth_e2e::managed_registry::{ManagedRegistry, light};
use berth_e2e::temp_namespace::with_namespace;
use berth_e2e::workspace;
use serde_json::Value;

use crate::e2e_chart::left_of_release;

#[tokio::test]
async fn the_chart_takes_the_values_of_the_application_for_argo_cd() -> Result<()> {
    let page = read("docs/operations.md")?;
    let section = page.split("\n## Argo CD\n").nth(1).context("no section on Argo CD")?;
    let yaml = section.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).context("no Application")?;
    let application: Value = serde_yaml::from_str(yaml)?;
    let spec = &application["spec"];
    let file = tempfile::NamedTempFile::with_suffix(".yaml")?;
    std::fs::write(file.path(), serde_yaml::to_string(&spec["source"]["helm"]["valuesObject"])?)?;
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned).context("no text");
    let namespace = format!("--namespace={}", text(&spec["destination"]["namespace"])?);
    let (name, path) = (text(&application["metadata"]["name"])?, text(&spec["source"]["path"])?);
    let made = run("helm", &["template", &name, &path, &namespace, &format!("--values={}", file.path().display())])?;
    for image in ["operator", "registry"] {
        ensure!(made.contains(&format!("registry.example.com/berth-{image}:")), "{image}");
    }
    Ok(())
}

/// Berth comes and goes by `kubectl`. It must not be there before, and is not there afterwards.
pub(crate) async fn comes_and_goes_by_kubectl(cluster: &Cluster) -> Result<()> {
    let (folder, nodes) = (tempfile::tempdir()?, cluster.nodes().await?);
    std::os::unix::fs::symlink(workspace().join("charts"), folder.path().join("charts"))?;
    std::fs::copy(workspace().join("e2e/cluster/values.yaml"), folder.path().join("values.yaml"))?;
    let page = read("docs/operations.md")?;
    let section = page.split("\n## kubectl alone\n").nth(1).context("no section on kubectl")?;
    let blocks: Vec<&str> = section.split("```\n").collect();
    let [_, install, _, dry_run, _, remove, ..] = blocks.as_slice() else {
        anyhow::bail!("not three blocks: {section}")
    };
    let script = |commands: &str| format!("set -eu; cd '{}'\n{commands}", folder.path().display());

    let before = files(&nodes)?;
    run("kubectl", &["delete", "namespace", OPERATOR_NAMESPACE, "--ignore-not-found"])?;
    run("sh", &["-c", &script(dry_run)])?;
    run("sh", &["-c", &script(install)])?;
    with_namespace(cluster, "kubectl", async |namespace| {
        let registry = ManagedRegistry::ready(namespace, "images", light()).await?;
        registry.known_by_nodes().await?;
        refuses_to_go(script, remove, &namespace.name)?;
        registry.known_by_nodes().await?;
        registry.delete().await
    })
    .await?;
    run("sh", &["-c", &script(remove)])?;
    let after = files(&nodes)?;
    ensure!(after == before, "before: {before:?}\nafter: {after:?}");
    let left = left_of_release("berth").await?;
    ensure!(left.is_empty(), "{left:?}");
    println!(
        "helm template | kubectl apply: a Registry was ready; removed by kubectl, nothing was left, nodes included"
    );
    Ok(())
}

/// What every node has beside its containerd's configuration.
fn files(nodes: &[String]) -> Result<Vec<String>> {
    nodes.iter().map(|node| on_node(node, &["find", "/etc/containerd", "-mindepth", "1"])).collect()
}

/// While a Registry exists nothing is removed, and it is named.
fn refuses_to_go(script: impl Fn(&str) -> String, remove: &str, namespace: &str) -> Result<()> {
    let (before, _) = remove.split_once("kubectl -n berth-system wait").context("no wait")?;
    run("sh", &["-c", &script(before)])?;
    let check = "job/berth-uninstall-check";
    run("kubectl", &["-n", OPERATOR_NAMESPACE, "wait", check, "--for=condition=Failed", "--timeout=3m"])?;
    let said = run("kubectl", &["-n", OPERATOR_NAMESPACE, "logs", check])?;
    ensure!(said.contains(&format!("{namespace}/images")), "it does not name the Registry: {said}");
    run("sh", &["-c", &script("kubectl delete -f uninstall.yaml")]).map(drop)
}
