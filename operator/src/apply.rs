//! The only writer to the API server.
//!
//! Objects are applied whole, by server-side apply under one field manager, and only when what we own of them differs from
//! what we want: at rest nothing is written. Secrets outside the operator's own namespace are the exception in manner: this
//! program may not read them, so they are created and replaced whole ([`secret`]). Nobody else's object is ever taken over.

pub mod drift;
pub mod secret;

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api::{Registry, RegistryStatus};
use crate::fingerprint;
use crate::labels::{FIELD_MANAGER, Owner, REGISTRY_UID, RETAINED_FOR};
use crate::metrics::Metrics;

/// The annotation that holds the fingerprint of what was applied: it makes an object differ when a field is no longer wanted.
const APPLIED: &str = "berth.dev/applied";

/// What can be applied here.
pub trait Applied:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize + Send + Sync
{
}

impl<K> Applied for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
        + Send
        + Sync
{
}

/// A write did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is an object of that name that is not ours.
    #[error(
        "there is a {kind} {name} that belongs to somebody else; rename or remove it, or give this Registry another name"
    )]
    AdoptionConflict {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// What was there before is being removed; it will be gone soon.
    #[error("{kind} {name} of a former Registry is being removed")]
    BeingRemoved {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The API server said no.
    #[error("{kind} {name}: {source}")]
    Api {
        /// The kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// What it said.
        source: Box<kube::Error>,
    },
    /// An object could not be written as JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// What the API server answered, when it did.
    pub fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            Self::AdoptionConflict { .. } | Self::BeingRemoved { .. } | Self::Json(_) => None,
        }
    }
}

/// The only writer.
#[derive(Clone)]
pub struct Applier {
    client: Client,
    metrics: Metrics,
    /// What the server made of what we applied last, by uid: it may write a value differently than we do, and that is no
    /// drift. Losing this costs one write for each such object.
    normal: Arc<Mutex<HashMap<String, Value>>>,
}

impl Applier {
    /// With this client.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, metrics, normal: Arc::default() }
    }

    /// Makes the object what `desired` says. `live` is what the watch has of it. Returns it as it is now.
    pub async fn apply<K: Applied>(&self, owner: &Owner, desired: &K, live: Option<Arc<K>>) -> Result<Arc<K>, Error> {
        let name = desired.name_any();
        let api: Api<K> = Api::namespaced(self.client.clone(), &desired.namespace().unwrap_or_default());
        // An object without our label is not in the store, and may be somebody else's.
        let live = match live {
            Some(live) => Some(live),
            None => api.get_opt(&name).await.map_err(|error| api_error::<K>(&name, error))?.map(Arc::new),
        };
        let wanted = wanted(desired)?;
        let corrects = match &live {
            Some(live) => {
                is_ours::<K>(owner, live.meta())?;
                let seen = drift::projection(&serde_json::to_value(live.as_ref())?, &wanted);
                let uid = live.uid().unwrap_or_default();
                if is_settled(&seen, &wanted, self.normal().get(&uid)) {
                    return Ok(Arc::clone(live));
                }
                tracing::info!(kind = %K::kind(&()), name, differs = ?drift::first_difference(&seen, &wanted), "applying");
                is_same_wish(&seen, &wanted)
            }
            None => false,
        };
        let params = PatchParams::apply(FIELD_MANAGER).force();
        // An object that took this one's place a moment ago was not looked at, and is not taken over.
        let mut patch = wanted.clone();
        if let Some(uid) = live.as_ref().and_then(|live| live.uid()) {
            patch["metadata"]["uid"] = uid.into();
        }
        let applied = match (api.patch(&name, &params, &Patch::Apply(&patch)).await, &live) {
            (Err(kube::Error::Api(status)), Some(live)) if status.code == 422 => repair(&api, live, &wanted).await,
            (applied, _) => applied,
        };
        let applied = applied.map_err(|error| api_error::<K>(&name, error))?;
        self.metrics.wrote(&K::kind(&()));
        if corrects {
            self.metrics.corrected(&K::kind(&()));
        }
        let seen = drift::projection(&serde_json::to_value(&applied)?, &wanted);
        if seen != wanted {
            self.normal().insert(applied.uid().unwrap_or_default(), seen);
        }
        Ok(Arc::new(applied))
    }

    /// Deletes this very object, if it is still the one that was seen.
    pub async fn delete<K: Applied>(&self, seen: &K) -> Result<(), Error> {
        let name = seen.name_any();
        let api: Api<K> = Api::namespaced(self.client.clone(), &seen.namespace().unwrap_or_default());
        let preconditions = Preconditions { uid: seen.uid(), resource_version: None };
        let params = DeleteParams::background().preconditions(preconditions);
        match api.delete(&name, &params).await {
            Ok(_) => {
                self.metrics.wrote(&K::kind(&()));
                self.normal().remove(&seen.uid().unwrap_or_default());
                Ok(())
            }
            // Gone already, or another object of that name.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(api_error::<K>(&name, error)),
        }
    }

    /// Writes the status. Returns the resourceVersion it gave.
    pub async fn write_status(&self, registry: &ObjectMeta, status: &RegistryStatus) -> Result<Option<String>, Error> {
        let name = registry.name.clone().unwrap_or_default();
        let namespace = registry.namespace.clone().unwrap_or_default();
        let api: Api<Registry> = Api::namespaced(self.client.clone(), &namespace);
        let patch = json!({
            "apiVersion": Registry::api_version(&()),
            "kind": Registry::kind(&()),
            // A Registry that was deleted and made again must not be given the status of the old one.
            "metadata": {"name": name, "uid": registry.uid},
            "status": status,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let written = match api.patch_status(&name, &params, &Patch::Apply(&patch)).await {
            // What is stored is not what the definition says any more, so the server cannot tell whose each field is.
            Err(kube::Error::Api(status)) if status.message.contains("failed to create typed live object") => {
                let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
                api.patch_status(&name, &params, &Patch::Merge(&patch)).await
            }
            written => written,
        };
        let written = written.map_err(|error| api_error::<Registry>(&name, error))?;
        self.metrics.wrote("Registry/status");
        Ok(written.metadata.resource_version)
    }

    fn normal(&self) -> std::sync::MutexGuard<'_, HashMap<String, Value>> {
        self.normal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Replaces an object that cannot be applied to. An apply never removes an element of a list that somebody else put there,
/// and beside ours it may be invalid: a port that was renumbered by hand keeps its name, which ours has too.
async fn repair<K: Applied>(api: &Api<K>, live: &K, wanted: &Value) -> Result<K, kube::Error> {
    let mut whole = serde_json::to_value(live).map_err(kube::Error::SerdeError)?;
    drift::overlay(&mut whole, wanted);
    let whole: K = serde_json::from_value(whole).map_err(kube::Error::SerdeError)?;
    let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..Default::default() };
    api.replace(&live.name_any(), &params, &whole).await
}

/// Where the fingerprint of what was applied stands in an object.
const POINTER: &str = "/metadata/annotations/berth.dev~1applied";

/// Whether nothing is to be written: the object is as wanted, or as the server made it of this very wish.
fn is_settled(seen: &Value, wanted: &Value, normal: Option<&Value>) -> bool {
    seen == wanted || is_same_wish(seen, wanted) && normal == Some(seen)
}

/// Whether this very wish was applied to the object before, whatever has become of it since.
pub fn was_applied<K: Applied>(desired: &K, live: &K) -> bool {
    wanted(desired).is_ok_and(|wanted| {
        let applied = live.annotations().get(APPLIED).map(String::as_str);
        applied.is_some() && wanted.pointer(POINTER).and_then(Value::as_str) == applied
    })
}

fn is_same_wish(seen: &Value, wanted: &Value) -> bool {
    seen.pointer(POINTER) == wanted.pointer(POINTER)
}

/// `desired` as JSON, with its own fingerprint in it.
fn wanted<K: Applied>(desired: &K) -> Result<Value, serde_json::Error> {
    let mut wanted = serde_json::to_value(desired)?;
    let fingerprint = fingerprint::of(wanted.to_string());
    wanted["metadata"]["annotations"][APPLIED] = fingerprint.into();
    Ok(wanted)
}

/// Whether the object that is there may be written: the Registry's own, or one that was retained for it.
fn is_ours<K: Applied>(owner: &Owner, live: &ObjectMeta) -> Result<(), Error> {
    let (kind, name) = (K::kind(&()).into_owned(), live.name.clone().unwrap_or_default());
    if live.deletion_timestamp.is_some() {
        return Err(Error::BeingRemoved { kind, name });
    }
    let controller = live.owner_references.iter().flatten().find(|reference| reference.controller == Some(true));
    let label = |key: &str| live.labels.as_ref().and_then(|labels| labels.get(key));
    let ours = match controller {
        Some(controller) if controller.uid == owner.uid => true,
        Some(controller) if is_registry(controller) && controller.name == owner.name => {
            return Err(Error::BeingRemoved { kind, name });
        }
        Some(_) => false,
        None => label(RETAINED_FOR) == Some(&owner.name) || label(REGISTRY_UID) == Some(&owner.uid),
    };
    if ours { Ok(()) } else { Err(Error::AdoptionConflict { kind, name }) }
}

fn is_registry(reference: &OwnerReference) -> bool {
    let group = reference.api_version.split_once('/').map(|(group, _)| group);
    group == Some(Registry::group(&()).as_ref()) && reference.kind == Registry::kind(&())
}

fn api_error<K: Resource<DynamicType = ()>>(name: &str, source: kube::Error) -> Error {
    Error::Api { kind: K::kind(&()).into_owned(), name: name.into(), source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PersistentVolumeClaim;

    use super::*;

    fn meta(json: Value) -> ObjectMeta {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_changed_wish_is_written_though_the_server_wrote_the_one_before_in_its_own_way() {
        let object = |applied: &str, size: &str| json!({"metadata": {"annotations": {APPLIED: applied}}, "size": size});
        let seen = object("first", "1Gi");
        let normal = Some(&seen);
        assert!(is_settled(&seen, &object("first", "1Gi"), None));
        assert!(is_settled(&seen, &object("first", "1024Mi"), normal), "the server's form of the same wish");
        assert!(!is_settled(&seen, &object("first", "1024Mi"), None), "not known to be");
        assert!(!is_settled(&seen, &object("second", "2Gi"), normal));
        let drifted = object("first", "3Gi");
        assert!(!is_settled(&drifted, &object("first", "1024Mi"), normal));
    }

    #[test]
    fn only_the_registrys_own_and_what_was_retained_for_it_is_written() {
        let owner = Owner { namespace: "a".into(), name: "images".into(), uid: "1".into() };
        let check = |json| is_ours::<PersistentVolumeClaim>(&owner, &meta(json));
        let controlled = |uid: &str, kind: &str, name: &str| {
            json!({"name": "x", "ownerReferences": [
                {"apiVersion": "berth.dev/v1alpha1", "kind": kind, "name": name, "uid": uid, "controller": true}]})
        };
        assert!(check(controlled("1", "Registry", "images")).is_ok());
        assert!(matches!(check(controlled("0", "Registry", "images")), Err(Error::BeingRemoved { .. })));
        assert!(matches!(check(controlled("0", "Registry", "other")), Err(Error::AdoptionConflict { .. })));
        assert!(matches!(check(controlled("0", "StatefulSet", "images")), Err(Error::AdoptionConflict { .. })));
        let mut stranger = controlled("0", "Registry", "images");
        stranger["ownerReferences"][0]["apiVersion"] = "other.example/v1".into();
        assert!(matches!(check(stranger), Err(Error::AdoptionConflict { .. })), "a Registry of another kind");
        assert!(matches!(check(json!({"name": "x"})), Err(Error::AdoptionConflict { .. })));
        assert!(check(json!({"name": "x", "labels": {RETAINED_FOR: "images"}})).is_ok());
        let other = json!({"name": "x", "labels": {RETAINED_FOR: "other"}});
        assert!(matches!(check(other), Err(Error::AdoptionConflict { .. })));
    }
}
