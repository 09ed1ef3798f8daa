//! The pods' identity: one of their own, with no rights and no token. Clouds know pods by its name, or by its annotations.

use k8s_openapi::api::core::v1::ServiceAccount;

use crate::registry_controller::validate::ValidatedRegistry;

/// The ServiceAccount.
pub fn build(registry: &ValidatedRegistry) -> ServiceAccount {
    let annotations = &registry.pod_template.service_account_annotations;
    let mut metadata = registry.owner.owned(registry.owner.name.clone());
    metadata.annotations = (!annotations.is_empty()).then(|| annotations.clone());
    ServiceAccount { metadata, automount_service_account_token: Some(false), ..Default::default() }
}
