//! What evictions leave. With one pod a budget would only block the drain of its node, so there is none.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::registry_controller::validate::ValidatedRegistry;

/// The PodDisruptionBudget.
pub fn build(registry: &ValidatedRegistry) -> Option<PodDisruptionBudget> {
    (registry.replicas > 1).then(|| PodDisruptionBudget {
        metadata: registry.owner.owned(registry.owner.name.clone()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(registry.owner.selector()),
            // A pod that does not serve protects nothing by staying.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
            ..Default::default()
        }),
        ..Default::default()
    })
}
