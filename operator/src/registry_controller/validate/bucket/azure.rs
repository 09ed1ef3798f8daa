//! `spec.storage.azure`

use berth_contract::config;

use super::{Credentials, Given, Section, ValidatedBucket, is_always, networks};
use crate::api::registry::{AccountKeySecretRef, Azure, STORAGE_KEY};

pub(super) fn container(wish: &Azure) -> Result<ValidatedBucket, &'static str> {
    let section = config::Azure {
        accountname: wish.account_name.clone(),
        accountkey: None,
        container: wish.container.clone(),
        credentials: None,
        realm: None,
        serviceurl: wish.endpoint.clone(),
        rootdirectory: wish.prefix.clone(),
    };
    Ok(ValidatedBucket {
        section: Section::Azure(section),
        credentials: wish.credentials_secret_ref.as_ref().map(account_key),
        authorities: None,
        redirects: is_always(wish.redirect),
        redirect_except: networks(wish.redirect_except.as_ref())?,
    })
}

fn account_key(wish: &AccountKeySecretRef) -> Credentials {
    let key = wish.account_key_key.clone().unwrap_or_else(|| STORAGE_KEY.into());
    Credentials { secret: wish.name.clone(), given: Given::Variables(vec![(STORAGE_KEY, key)]) }
}
