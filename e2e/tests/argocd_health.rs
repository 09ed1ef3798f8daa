//! What Argo CD shows of a Registry, by the chart's script.

use anyhow::{Result, ensure};
use berth_e2e::argocd::health;
use serde_json::{Value, json};

/// A Registry whose third generation was looked at, in this condition.
fn registry(conditions: &[(&str, &str, &str, &str)]) -> Value {
    let condition = |(type_, status, reason, message): &(&str, &str, &str, &str)| json!({"type": type_, "status": status, "reason": reason, "message": message, "observedGeneration": 3});
    json!({
        "apiVersion": "berth.dev/v1alpha1",
        "kind": "Registry",
        "metadata": {"name": "images", "namespace": "team-a", "generation": 3},
        "spec": {"storage": {"persistentVolumeClaim": {"size": "10Gi"}}},
        "status": {"observedGeneration": 3, "conditions": conditions.iter().map(condition).collect::<Vec<_>>()},
    })
}

const SERVES: (&str, &str, &str, &str) = ("Ready", "True", "Serving", "it serves");

/// The same with this at a place in it.
fn with(mut registry: Value, pointer: &str, value: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').unwrap_or_default();
    if let Some(parent) = registry.pointer_mut(parent).and_then(Value::as_object_mut) {
        match value {
            Value::Null => parent.remove(field),
            value => parent.insert(field.into(), value),
        };
    }
    registry
}

/// What it is, and what Argo CD shall say of it.
fn rows() -> Vec<(Value, &'static str, &'static str)> {
    let serves = || registry(&[SERVES]);
    let busy = ("Reconciling", "True", "RollingOut", "pods are being replaced or started");
    let not_ready = ("Ready", "False", "PodsNotReady", "no pod is ready yet");
    let stalled = ("Stalled", "True", "ImagePullFailed", "correct spec.image");
    let stopped = ("Ready", "False", "ScaledToZero", "spec.replicas is 0: nothing serves, and everything is kept");
    let invalid = ("Stalled", "True", "InvalidSpec", "write it as the message says");
    vec![
        (with(serves(), "/status", Value::Null), "Progressing", "Waiting for the operator"),
        (with(serves(), "/status/conditions", Value::Null), "Progressing", "Waiting for the operator"),
        (registry(&[]), "Progressing", "Waiting for the operator"),
        (with(serves(), "/status/observedGeneration", json!(2)), "Progressing", "Waiting for the operator"),
        (with(serves(), "/status/observedGeneration", Value::Null), "Progressing", "Waiting for the operator"),
        (registry(&[not_ready, busy]), "Progressing", "pods are being replaced or started"),
        (registry(&[not_ready]), "Progressing", "no pod is ready yet"),
        (registry(&[SERVES, busy]), "Progressing", "pods are being replaced or started"),
        (serves(), "Healthy", "it serves"),
        (registry(&[stopped]), "Healthy", "spec.replicas is 0: nothing serves, and everything is kept"),
        (registry(&[not_ready, stalled]), "Degraded", "ImagePullFailed: correct spec.image"),
        // It serves, and a human is needed all the same.
        (registry(&[SERVES, stalled]), "Degraded", "ImagePullFailed: correct spec.image"),
        (registry(&[invalid]), "Degraded", "InvalidSpec: write it as the message says"),
        // What a human was needed for before the last change says nothing about it.
        (with(registry(&[stalled]), "/status/observedGeneration", json!(2)), "Progressing", "Waiting for the operator"),
        (with(serves(), "/spec/suspend", json!(true)), "Suspended", "Suspended by spec.suspend"),
        (with(serves(), "/spec/suspend", json!(false)), "Healthy", "it serves"),
        (with(serves(), "/spec", Value::Null), "Healthy", "it serves"),
    ]
}

#[test]
fn argo_cd_shows_every_state_of_a_registry_as_what_it_is() -> Result<()> {
    for (registry, status, message) in rows() {
        let found = health(&registry)?;
        ensure!(found.status == status && found.message == message, "{found:?}, not {status}, of {registry:#}");
    }
    println!("{} states, each as Argo CD shall show it", rows().len());
    Ok(())
}
