//! Step 3 (no client): every object of one Registry, whole. Pure, and the same input gives the same objects.

pub mod bucket;
pub mod ca_bundle;
pub mod claim;
pub mod config_map;
pub mod deployment;
pub mod disruption_budget;
pub mod node_entry;
pub mod service;
pub mod service_account;

#[cfg(test)]
pub(crate) mod tests;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::validate::ValidatedRegistry;
use crate::keyring::Keyring;

/// Where the registry keeps what it stores.
pub const DATA: &str = "/var/lib/registry";
/// Where its configuration is mounted.
pub const CONFIG: &str = "/etc/berth/config";
/// Where what the operator wrote for it is mounted.
pub const SECRETS: &str = "/etc/berth/secrets";
/// Where the user's htpasswd file is mounted.
pub const USERS: &str = "/etc/berth/users";
/// Where the user's certificate is mounted.
pub const USER_TLS: &str = "/etc/berth/tls";
/// Where the authorities for the bucket's certificate are mounted.
pub const BUCKET_TLS: &str = "/etc/berth/bucket";
/// Where the user's credentials for the bucket are mounted, if they are a file.
pub const BUCKET_KEY: &str = "/etc/berth/bucket-key";
/// The port of the API in the pod.
pub const API_PORT: i32 = 5000;
/// The port of health, status and metrics in the pod.
pub const HEALTH_PORT: i32 = 5001;
/// The port of the Service.
pub const SERVICE_PORT: u16 = 443;
/// Who the registry runs as.
pub const USER_ID: i64 = 65532;

/// Every object in the namespace of one Registry but its Service, which comes first. What is absent is not wanted, and swept
/// if it is there.
#[derive(Clone, Debug)]
pub struct Resources {
    /// An identity without rights.
    pub service_account: ServiceAccount,
    /// The configuration file.
    pub config: ConfigMap,
    /// The certificates that clients trust.
    pub ca_bundle: ConfigMap,
    /// The volume, when it is ours to make.
    pub claim: Option<PersistentVolumeClaim>,
    /// The pods; none until there is a certificate for them.
    pub deployment: Option<Deployment>,
    /// What evictions leave, when there is more than one pod.
    pub disruption_budget: Option<PodDisruptionBudget>,
}

/// Builds them. `server_secret` is the Secret that pods mount, when it has been written.
pub fn build(registry: &ValidatedRegistry, keyring: &Keyring, server_secret: Option<&str>) -> Resources {
    let config = config_map::build(registry);
    Resources {
        service_account: service_account::build(registry),
        ca_bundle: ca_bundle::build(registry, keyring),
        claim: claim::build(registry),
        deployment: server_secret.map(|secret| deployment::build(registry, &config, secret)),
        disruption_budget: disruption_budget::build(registry),
        config,
    }
}
