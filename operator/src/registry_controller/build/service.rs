//! The Service: 443 in front of the pods' API port. The health port is not on it.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::SERVICE_PORT;
use crate::api::registry::ServiceType;
use crate::registry_controller::validate::ValidatedRegistry;

/// The Service.
pub fn build(registry: &ValidatedRegistry) -> Service {
    let wish = &registry.service;
    let mut metadata = registry.owner.owned(registry.owner.name.clone());
    metadata.annotations = (!wish.annotations.is_empty()).then(|| wish.annotations.clone());
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(type_name(wish.type_.unwrap_or_default()).into()),
            // Both families where the cluster has both: every address is certified, and a node may have but one.
            ip_family_policy: Some("PreferDualStack".into()),
            selector: Some(registry.owner.selector_labels()),
            load_balancer_class: wish.load_balancer_class.clone(),
            ports: Some(vec![ServicePort {
                name: Some("https".into()),
                app_protocol: Some("https".into()),
                port: i32::from(SERVICE_PORT),
                protocol: Some("TCP".into()),
                target_port: Some(IntOrString::String("registry".into())),
                ..Default::default()
            }]),
            ..Default::default()
        }),
        ..Default::default()
    }
}

const fn type_name(type_: ServiceType) -> &'static str {
    match type_ {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::LoadBalancer => "LoadBalancer",
    }
}
