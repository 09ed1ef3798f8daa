//! `spec.storage.s3`

use berth_contract::config;

use super::{Authorities, Credentials, Given, Section, ValidatedBucket, networks};
use crate::api::registry::{
    ACCESS_KEY_ID, AccessKeySecretRef, CA_CERTIFICATE, CaBundle, CaKeyRef, Redirect, S3, SECRET_ACCESS_KEY,
};

pub(super) fn bucket(wish: &S3) -> Result<ValidatedBucket, &'static str> {
    let (encrypt, keyid) = match &wish.server_side_encryption {
        None => (false, None),
        Some(encryption) => match (&encryption.aes256, &encryption.kms) {
            (Some(_), None) => (true, None),
            (None, Some(kms)) => (true, Some(kms.key_id.clone())),
            _ => return Err("storage.s3.serverSideEncryption: write exactly one of aes256 and kms"),
        },
    };
    let section = config::S3 {
        bucket: wish.bucket.clone(),
        region: wish.region.clone(),
        regionendpoint: wish.endpoint.clone(),
        redirectendpoint: None,
        forcepathstyle: wish.force_path_style.unwrap_or(wish.endpoint.is_some()),
        accesskey: None,
        secretkey: None,
        secure: true,
        cabundle: None,
        encrypt,
        keyid,
        storageclass: wish.storage_class.clone(),
        rootdirectory: wish.prefix.clone(),
    };
    Ok(ValidatedBucket {
        section: Section::S3(section),
        credentials: wish.credentials_secret_ref.as_ref().map(access_key),
        authorities: wish.ca_bundle.as_ref().map(authorities).transpose()?,
        redirects: wish.redirect.map_or(wish.endpoint.is_none(), |redirect| redirect == Redirect::Always),
        redirect_except: networks(wish.redirect_except.as_ref())?,
    })
}

/// Under the names that every S3 client knows.
fn access_key(wish: &AccessKeySecretRef) -> Credentials {
    let id = wish.access_key_id_key.clone().unwrap_or_else(|| ACCESS_KEY_ID.into());
    let secret = wish.secret_access_key_key.clone().unwrap_or_else(|| SECRET_ACCESS_KEY.into());
    let given = Given::Variables(vec![(ACCESS_KEY_ID, id), (SECRET_ACCESS_KEY, secret)]);
    Credentials { secret: wish.name.clone(), given }
}

fn authorities(wish: &CaBundle) -> Result<Authorities, &'static str> {
    let key = |reference: &CaKeyRef| reference.key.clone().unwrap_or_else(|| CA_CERTIFICATE.into());
    match (&wish.config_map_key_ref, &wish.secret_key_ref) {
        (Some(map), None) => Ok(Authorities::ConfigMap(map.name.clone(), key(map))),
        (None, Some(secret)) => Ok(Authorities::Secret(secret.name.clone(), key(secret))),
        _ => Err("storage.s3.caBundle: write exactly one of configMapKeyRef and secretKeyRef"),
    }
}
