//! A bucket as it is written, made into what pods are configured with.

use berth_contract::config;

use crate::api::registry::{ACCESS_KEY_ID, CA_CERTIFICATE, CaBundle, CaKeyRef, Redirect, S3, SECRET_ACCESS_KEY};

/// A bucket, and where pods get what may not stand in their configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatedBucket {
    /// The bucket's name.
    pub name: String,
    /// Its region, if it is named.
    pub region: Option<String>,
    /// Where its API is, if not at Amazon.
    pub endpoint: Option<String>,
    /// Whether it stands in the path.
    pub path_style: bool,
    /// What all objects' names begin with.
    pub prefix: Option<String>,
    /// Where the access key is; with none the platform gives credentials.
    pub access_key: Option<AccessKey>,
    /// Whether objects are encrypted at rest, whatever the bucket says.
    pub encrypt: bool,
    /// The key of a key management service that they are encrypted with.
    pub kms_key: Option<String>,
    /// The storage class of blobs.
    pub storage_class: Option<String>,
    /// Where authorities for the endpoint's certificate are.
    pub authorities: Option<Authorities>,
    /// Whether who pulls is sent to the bucket.
    pub redirects: bool,
}

/// A Secret of the user's with an access key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessKey {
    /// The Secret.
    pub secret: String,
    /// The key in it that holds the access key's id.
    pub id: String,
    /// The key in it that holds the access key's secret.
    pub secret_key: String,
}

/// Where certificates of authorities are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorities {
    /// In a ConfigMap of this name, under this key.
    ConfigMap(String, String),
    /// In a Secret of this name, under this key.
    Secret(String, String),
}

impl ValidatedBucket {
    /// The configuration's section. The access key is not in it: whoever may read ConfigMaps may not know it.
    pub fn section(&self, authorities: &str) -> config::S3 {
        config::S3 {
            bucket: self.name.clone(),
            region: self.region.clone(),
            regionendpoint: self.endpoint.clone(),
            redirectendpoint: None,
            forcepathstyle: self.path_style,
            accesskey: None,
            secretkey: None,
            secure: true,
            cabundle: self.authorities.is_some().then(|| authorities.into()),
            encrypt: self.encrypt,
            keyid: self.kms_key.clone(),
            storageclass: self.storage_class.clone(),
            rootdirectory: self.prefix.clone(),
        }
    }
}

/// What is written, with the defaults of what is not.
pub(super) fn bucket(wish: &S3) -> Result<ValidatedBucket, &'static str> {
    let (encrypt, kms_key) = match &wish.server_side_encryption {
        None => (false, None),
        Some(encryption) => match (&encryption.aes256, &encryption.kms) {
            (Some(_), None) => (true, None),
            (None, Some(kms)) => (true, Some(kms.key_id.clone())),
            _ => return Err("storage.s3.serverSideEncryption: write exactly one of aes256 and kms"),
        },
    };
    let access_key = wish.credentials_secret_ref.as_ref().map(|reference| AccessKey {
        secret: reference.name.clone(),
        id: reference.access_key_id_key.clone().unwrap_or_else(|| ACCESS_KEY_ID.into()),
        secret_key: reference.secret_access_key_key.clone().unwrap_or_else(|| SECRET_ACCESS_KEY.into()),
    });
    Ok(ValidatedBucket {
        name: wish.bucket.clone(),
        region: wish.region.clone(),
        endpoint: wish.endpoint.clone(),
        path_style: wish.force_path_style.unwrap_or(wish.endpoint.is_some()),
        prefix: wish.prefix.clone(),
        access_key,
        encrypt,
        kms_key,
        storage_class: wish.storage_class.clone(),
        authorities: wish.ca_bundle.as_ref().map(authorities).transpose()?,
        redirects: wish.redirect.map_or(wish.endpoint.is_none(), |redirect| redirect == Redirect::Always),
    })
}

fn authorities(wish: &CaBundle) -> Result<Authorities, &'static str> {
    let key = |reference: &CaKeyRef| reference.key.clone().unwrap_or_else(|| CA_CERTIFICATE.into());
    match (&wish.config_map_key_ref, &wish.secret_key_ref) {
        (Some(map), None) => Ok(Authorities::ConfigMap(map.name.clone(), key(map))),
        (None, Some(secret)) => Ok(Authorities::Secret(secret.name.clone(), key(secret))),
        _ => Err("storage.s3.caBundle: write exactly one of configMapKeyRef and secretKeyRef"),
    }
}
