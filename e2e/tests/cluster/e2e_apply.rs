//! Whoever keeps Registries in a repository and applies them again changes nothing, also after the operator has been at them.

use anyhow::{Context as _, Result, ensure};
use berth_e2e::cluster::{Cluster, PATIENCE, eventually, read, run};
use berth_e2e::managed_registry::{ManagedRegistry, condition};
use berth_e2e::temp_namespace::{TempNamespace, with_namespace};
use serde_json::{Value, json};

use crate::admit_registry::accepted;

/// Where Registries are shown.
const PAGES: [&str; 5] =
    ["README.md", "docs/operations.md", "docs/node-agent.md", "docs/security.md", "charts/berth/templates/NOTES.txt"];

#[tokio::test]
async fn a_second_apply_of_every_sample_shows_no_difference_and_changes_nothing() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let samples = samples()?;
    ensure!(samples.len() >= 3, "only {} samples were found", samples.len());
    for sample in &samples {
        with_namespace(&cluster, "sample", async |namespace| {
            let registry = ManagedRegistry { namespace, name: "images" };
            let file = write(namespace, sample.clone())?;
            apply(file.path())?;
            registry.wait_ready().await?;
            stays_the_same(&registry, file.path())
        })
        .await?;
    }
    println!("{} samples of {PAGES:?} applied twice, no difference", samples.len());
    Ok(())
}

#[tokio::test]
async fn a_second_apply_of_every_field_there_is_shows_no_difference_and_changes_nothing() -> Result<()> {
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "fields", async |namespace| {
        for (number, mut spec) in accepted().into_iter().enumerate() {
            // So that what is only here to be read makes no pods.
            spec["suspend"] = json!(true);
            let name = format!("accepted-{number}");
            let registry = ManagedRegistry { namespace, name: &name };
            let sample = json!({"apiVersion": "berth.dev/v1alpha1", "kind": "Registry", "metadata": {"name": name}, "spec": spec});
            let file = write(namespace, sample)?;
            apply(file.path())?;
            eventually("the operator to have looked at it", PATIENCE, async || {
                let found = registry.get().await?;
                ensure!(condition(&found, "Ready").is_some(), "it has no word for it yet");
                ensure!(condition(&found, "Reconciling").is_none(), "it is at it");
                Ok(())
            })
            .await?;
            stays_the_same(&registry, file.path())?;
        }
        println!("{} Registries that write every field applied twice, no difference", accepted().len());
        Ok(())
    })
    .await
}

/// Every Registry that is written out somewhere.
fn samples() -> Result<Vec<Value>> {
    let mut samples = Vec::new();
    for page in PAGES {
        for block in read(page)?.split("apiVersion: berth.dev/v1alpha1").skip(1) {
            // It ends where the code does; in the chart's notes it is indented, and ends with the here-document.
            let end = block.find("```").or_else(|| block.find("END")).unwrap_or(block.len());
            let indent = block.find("kind:").map_or(0, |at| at.saturating_sub(1));
            let lines = block[..end].lines().map(|line| line.get(indent..).unwrap_or_default());
            let text = lines.collect::<Vec<_>>().join("\n");
            let mut sample: Value = serde_yaml::from_str(&text).with_context(|| format!("{page}: {text}"))?;
            sample["apiVersion"] = json!("berth.dev/v1alpha1");
            samples.push(sample);
        }
    }
    Ok(samples)
}

/// A file with the sample, in this namespace.
fn write(namespace: &TempNamespace<'_>, mut sample: Value) -> Result<tempfile::NamedTempFile> {
    sample["metadata"]["namespace"] = json!(namespace.name);
    let file = tempfile::NamedTempFile::with_suffix(".yaml")?;
    std::fs::write(file.path(), serde_yaml::to_string(&sample)?)?;
    Ok(file)
}

fn apply(file: &std::path::Path) -> Result<()> {
    run("kubectl", &["apply", "--server-side", "-f", &file.display().to_string()]).map(drop)
}

fn stays_the_same(registry: &ManagedRegistry<'_>, file: &std::path::Path) -> Result<()> {
    let before = written(registry)?;
    let diff = run("kubectl", &["diff", "--server-side", "-f", &file.display().to_string()])?;
    ensure!(diff.is_empty(), "{diff}");
    apply(file)?;
    let after = written(registry)?;
    ensure!(after == before, "before: {before:#}\nafter: {after:#}");
    Ok(())
}

/// All but the status, which is the operator's: who owns which field since when, and what it says.
fn written(registry: &ManagedRegistry<'_>) -> Result<Value> {
    let get = ["-n", &registry.namespace.name, "get", "registry", registry.name, "-o", "json", "--show-managed-fields"];
    let found: Value = serde_json::from_str(&run("kubectl", &get)?)?;
    let managers = found["metadata"]["managedFields"].as_array().context("no managedFields")?;
    let of_spec: Vec<&Value> = managers.iter().filter(|manager| manager["subresource"] != "status").collect();
    ensure!(of_spec.len() == 1, "somebody else wrote too: {of_spec:?}");
    Ok(json!([of_spec, found["metadata"]["generation"], found["metadata"]["annotations"], found["spec"]]))
}
