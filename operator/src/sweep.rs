//! Removes what a deleted Registry left where ownerReferences do not reach: its entry in the agents' namespace, and its
//! keyring, unless that is retained.
//!
//! Level-triggered: it compares everything that is there with every Registry that is there, whenever one goes, at the start
//! and every hour. So no Registry needs a finalizer, and none hangs when the operator is gone first.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use tokio::sync::mpsc::Receiver;
use tokio::time::{sleep, timeout};

use crate::context::Context;
use crate::labels::{KEYRING, REGISTRY, REGISTRY_NAMESPACE, REGISTRY_UID, RETAINED_FOR};
use crate::registry_controller::keys::NAMESPACE_UID;

/// How often it looks when nothing happens.
const INTERVAL: Duration = Duration::from_secs(3600);
/// How long it waits for more of the same.
const BATCH: Duration = Duration::from_secs(2);

/// Sweeps for ever.
pub async fn run(context: &Context, mut removals: Receiver<()>) {
    loop {
        if let Err(error) = sweep(context).await {
            tracing::warn!(%error, "what deleted Registries left could not be removed; it is tried again");
            sleep(BATCH * 5).await;
            continue;
        }
        // Either way it is time: something went, or the hour is over.
        let _ = timeout(INTERVAL, removals.recv()).await;
        sleep(BATCH).await;
        while removals.try_recv().is_ok() {}
    }
}

async fn sweep(context: &Context) -> Result<(), crate::apply::Error> {
    // One that cannot be read is there all the same.
    let living: BTreeSet<String> =
        context.stores.registries.state().iter().filter_map(|registry| registry.uid()).collect();
    context.forget_others(&living);
    for entry in context.stores.node_entries.all() {
        let uid = entry.labels().get(REGISTRY_UID).cloned().unwrap_or_default();
        if !living.contains(&uid) {
            // The Secret first: the ConfigMap is what this finds it by.
            context.applier.delete_secret(&context.settings.node_namespace, &entry.name_any()).await?;
            context.applier.delete(entry.as_ref()).await?;
        }
    }
    sweep_keyrings(context).await
}

/// Counts Registries for the metrics.
pub fn count(context: &Context) {
    let registries = context.stores.registries.state();
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    context.metrics.registries.set(number(registries.len()));
    let invalid = registries.iter().filter(|registry| registry.0.is_err()).count();
    context.metrics.invalid_registries.set(number(invalid));
}

async fn sweep_keyrings(context: &Context) -> Result<(), crate::apply::Error> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &context.settings.namespace);
    let api_error = |name: &str, source: kube::Error| crate::apply::Error::Api {
        kind: "Secret".into(),
        name: name.into(),
        source: Box::new(source),
    };
    let keyrings = api.list_metadata(&ListParams::default().labels(KEYRING)).await;
    for keyring in keyrings.map_err(|error| api_error("", error))?.items {
        if is_wanted(&keyring, context) {
            continue;
        }
        let name = keyring.name_any();
        // Only the very one that was judged: a pass may have written it since.
        let preconditions = Preconditions { uid: keyring.uid(), resource_version: keyring.resource_version() };
        match api.delete(&name, &DeleteParams::default().preconditions(preconditions)).await {
            Ok(_) => tracing::info!(name, "removed the keyring of a deleted Registry"),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => return Err(api_error(&name, error)),
        }
    }
    Ok(())
}

/// Whether there is, or may be again, a Registry that this keyring is for.
fn is_wanted(keyring: &PartialObjectMeta<Secret>, context: &Context) -> bool {
    let (Some(namespace), Some(name)) = (keyring.labels().get(REGISTRY_NAMESPACE), keyring.labels().get(REGISTRY))
    else {
        return true;
    };
    if context.stores.registries.get(&ObjectRef::new(name).within(namespace)).is_some() {
        return true;
    }
    let there = context.stores.namespaces.get(&ObjectRef::new(namespace)).and_then(|namespace| namespace.uid());
    let same_namespace =
        there.is_some() && keyring.annotations().get(NAMESPACE_UID).is_none_or(|uid| Some(uid) == there.as_ref());
    keyring.labels().contains_key(RETAINED_FOR) && same_namespace
}
