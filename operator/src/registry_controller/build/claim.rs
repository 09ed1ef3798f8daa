//! The volume, when it is ours to make. It goes with the Registry only if that says so.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::api::registry::{AccessMode, DeletionPolicy};
use crate::labels::RETAINED_FOR;
use crate::registry_controller::validate::{ValidatedRegistry, ValidatedStorage};

/// The PersistentVolumeClaim.
pub fn build(registry: &ValidatedRegistry) -> Option<PersistentVolumeClaim> {
    let ValidatedStorage::NewClaim { size, class, modes } = &registry.storage else { return None };
    let owner = &registry.owner;
    let metadata = match registry.deletion_policy {
        DeletionPolicy::Delete => owner.owned(owner.claim_name()),
        DeletionPolicy::Retain => {
            let mut metadata = owner.kept(owner.claim_name());
            metadata.labels.get_or_insert_default().insert(RETAINED_FOR.into(), owner.name.clone());
            metadata
        }
    };
    Some(PersistentVolumeClaim {
        metadata,
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(modes.iter().copied().map(AccessMode::as_str).map(Into::into).collect()),
            storage_class_name: class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".into(), Quantity(size.clone()))])),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    })
}

/// A claim that was retained, or that grew by other means, is never asked to shrink: no volume can.
pub fn keep_size(claim: &mut PersistentVolumeClaim, live: &PersistentVolumeClaim) {
    let (Some(wanted), Some(kept)) = (request(claim), request(live)) else { return };
    if bytes(kept) > bytes(wanted) {
        let kept = kept.clone();
        let resources = claim.spec.as_mut().and_then(|spec| spec.resources.as_mut());
        if let Some(requests) = resources.and_then(|resources| resources.requests.as_mut()) {
            requests.insert("storage".into(), kept);
        }
    }
}

fn request(claim: &PersistentVolumeClaim) -> Option<&Quantity> {
    claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage")
}

/// A quantity as a number, close enough to compare sizes.
fn bytes(quantity: &Quantity) -> f64 {
    let text = quantity.0.as_str();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match &text[digits.len()..] {
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024_f64,
        "Mi" => 1024_f64.powi(2),
        "Gi" => 1024_f64.powi(3),
        "Ti" => 1024_f64.powi(4),
        "Pi" => 1024_f64.powi(5),
        "Ei" => 1024_f64.powi(6),
        _ => 1.0,
    };
    digits.parse().unwrap_or(0.0) * scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_never_asked_to_shrink() {
        let claim = |size: &str| -> PersistentVolumeClaim {
            let json = serde_json::json!({"spec": {"resources": {"requests": {"storage": size}}}});
            serde_json::from_value(json).unwrap()
        };
        for (wanted, live, kept) in
            [("1Gi", "2Gi", "2Gi"), ("2Gi", "1Gi", "2Gi"), ("1Gi", "2000M", "2000M"), ("1G", "1Gi", "1Gi")]
        {
            let mut wanted = claim(wanted);
            keep_size(&mut wanted, &claim(live));
            assert_eq!(request(&wanted), Some(&Quantity(kept.into())));
        }
    }
}
