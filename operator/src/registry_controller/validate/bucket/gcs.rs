//! `spec.storage.gcs`

use berth_contract::config;

use super::{Credentials, Given, Section, ValidatedBucket, is_always, networks};
use crate::api::registry::{Gcs, SERVICE_ACCOUNT_KEY, ServiceAccountKeySecretRef};

pub(super) fn bucket(wish: &Gcs) -> Result<ValidatedBucket, &'static str> {
    let section = config::Gcs { bucket: wish.bucket.clone(), keyfile: None, rootdirectory: wish.prefix.clone() };
    Ok(ValidatedBucket {
        section: Section::Gcs(section),
        credentials: wish.credentials_secret_ref.as_ref().map(service_account_key),
        authorities: None,
        redirects: is_always(wish.redirect),
        redirect_except: networks(wish.redirect_except.as_ref())?,
    })
}

fn service_account_key(wish: &ServiceAccountKeySecretRef) -> Credentials {
    let key = wish.key.clone().unwrap_or_else(|| SERVICE_ACCOUNT_KEY.into());
    Credentials { secret: wish.name.clone(), given: Given::File(key) }
}
