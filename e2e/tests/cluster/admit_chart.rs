//! The chart with other values than those it is installed with here: what it makes is taken by the API server, and a value
//! that is wrong is refused by its name.

use anyhow::{Context as _, Result, ensure};
use berth_e2e::cluster::{Cluster, OPERATOR_NAMESPACE, fails, run};
use berth_e2e::temp_namespace::with_namespace;
use serde_json::{Value, json};

const CHART: &str = "charts/berth";

#[tokio::test]
async fn the_chart_is_taken_with_every_kind_of_values() -> Result<()> {
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "values", async |namespace| {
        let variants = variants(&namespace.name);
        for (what, values, shows) in &variants {
            let file = tempfile::NamedTempFile::with_suffix(".yaml")?;
            std::fs::write(file.path(), serde_yaml::to_string(values)?)?;
            let values = format!("--values={}", file.path().display());
            run("helm", &["lint", "--strict", CHART, &values]).with_context(|| what.to_string())?;
            let objects = taken(&values).with_context(|| what.to_string())?;
            for text in shows {
                ensure!(objects.contains(text), "{what}: {text:?} is nowhere in\n{objects}");
            }
        }
        println!("{} sets of values, each linted and taken by the API server", variants.len());
        Ok(())
    })
    .await
}

/// What the chart makes of these values, after the API server has taken it for show: all but the test's Pod, which is refused
/// while its ServiceAccount is not there.
fn taken(values: &str) -> Result<String> {
    let namespace = format!("--namespace={OPERATOR_NAMESPACE}");
    let template = |more: &[&str]| run("helm", &[&["template", "berth", CHART, &namespace, values], more].concat());
    for part in [&["--no-hooks"][..], &["--show-only=templates/node-agent-uninstall.yaml"]] {
        let file = tempfile::NamedTempFile::with_suffix(".yaml")?;
        std::fs::write(file.path(), template(part)?)?;
        let apply = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f"];
        run("kubectl", &[&apply[..], &[&file.path().display().to_string()]].concat())?;
    }
    template(&[])
}

/// What is tried, with which values, and what shows that they reached the objects.
fn variants(namespace: &str) -> Vec<(&'static str, Value, Vec<String>)> {
    let digest = format!("sha256:{}", "0".repeat(64));
    let image = json!({"repository": "registry.example:5000/berth", "digest": digest});
    let placed = json!({
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "berth", "effect": "NoSchedule"}],
        "priorityClassName": "system-cluster-critical",
        "podAnnotations": {"example.com/team": "platform"},
    });
    let shows = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
    vec![
        ("nothing set", json!({}), shows(&["image: \"berth-operator:", "kind: DaemonSet"])),
        ("no agent", json!({"nodeAgent": {"enabled": false}}), shows(&["--node-agent=false"])),
        (
            "some namespaces",
            json!({"watchNamespaces": [namespace]}),
            shows(&[&format!("--watch-namespaces={namespace}"), &format!("namespace: {namespace}")]),
        ),
        (
            "granted hosts",
            json!({"hostGrants": [{"host": "docker.io", "namespace": "infra", "registry": "mirror"}, {"host": "r.example", "namespace": "a"}]}),
            shows(&["- host: docker.io", "registry: mirror", "- host: r.example"]),
        ),
        (
            "images by digest",
            json!({"operator": {"image": image}, "registry": {"image": image}, "nodeAgent": {"image": image}, "imagePullSecrets": [{"name": "pull"}]}),
            shows(&[
                &format!("image: \"registry.example:5000/berth@{digest}\""),
                &format!("--registry-image=registry.example:5000/berth@{digest}"),
                "- name: pull",
            ]),
        ),
        ("one operator", json!({"operator": {"replicas": 1}}), shows(&["replicas: 1"])),
        ("five operators", json!({"operator": {"replicas": 5}}), shows(&["replicas: 5", "kind: PodDisruptionBudget"])),
        (
            "placed",
            json!({"operator": placed, "nodeAgent": placed}),
            shows(&["value: berth", "example.com/team: platform", "priorityClassName: system-cluster-critical"]),
        ),
        (
            "other directories, as of k3s",
            json!({"nodeAgent": {"hostConfigDir": "/var/lib/rancher/k3s/agent/etc/containerd", "hostCertsDir": "/var/lib/rancher/k3s/agent/etc/containerd/certs.d"}}),
            shows(&["--certs-dir=/var/lib/rancher/k3s/agent/etc/containerd/certs.d:=/host/certs.d-list"]),
        ),
        ("another domain", json!({"clusterDomain": "corp.example"}), shows(&["--cluster-domain=corp.example"])),
        ("definitions that go", json!({"crds": {"keep": false}}), shows(&["kind: CustomResourceDefinition"])),
        ("forced", json!({"forceUninstall": true}), shows(&["- --force"])),
    ]
}

#[tokio::test]
async fn a_wrong_value_is_refused_by_its_name() -> Result<()> {
    let rows = [
        ("--set=operator.replicas=six", "/operator/replicas"),
        ("--set=operator.replicas=6", "/operator/replicas"),
        ("--set=opertor.replicas=2", "opertor"),
        ("--set=operator.image.pullPolicy=Sometimes", "/operator/image/pullPolicy"),
        ("--set=operator.image.digest=sha256:0", "/operator/image/digest"),
        ("--set=registry.image.digest=latest", "/registry/image/digest"),
        ("--set=watchNamespaces={Team-A}", "/watchNamespaces/0"),
        ("--set=watchNamespaces={a,a}", "/watchNamespaces"),
        ("--set-json=hostGrants=[{\"host\":\"docker.io\"}]", "/hostGrants/0"),
        ("--set-json=hostGrants=[{\"host\":\"docker.io:443\",\"namespace\":\"a\"}]", "/hostGrants/0/host"),
        ("--set=nodeAgent.enabled=perhaps", "/nodeAgent/enabled"),
        ("--set=nodeAgent.hostCertsDir=etc/containerd", "/nodeAgent/hostCertsDir"),
        ("--set=nodeAgent.namespace=berth-system", "nodeAgent.namespace: write another than the release's"),
        ("--set=crds.keep=never", "/crds/keep"),
        ("--set=clusterDomain=", "/clusterDomain"),
    ];
    let namespace = format!("--namespace={OPERATOR_NAMESPACE}");
    for (value, names) in rows {
        let said = fails("helm", &["template", "berth", CHART, &namespace, value])?;
        ensure!(said.contains(names), "{value}: {names} is not in what it says: {said}");
        let line = said.lines().find(|line| line.contains(names)).unwrap_or_default();
        println!("{value}: {}", line.trim());
    }
    Ok(())
}
