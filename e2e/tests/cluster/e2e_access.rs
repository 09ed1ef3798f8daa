//! Who comes in: nodes that are told nothing, and users of the user's own.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use berth_e2e::cluster::{Cluster, NODE_NAMESPACE, PATIENCE, eventually, on_node, own_cluster};
use berth_e2e::http::Client;
use berth_e2e::managed_registry::{ManagedRegistry, condition, light};
use berth_e2e::pod::{self, Outcome, seconds};
use berth_e2e::push::{push, speaking};
use berth_e2e::temp_namespace::{TempNamespace, with_namespace};
use http::StatusCode;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

/// A kubelet brings a changed Secret to its pods within a minute or two.
const PROPAGATION: Duration = Duration::from_secs(300);

#[tokio::test]
async fn nodes_that_may_not_pull_are_told_no_credential_and_pods_bring_their_own() -> Result<()> {
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "no-nodes", async |namespace| {
        let mut spec = light();
        spec["access"] = json!({"nodes": "None"});
        let registry = ManagedRegistry::ready(namespace, "images", spec).await?;
        push(&registry.client().await?, "app", "1", &speaking("mine alone")?).await?;
        let node = registry.trusted_nodes().await?.into_iter().next().context("no node")?;
        tells_no_credential(&registry, &node).await?;
        let image = [format!("{}/app:1", registry.host())];
        let outcome = pod::run(namespace, &node, &image).await?;
        let Outcome::Refused(why) = &outcome else { bail!("a pod {outcome:?} without a credential") };
        // By the Registry, whose certificate the node trusts.
        ensure!(["401", "authorization failed"].iter().any(|sign| why.contains(sign)), "{why}");
        println!("access.nodes: None, a pod on {node} was refused: {why}");
        let found = registry.get().await?;
        let says = condition(&found, "NodesReady").context("no condition NodesReady")?;
        println!("what the status says of nodes: {} {}: {}", says.status, says.reason, says.message);

        pods_bring_their_own(namespace, &registry).await?;
        // The API server may take a moment to give a new pod what its ServiceAccount has.
        eventually("a pull with the Secret", PATIENCE, async || {
            let outcome = pod::run(namespace, &node, &image).await?;
            ensure!(outcome == Outcome::Ran(vec!["mine alone".into()]), "{outcome:?}");
            Ok(())
        })
        .await?;
        println!("with a pull Secret a pod on {node} ran");
        Ok(())
    })
    .await
}

/// Nodes have an entry, for they shall trust the certificate, and nothing to pull with.
async fn tells_no_credential(registry: &ManagedRegistry<'_>, node: &str) -> Result<()> {
    let client = registry.namespace.client();
    let name = format!("registry-{}", registry.get().await?.uid().context("no uid")?);
    Api::<ConfigMap>::namespaced(client.clone(), NODE_NAMESPACE).get(&name).await?;
    let secret = Api::<Secret>::namespaced(client, NODE_NAMESPACE).get_opt(&name).await?;
    ensure!(secret.is_none(), "nodes were given a credential");
    if own_cluster().is_some() {
        let file = format!("/etc/containerd/certs.d/{}/hosts.toml", registry.host());
        let hosts = on_node(node, &["cat", &file])?;
        ensure!(hosts.contains("server = ") && !hosts.contains("Authorization"), "{hosts}");
    }
    Ok(())
}

/// As the documentation says: by a pull Secret, here of the pods' ServiceAccount.
async fn pods_bring_their_own(namespace: &TempNamespace<'_>, registry: &ManagedRegistry<'_>) -> Result<()> {
    let auth = BASE64.encode(format!("admin:{}", registry.password().await?));
    let config = json!({"auths": {registry.host(): {"auth": auth}}}).to_string();
    let secret = json!({"metadata": {"name": "pull"}, "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": config}});
    namespace.api::<Secret>().create(&PostParams::default(), &serde_json::from_value(secret)?).await?;
    let accounts = namespace.api::<ServiceAccount>();
    let pulls = Patch::Merge(json!({"imagePullSecrets": [{"name": "pull"}]}));
    eventually("the namespace's ServiceAccount", PATIENCE, async || {
        Ok(accounts.patch("default", &PatchParams::default(), &pulls).await?)
    })
    .await
    .map(drop)
}

#[tokio::test]
async fn users_of_an_htpasswd_secret_come_in_and_a_changed_one_is_in_force_without_a_rollout() -> Result<()> {
    let cluster = Cluster::shared().await?;
    with_namespace(&cluster, "htpasswd", async |namespace| {
        let mut spec = light();
        spec["access"] = json!({"htpasswd": {"secretRef": {"name": "users"}}});
        let registry = ManagedRegistry::create(namespace, "images", spec).await?;
        let stalled = registry.wait_for("Stalled", "ReferenceNotFound").await?;
        let says = "spec.access.htpasswd.secretRef: there is no Secret users in this namespace; create it with the key htpasswd, an htpasswd file with bcrypt hashes";
        ensure!(stalled.message == says, "{}", stalled.message);
        println!("no such Secret: {}", stalled.message);

        let secret = json!({"metadata": {"name": "users"}, "stringData": {"htpasswd": line("ann", "first")?}});
        namespace.api::<Secret>().create(&PostParams::default(), &serde_json::from_value(secret)?).await?;
        registry.wait_ready().await?;
        let admin = registry.get().await?.status.and_then(|status| status.admin_secret);
        ensure!(admin.is_none(), "there is a generated user beside them: {admin:?}");
        answers(&registry, "ann", "first", StatusCode::OK).await?;
        answers(&registry, "ann", "second", StatusCode::UNAUTHORIZED).await?;
        push(&client(&registry, "ann", "first").await?, "app", "1", &speaking("ann's")?).await?;

        let (pods, begun) = (registry.identities().await?, Instant::now());
        let users = format!("{}{}", line("ann", "second")?, line("bob", "third")?);
        let change = Patch::Merge(json!({"stringData": {"htpasswd": users}}));
        namespace.api::<Secret>().patch("users", &PatchParams::default(), &change).await?;
        eventually("the changed Secret to be in force", PROPAGATION, async || {
            answers(&registry, "ann", "first", StatusCode::UNAUTHORIZED).await?;
            answers(&registry, "ann", "second", StatusCode::OK).await?;
            answers(&registry, "bob", "third", StatusCode::OK).await
        })
        .await?;
        ensure!(registry.identities().await? == pods, "pods were replaced or restarted");
        println!("a changed htpasswd Secret was in force after {}, in the same pods", seconds(begun.elapsed()));
        Ok(())
    })
    .await
}

/// A line of an htpasswd file, as `htpasswd -nbB` prints it.
fn line(user: &str, password: &str) -> Result<String> {
    Ok(format!("{user}:{}\n", bcrypt::hash(password, 5)?))
}

async fn client(registry: &ManagedRegistry<'_>, user: &str, password: &str) -> Result<Client> {
    Client::plain(registry.address().await?).trusting(&registry.ca_bundle().await?)?.as_user(user, password)
}

async fn answers(registry: &ManagedRegistry<'_>, user: &str, password: &str, status: StatusCode) -> Result<()> {
    client(registry, user, password).await?.get("/v2/").await?.expect(status).map(drop)
}
