//! What Berth's ServiceAccounts may not do, asked of the API server.

use anyhow::{Context as _, Result, ensure};
use berth_e2e::cluster::{Cluster, NODE_NAMESPACE, OPERATOR_NAMESPACE, run};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};

const OPERATOR: (&str, &str) = (OPERATOR_NAMESPACE, "berth-operator");
const AGENT: (&str, &str) = (NODE_NAMESPACE, "berth-node-agent");

/// Verbs, a resource, and the namespace; none is everywhere.
const FORBIDDEN: [(&str, &str, &str); 27] = [
    ("get list watch patch delete", "secrets", "default"),
    ("get list watch patch delete", "secrets", "kube-system"),
    ("get list watch", "secrets", ""),
    ("create get", "pods/exec", "default"),
    ("create get", "pods/attach", "default"),
    ("create get", "pods/portforward", "default"),
    ("get create update", "nodes/proxy", ""),
    ("create patch update delete", "pods", "default"),
    ("create", "serviceaccounts/token", "default"),
    ("create", "serviceaccounts/token", OPERATOR_NAMESPACE),
    ("impersonate", "users", ""),
    ("impersonate", "groups", ""),
    ("impersonate", "serviceaccounts", "default"),
    ("patch update delete", "nodes", ""),
    ("create patch update delete", "namespaces", ""),
    ("create patch update delete", "persistentvolumes", ""),
    ("bind escalate create patch update delete", "clusterroles.rbac.authorization.k8s.io", ""),
    ("bind escalate create patch update delete", "roles.rbac.authorization.k8s.io", "default"),
    ("create patch update delete", "clusterrolebindings.rbac.authorization.k8s.io", ""),
    ("create patch update delete", "rolebindings.rbac.authorization.k8s.io", "default"),
    ("create", "tokenreviews.authentication.k8s.io", ""),
    ("create", "subjectaccessreviews.authorization.k8s.io", ""),
    ("create patch update delete", "registries.berth.dev", "default"),
    ("create patch update delete", "customresourcedefinitions.apiextensions.k8s.io", ""),
    ("create patch update delete", "validatingadmissionpolicies.admissionregistration.k8s.io", ""),
    ("create patch update delete", "mutatingwebhookconfigurations.admissionregistration.k8s.io", ""),
    ("approve", "signers.certificates.k8s.io", ""),
];

#[tokio::test]
async fn nobody_of_berth_may_read_secrets_elsewhere_or_become_more_than_it_is() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let mut asked = 0;
    for who in [OPERATOR, AGENT] {
        for (verbs, resource, namespace) in FORBIDDEN {
            for verb in verbs.split(' ') {
                let allowed = may(&cluster.client, who, verb, resource, namespace).await?;
                ensure!(!allowed, "{who:?} may {verb} {resource} in {namespace:?}");
                asked += 1;
            }
        }
    }
    // That the question is asked rightly shows in an answer that is yes.
    ensure!(may(&cluster.client, OPERATOR, "create", "secrets", "default").await?, "it cannot even write Secrets");
    ensure!(!may(&cluster.client, AGENT, "create", "secrets", "default").await?, "an agent may write Secrets");
    ensure!(!may(&cluster.client, AGENT, "create", "configmaps", "default").await?, "an agent may write elsewhere");
    println!("{asked} rights asked for, none granted");
    Ok(())
}

#[tokio::test]
async fn no_rule_of_the_chart_has_a_wildcard() -> Result<()> {
    let _cluster = Cluster::shared().await?;
    let chart = run("helm", &["template", "berth", "charts/berth", "--namespace", OPERATOR_NAMESPACE])?;
    let mut roles = 0;
    for document in chart.split("\n---\n") {
        let object: Value = serde_yaml::from_str(document)?;
        if !object["kind"].as_str().is_some_and(|kind| kind.ends_with("Role")) {
            continue;
        }
        roles += 1;
        for rule in object["rules"].as_array().context("a role without rules")? {
            ensure!(!rule.to_string().contains('*'), "{}: {rule}", object["metadata"]["name"]);
        }
    }
    ensure!(roles > 5, "only {roles} roles were found");
    Ok(())
}

async fn may(client: &Client, (of, who): (&str, &str), verb: &str, resource: &str, namespace: &str) -> Result<bool> {
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let review = json!({"metadata": {}, "spec": {
        "user": format!("system:serviceaccount:{of}:{who}"),
        "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{of}"), "system:authenticated"],
        "resourceAttributes": {
            "verb": verb, "group": group, "resource": resource, "subresource": subresource, "namespace": namespace,
        },
    }});
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let answer = api.create(&PostParams::default(), &serde_json::from_value(review)?).await?;
    Ok(answer.status.context("no answer")?.allowed)
}
