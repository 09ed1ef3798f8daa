//! What a status says of an older Registry in the same place.

use super::{Pass, bucket};
use crate::api::condition::Finding;

/// An older Registry keeps its images in the same place.
pub const STORAGE_SHARED: &str = "StorageShared";

/// That there is one; nothing when there is none, or while no pod has shown that it may use the bucket: whoever may not is told nothing
/// about who does.
pub fn finding(pass: &Pass<'_>) -> Option<Finding> {
    let elder = pass.observed.elder.as_ref()?;
    let validated = pass.validated.ok()?;
    let place = validated.bucket()?.place();
    bucket::conditional_overwrite(pass)?;
    // Who may use the place may still not know of other namespaces.
    let who = if elder.namespace == validated.owner.namespace {
        format!("the Registry {} is older and keeps its images in the same place, {place}", elder.name)
    } else {
        format!("a Registry of another namespace is older and keeps its images in the same place, {place}")
    };
    Some(if elder.grace == Some(validated.garbage_collection.grace) {
        let message = format!(
            "{who}: each serves, deletes and collects what was pushed to the other; if that is not meant, delete this Registry, which leaves the images alone, and create it with another prefix"
        );
        Finding::new(STORAGE_SHARED, true, "SamePlace", message)
    } else {
        let message = format!(
            "{who}, and collects garbage by another garbageCollection.grace: what is being pushed to one of them may be lost to the other's collection; write the same grace in both, or delete this Registry, which leaves the images alone, and create it with another prefix"
        );
        Finding::new(STORAGE_SHARED, true, "GraceDiffers", message)
    })
}
