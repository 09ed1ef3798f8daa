//! What a status says of where the bytes are, and of the volume.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::{Pass, Problem, bucket, pods};
use crate::api::condition::{Finding, Truth};
use crate::api::registry::{Storage, StorageStatus, StorageType};
use crate::registry_controller::dereference::{StorageClassState, is_bound};
use crate::registry_controller::validate::ValidatedRegistry;

/// Where the bytes are.
pub fn status(pass: &Pass<'_>) -> Option<StorageStatus> {
    let storage = &pass.registry.spec.storage;
    let type_ = match storage {
        Storage { persistent_volume_claim: Some(_), .. } => StorageType::PersistentVolumeClaim,
        Storage { s3: Some(_), .. } => StorageType::S3,
        Storage { azure: Some(_), .. } => StorageType::Azure,
        Storage { gcs: Some(_), .. } => StorageType::Gcs,
        Storage { empty_dir: Some(_), .. } => StorageType::EmptyDir,
        _ => return None,
    };
    let (s3, azure, gcs) = (storage.s3.as_ref(), storage.azure.as_ref(), storage.gcs.as_ref());
    let prefix = s3.map(|s3| &s3.prefix).or(azure.map(|azure| &azure.prefix)).or(gcs.map(|gcs| &gcs.prefix));
    Some(StorageStatus {
        type_,
        claim_name: pass.validated.ok().and_then(ValidatedRegistry::claim_name),
        capacity: pass.observed.claim.as_deref().and_then(capacity),
        bucket: s3.map(|s3| s3.bucket.clone()).or(gcs.map(|gcs| gcs.bucket.clone())),
        account_name: azure.map(|azure| azure.account_name.clone()),
        container: azure.map(|azure| azure.container.clone()),
        prefix: prefix.cloned().flatten(),
        conditional_overwrite: prefix.and_then(|_| bucket::conditional_overwrite(pass)),
    })
}

/// `StorageReady`.
pub fn finding(pass: &Pass<'_>) -> Finding {
    let type_ = "StorageReady";
    if let Some(problem) = problem(pass) {
        return Finding::new(type_, false, &problem.reason, problem.message);
    }
    let of_pods = |validated| pods::problem(pass.observed, validated, &pass.before.conditions, pass.now);
    let unusable = pass
        .validated
        .ok()
        .and_then(of_pods)
        .filter(|problem| [pods::VOLUME_UNUSABLE, pods::VOLUME_NOT_WRITABLE].contains(&problem.reason.as_str()));
    if let Some(problem) = unusable {
        return Finding::new(type_, false, &problem.reason, problem.message);
    }
    match pass.validated {
        Err(refusal) if matches!(refusal.reason, "ClaimNotFound" | "ClaimDiffers" | "VolumeNotShared") => {
            Finding::new(type_, false, refusal.reason, &refusal.message)
        }
        Err(_) => Finding::new(type_, Truth::Unknown, "NotLookedAt", "see Ready"),
        Ok(validated) if validated.bucket().is_some() => bucket::finding(pass, validated),
        Ok(validated) => match (validated.claim_name(), pass.observed.claim.as_deref()) {
            (None, _) => Finding::new(type_, true, "EmptyDir", "the bytes live and die with the pod"),
            (Some(_), Some(claim)) if is_resizing(claim) => {
                Finding::new(type_, true, "Resizing", "the volume is being enlarged")
            }
            (Some(_), Some(claim)) if is_bound(claim) && validated.is_shared() => {
                Finding::new(type_, true, "Bound", "the volume is there")
            }
            (Some(_), Some(claim)) if is_bound(claim) => Finding::new(
                type_,
                true,
                "Bound",
                "the volume is there; it is not ReadWriteMany, so one pod serves, and replacing it interrupts service for some seconds",
            ),
            (Some(_), _) => Finding::new(type_, false, "ClaimPending", "the claim has no volume yet"),
        },
    }
}

/// What a human must do about the volume.
pub fn problem(pass: &Pass<'_>) -> Option<Problem> {
    let validated = pass.validated.ok()?;
    let claim = pass.observed.claim.as_deref()?;
    let name = validated.claim_name()?;
    if claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Lost") {
        return Some(Problem::stalled(
            "VolumeLost",
            format!("PersistentVolumeClaim {name} has lost its volume; restore the PersistentVolume"),
        ));
    }
    match pass.observed.storage_class {
        StorageClassState::Fine => None,
        StorageClassState::NoDefault => Some(Problem::stalled(
            "NoDefaultStorageClass",
            "the cluster has no default StorageClass; create a second Registry with spec.storage.persistentVolumeClaim.storageClassName, or let an administrator mark a class as default: kubectl annotate storageclass <name> storageclass.kubernetes.io/is-default-class=true --overwrite",
        )),
        StorageClassState::NotFound => {
            let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.clone()).unwrap_or_default();
            Some(Problem::stalled(
                "StorageClassNotFound",
                format!(
                    "there is no StorageClass {class}, which the PersistentVolumeClaim {name} asks for; create it, or delete this Registry and then the claim, which was never bound and holds nothing (kubectl -n {} delete pvc {name}), and create the Registry with a class that exists (kubectl get storageclass)",
                    validated.owner.namespace
                ),
            ))
        }
    }
}

fn capacity(claim: &PersistentVolumeClaim) -> Option<String> {
    Some(claim.status.as_ref()?.capacity.as_ref()?.get("storage")?.0.clone())
}

fn is_resizing(claim: &PersistentVolumeClaim) -> bool {
    let conditions = claim.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|conditions| {
        conditions.iter().any(|condition| matches!(condition.type_.as_str(), "Resizing" | "FileSystemResizePending"))
    })
}
