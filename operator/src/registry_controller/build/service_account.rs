//! The pods' identity: one of their own, with no rights and no token.

use k8s_openapi::api::core::v1::ServiceAccount;

use crate::registry_controller::validate::ValidatedRegistry;

/// The ServiceAccount.
pub fn build(registry: &ValidatedRegistry) -> ServiceAccount {
    ServiceAccount {
        metadata: registry.owner.owned(registry.owner.name.clone()),
        automount_service_account_token: Some(false),
        ..Default::default()
    }
}
