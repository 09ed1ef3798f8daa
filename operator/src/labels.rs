//! Names and labels of everything the operator makes, and the name under which it makes it.
//!
//! Nothing is copied from a Registry's own labels and annotations: a tool that tracks the Registry by a label would take our
//! objects for its own and delete them. That is also why nothing has `app.kubernetes.io/instance`: Argo CD may track by it, and
//! would prune the volume of a Registry that is called like its Application.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};

/// Who applies. The same for every object, so that a field this program no longer wants goes away.
pub const FIELD_MANAGER: &str = "berth-operator";
/// The label that names the Registry an object belongs to.
pub const REGISTRY: &str = "berth.dev/registry";
/// The label that names the namespace of that Registry, where it is another than the object's.
pub const REGISTRY_NAMESPACE: &str = "berth.dev/registry-namespace";
/// The label that holds the uid of that Registry, where no ownerReference can.
pub const REGISTRY_UID: &str = "berth.dev/registry-uid";
/// The label of what outlives its Registry: the name of the Registry that may have it.
pub const RETAINED_FOR: &str = "berth.dev/retained-for";
/// The label of the operator's own Secrets.
pub const KEYRING: &str = "berth.dev/keyring";
/// The annotation that holds the hash of what a pod must be restarted for.
pub const CONFIG_HASH: &str = "berth.dev/config-hash";
/// The annotation by which a human asks for a new serving certificate: a value not seen before.
pub const ROTATE_CERTIFICATES: &str = "berth.dev/rotate-certificates";
/// The annotation by which a human asks for a new private authority: a value not seen before.
pub const ROTATE_AUTHORITY: &str = "berth.dev/rotate-authority";
/// The annotation by which a human asks for a new generated password: a value not seen before.
pub const ROTATE_PASSWORD: &str = "berth.dev/rotate-password";
/// The annotation by which a human asks for a new node credential: a value not seen before.
pub const ROTATE_NODE_CREDENTIAL: &str = "berth.dev/rotate-node-credential";

/// Which Registry something is made for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Owner {
    /// The labels of every object made for it.
    pub fn labels(&self) -> BTreeMap<String, String> {
        [
            ("app.kubernetes.io/name", "berth-registry"),
            ("app.kubernetes.io/component", "registry"),
            ("app.kubernetes.io/part-of", "berth"),
            ("app.kubernetes.io/managed-by", FIELD_MANAGER),
            (REGISTRY, &self.name),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
    }

    /// The labels by which its pods are found. They can never change.
    pub fn selector_labels(&self) -> BTreeMap<String, String> {
        [("app.kubernetes.io/component", "registry"), (REGISTRY, &self.name)]
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    /// The same as a selector.
    pub fn selector(&self) -> LabelSelector {
        LabelSelector { match_labels: Some(self.selector_labels()), ..Default::default() }
    }

    /// The metadata of an object that goes when the Registry goes.
    pub fn owned(&self, name: String) -> ObjectMeta {
        ObjectMeta { owner_references: Some(vec![self.reference()]), ..self.kept(name) }
    }

    /// The metadata of an object that stays when the Registry goes.
    pub fn kept(&self, name: String) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels()),
            ..Default::default()
        }
    }

    /// The metadata of an object in another namespace, where ownerReferences do not reach.
    pub fn elsewhere(&self, namespace: &str, name: String) -> ObjectMeta {
        let mut labels = self.labels();
        labels.insert(REGISTRY_NAMESPACE.into(), self.namespace.clone());
        labels.insert(REGISTRY_UID.into(), self.uid.clone());
        ObjectMeta { namespace: Some(namespace.into()), labels: Some(labels), ..self.kept(name) }
    }

    /// The reference by which the garbage collector knows that an object goes with the Registry.
    pub fn reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: "berth.dev/v1alpha1".into(),
            kind: "Registry".into(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }

    /// The ConfigMap with the configuration file.
    pub fn config_name(&self) -> String {
        format!("{}-config", self.name)
    }

    /// The ConfigMap with the private authority's certificates.
    pub fn ca_name(&self) -> String {
        format!("{}-ca", self.name)
    }

    /// The claim that is made when none is given.
    pub fn claim_name(&self) -> String {
        format!("{}-data", self.name)
    }

    /// The operator's own Secret about it. A namespace's name has no dot, so no two Registries share one.
    pub fn keyring_name(&self) -> String {
        format!("registry-{}.{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_carries_the_label_by_which_argo_cd_may_track() {
        let owner = Owner { namespace: "team-a".into(), name: "images".into(), uid: "u".into() };
        for metadata in [owner.owned("a".into()), owner.kept("a".into()), owner.elsewhere("berth-system", "a".into())] {
            assert!(!metadata.labels.unwrap().contains_key("app.kubernetes.io/instance"));
        }
    }
}
