//! The ConfigMap `<name>-ca`: what clients in the cluster mount to trust the Registry.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use crate::keyring::Keyring;
use crate::registry_controller::validate::ValidatedRegistry;

/// The key of the certificates.
pub const KEY: &str = "ca.crt";

/// The ConfigMap.
pub fn build(registry: &ValidatedRegistry, keyring: &Keyring) -> ConfigMap {
    ConfigMap {
        metadata: registry.owner.owned(registry.owner.ca_name()),
        data: Some(BTreeMap::from([(KEY.into(), keyring.ca_bundle())])),
        ..Default::default()
    }
}
