//! What nodes are told of the Registry, in the agent's namespace.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::SERVICE_PORT;
use crate::keyring::Keyring;
use crate::node_entry::{ENTRY_KEY, NODE_ENTRY_LABEL, NodeEntry, RegistryName, entry_name};
use crate::registry_controller::validate::ValidatedRegistry;

/// The ConfigMap; none while the Service has no address.
pub fn build(
    registry: &ValidatedRegistry,
    keyring: &Keyring,
    addresses: &[String],
    node_namespace: &str,
) -> Option<ConfigMap> {
    let owner = &registry.owner;
    let entry = NodeEntry {
        registry: RegistryName { namespace: owner.namespace.clone(), name: owner.name.clone(), uid: owner.uid.clone() },
        hosts: registry.hosts.clone(),
        addresses: addresses.to_vec(),
        port: SERVICE_PORT,
        ca_bundle: keyring.ca_bundle(),
    };
    let mut metadata = owner.elsewhere(node_namespace, entry_name(&owner.uid));
    metadata.labels.get_or_insert_default().insert(NODE_ENTRY_LABEL.into(), "true".into());
    // The type has no map and no key that is not text: it always serialises.
    let json = serde_json::to_string(&entry).ok()?;
    (!addresses.is_empty()).then(|| ConfigMap {
        metadata,
        data: Some(BTreeMap::from([(ENTRY_KEY.into(), json)])),
        ..Default::default()
    })
}
