//! A node agent may write the report of its own node and nothing else, whatever its role lets it do.

use anyhow::{Context as _, Result, bail, ensure};
use berth_e2e::cluster::{Cluster, NODE_NAMESPACE};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

const AGENT: &str = "berth-node-agent";

#[tokio::test]
async fn the_agent_of_one_node_writes_that_nodes_report_and_nothing_else() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let agents = agents(&cluster.client).await?;
    let [(here, pod), (there, _), ..] = agents.as_slice() else { bail!("fewer than two agents: {agents:?}") };
    let agent = cluster.as_bearer(token(&cluster.client, Some(pod)).await?).await?;
    let maps: Api<ConfigMap> = Api::namespaced(agent, NODE_NAMESPACE);
    let (own, other) = (format!("report-{here}"), format!("report-{there}"));
    let only_own = format!("a node agent may only write the report of its own node, {own}");
    let report = json!({"report.json": "{}"});

    // That it may do this shows that the rest is refused for what it is.
    apply(&maps, &own, json!({}), &report).await?;
    for name in [other.as_str(), "host-grants", "registry-0", "anything"] {
        refuses(apply(&maps, name, json!({}), &report).await, &only_own).with_context(|| name.to_owned())?;
    }
    let entry = json!({"berth.dev/node-entry": "true"});
    refuses(apply(&maps, &own, entry, &report).await, "a report is not an entry")?;
    let more = json!({"report.json": "{}", "entry.json": "{}"});
    refuses(apply(&maps, &own, json!({}), &more).await, "a report holds report.json and nothing else")?;
    println!("with the token of {pod}: {own} is taken; six other writes are refused, {other} with: {only_own}");

    // One that is bound to no pod is nobody's on any node.
    let loose = cluster.as_bearer(token(&cluster.client, None).await?).await?;
    let maps: Api<ConfigMap> = Api::namespaced(loose, NODE_NAMESPACE);
    refuses(apply(&maps, &own, json!({}), &report).await, "a node agent may only write the report of its own node")?;
    Ok(())
}

/// Every node with an agent, and the agent's pod.
async fn agents(client: &Client) -> Result<Vec<(String, String)>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NODE_NAMESPACE);
    let ours = ListParams::default().labels("app.kubernetes.io/name=berth,app.kubernetes.io/component=node-agent");
    let node = |pod: &Pod| Some((pod.spec.as_ref()?.node_name.clone()?, pod.name_any()));
    Ok(pods.list(&ours).await?.items.iter().filter_map(node).collect())
}

/// A token as the kubelet gets one for the agent's pod, or one that is bound to none.
async fn token(client: &Client, pod: Option<&str>) -> Result<String> {
    let bound = pod.map(|pod| json!({"apiVersion": "v1", "kind": "Pod", "name": pod}));
    let request = json!({"metadata": {}, "spec": {"audiences": [], "expirationSeconds": 600, "boundObjectRef": bound}});
    let request: TokenRequest = serde_json::from_value(request)?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NODE_NAMESPACE);
    let given = accounts.create_token_request(AGENT, &PostParams::default(), &request).await?;
    Ok(given.status.context("no token")?.token)
}

/// Writes as an agent does, but for show.
async fn apply(maps: &Api<ConfigMap>, name: &str, labels: Value, data: &Value) -> kube::Result<ConfigMap> {
    let map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": data});
    maps.patch(name, &PatchParams::apply("berth-e2e").force().dry_run(), &Patch::Apply(map)).await
}

fn refuses(answer: kube::Result<ConfigMap>, why: &str) -> Result<()> {
    match answer {
        Ok(_) => bail!("it was taken"),
        // An admission policy's, and no role's.
        Err(kube::Error::Api(status)) if status.code == 422 || status.code == 403 => {
            ensure!(status.message.contains(why), "{}", status.message);
            ensure!(status.message.contains("ValidatingAdmissionPolicy"), "{}", status.message);
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
