//! `spec.service`: how the Service is made.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the Service is made. It listens on 443, and answers there only.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.loadBalancerClass) || (has(self.type) && self.type == 'LoadBalancer')")
        .message("service.loadBalancerClass: write service.type: LoadBalancer beside it, or leave it out"),
    validation = Rule::new(
        "!has(self.type) || !has(oldSelf.type) || self.type != 'LoadBalancer' || oldSelf.type != 'LoadBalancer' || \
         (has(self.loadBalancerClass) == has(oldSelf.loadBalancerClass) && \
         (!has(self.loadBalancerClass) || self.loadBalancerClass == oldSelf.loadBalancerClass))")
        .message("service.loadBalancerClass cannot change while there is a load balancer; write service.type: ClusterIP first, then LoadBalancer with the other class")
)]
pub struct Service {
    /// Whether a load balancer is asked for. The rights of users are the same from everywhere. Default: `ClusterIP`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<ServiceType>,
    /// Annotations for the Service, which cloud providers read. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "super::pod_template::short_map")]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('berth.dev/'))")
        .message("service.annotations: keys that begin with berth.dev/ are the operator's; write another key"))]
    pub annotations: BTreeMap<String, String>,
    /// The load balancer's class. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub load_balancer_class: Option<String>,
}

/// Whether a load balancer is asked for. The rights of users are the same from everywhere. Default: `ClusterIP`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// Reached from inside the cluster.
    #[default]
    ClusterIP,
    /// And through a load balancer.
    LoadBalancer,
}
