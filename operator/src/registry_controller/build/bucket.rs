//! What pods need to know of a bucket: a section of their configuration, variables, files, and a label.

use berth_contract::config::{Gcs, S3, Storage};
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EnvVar, EnvVarSource, KeyToPath, SecretKeySelector, Volume, VolumeMount,
};

use super::deployment::{mounted, secret};
use super::{BUCKET_KEY, BUCKET_TLS};
use crate::api::registry::{CA_CERTIFICATE, SERVICE_ACCOUNT_KEY, USES_WORKLOAD_IDENTITY, WORKLOAD_IDENTITY};
use crate::registry_controller::validate::{
    Authorities, Credentials, Given, Section, ValidatedBucket, ValidatedRegistry,
};

/// Says in the configuration where the bucket is, and which files go with it.
pub fn configure(storage: &mut Storage, bucket: &ValidatedBucket) {
    match &bucket.section {
        Section::S3(s3) => {
            let cabundle = bucket.authorities.as_ref().map(|_| format!("{BUCKET_TLS}/{CA_CERTIFICATE}").into());
            storage.s3 = Some(S3 { cabundle, ..s3.clone() });
        }
        Section::Azure(azure) => storage.azure = Some(azure.clone()),
        Section::Gcs(gcs) => {
            let keyfile = bucket.credentials.as_ref().map(|_| format!("{BUCKET_KEY}/{SERVICE_ACCOUNT_KEY}").into());
            storage.gcs = Some(Gcs { keyfile, ..gcs.clone() });
        }
    }
    storage.redirect.disable = Some(!bucket.redirects);
    storage.redirect.except.clone_from(&bucket.redirect_except);
}

/// The user's credentials, under names that the registry knows. The kubelet reads them anew each time that it starts the container,
/// so a pod that fails for a wrong key takes the right one by itself; and what is in a variable need not be YAML, as under a name of
/// the configuration's.
pub fn variables(bucket: &ValidatedBucket) -> Option<Vec<EnvVar>> {
    let Credentials { secret, given: Given::Variables(variables) } = bucket.credentials.as_ref()? else { return None };
    let variable = |(name, key): &(&str, String)| EnvVar {
        name: (*name).into(),
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector { name: secret.clone(), key: key.clone(), optional: None }),
            ..Default::default()
        }),
        ..Default::default()
    };
    Some(variables.iter().map(variable).collect())
}

/// Authorities, and credentials that come as a file.
pub fn volumes(bucket: &ValidatedBucket) -> Vec<(Volume, VolumeMount)> {
    let mut volumes = Vec::new();
    if let Some(found) = &bucket.authorities {
        volumes.push(mounted("bucket", BUCKET_TLS, true, authorities(found)));
    }
    if let Some(Credentials { secret: name, given: Given::File(key) }) = &bucket.credentials {
        let file = secret(name, Some(vec![(key.as_str(), SERVICE_ACCOUNT_KEY)]));
        volumes.push(mounted("bucket-key", BUCKET_KEY, true, file));
    }
    volumes
}

fn authorities(authorities: &Authorities) -> Volume {
    match authorities {
        Authorities::Secret(name, key) => secret(name, Some(vec![(key.as_str(), CA_CERTIFICATE)])),
        Authorities::ConfigMap(name, key) => {
            let item = KeyToPath { key: key.clone(), path: CA_CERTIFICATE.into(), mode: None };
            let map = ConfigMapVolumeSource { name: name.clone(), items: Some(vec![item]), ..Default::default() };
            Volume { config_map: Some(map), ..Default::default() }
        }
    }
}

/// Azure gives an identity to pods that ask for it by a label; that their ServiceAccount names one is not enough
/// (<https://azure.github.io/azure-workload-identity/docs/topics/service-account-labels-and-annotations.html>).
pub fn identity_label(registry: &ValidatedRegistry) -> Option<(&'static str, &'static str)> {
    let bucket = registry.bucket().filter(|bucket| bucket.credentials.is_none())?;
    let is_named = registry.pod_template.service_account_annotations.contains_key(WORKLOAD_IDENTITY);
    (is_named && matches!(bucket.section, Section::Azure(_))).then_some((USES_WORKLOAD_IDENTITY, "true"))
}
