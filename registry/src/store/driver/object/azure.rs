//! Containers of Azure Blob Storage.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use berth_contract::config::{Azure, AzureCredentials, AzureCredentialsType};
use object_store::azure::{AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::signer::Signer;

use super::Object;
use super::advice::{Bucket, Provider};
use super::budget::Budgeted;
use super::open::{OpenBucketError, client, credentials, never, patient, refuse_empty, variable};

/// The account's key, where it is not in the file.
const ACCOUNT_KEY: &str = "AZURE_STORAGE_KEY";
/// That, and what the platform tells of the identity that it gives
/// (<https://azure.github.io/azure-workload-identity/docs/topics/service-account-labels-and-annotations.html>).
const PLATFORM: &[(&str, AzureConfigKey)] = &[
    (ACCOUNT_KEY, AzureConfigKey::AccessKey),
    ("AZURE_CLIENT_ID", AzureConfigKey::ClientId),
    ("AZURE_TENANT_ID", AzureConfigKey::AuthorityId),
    ("AZURE_FEDERATED_TOKEN_FILE", AzureConfigKey::FederatedTokenFile),
    ("AZURE_AUTHORITY_HOST", AzureConfigKey::AuthorityHost),
    ("IDENTITY_ENDPOINT", AzureConfigKey::MsiEndpoint),
];

impl Object {
    /// The container that the configuration names. Nothing is asked of it yet.
    pub(crate) fn azure(config: &Azure, redirects: bool) -> Result<Self, OpenBucketError> {
        if config.accountkey.is_none() && config.credentials.is_none() {
            refuse_empty(&[ACCOUNT_KEY])?;
        }
        let builder = builder(config, &variable)?;
        if builder.get_config_value(&AzureConfigKey::AccessKey).is_some_and(|key| BASE64.decode(key).is_err()) {
            return Err(OpenBucketError::AccountKey);
        }
        let objects = Arc::new(build(builder.clone().with_retry(patient()))?);
        // With the same credentials: what the platform gives is fetched once.
        let once = build(builder.with_retry(never()).with_credentials(Arc::clone(objects.credentials())))?;
        let credentials = credentials(objects.credentials());
        let bucket = Bucket { provider: Provider::Azure, name: config.container.clone() };
        Ok(Self {
            // Blocks that nobody put together are gone after a week.
            signed: None,
            pullers: redirects.then(|| Arc::clone(&objects) as Arc<dyn Signer>),
            ..Self::opened(objects, once, credentials, bucket, config.rootdirectory.as_deref())
        })
    }
}

fn build(builder: MicrosoftAzureBuilder) -> Result<MicrosoftAzure, OpenBucketError> {
    builder.build().map_err(|error| OpenBucketError::Config("azure", error))
}

fn builder(
    config: &Azure,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<MicrosoftAzureBuilder, OpenBucketError> {
    let endpoint = config.endpoint();
    let builder = MicrosoftAzureBuilder::new()
        .with_account(&config.accountname)
        .with_container_name(&config.container)
        .with_http_connector(Budgeted::default())
        .with_client_options(client(None)?)
        .with_allow_http(endpoint.starts_with("http://"))
        .with_endpoint(endpoint);
    let AzureCredentials { r#type, clientid, tenantid, secret } = config.credentials.clone().unwrap_or_default();
    Ok(match (r#type, &config.accountkey, clientid, tenantid, secret) {
        (AzureCredentialsType::ClientSecret, _, Some(client), Some(tenant), Some(secret)) => {
            let builder = builder.with_client_secret_authorization(client, secret.0, tenant);
            match variable("AZURE_AUTHORITY_HOST") {
                Some(host) => builder.with_authority_host(host),
                None => builder,
            }
        }
        (_, Some(key), ..) => builder.with_access_key(&key.0),
        _ => PLATFORM.iter().fold(builder, |builder, (name, key)| match variable(name) {
            Some(value) => builder.with_config(*key, value),
            None => builder,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_environment_the_accounts_key_counts_where_the_file_has_none() {
        let environment = [("AZURE_STORAGE_KEY", "dGhlaXJz"), ("AZURE_CLIENT_ID", "somebody")];
        let variable =
            |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let key = |more: serde_json::Value| {
            let mut section = serde_json::json!({"accountname": "berth", "container": "images"});
            section.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let builder = builder(&serde_json::from_value(section).unwrap(), &variable).unwrap();
            builder.get_config_value(&AzureConfigKey::AccessKey)
        };
        assert_eq!(key(serde_json::json!({})).as_deref(), Some("dGhlaXJz"));
        assert_eq!(key(serde_json::json!({"accountkey": "b3Vycw=="})).as_deref(), Some("b3Vycw=="));
        let application = serde_json::json!({"type": "client_secret", "clientid": "a", "tenantid": "b", "secret": "c"});
        assert_eq!(key(serde_json::json!({"credentials": application})), None);
    }

    #[test]
    fn a_key_that_is_none_is_named_with_what_it_should_be() {
        let section = serde_json::json!({"accountname": "berth", "container": "images", "accountkey": "no key"});
        let refused = Object::azure(&serde_json::from_value(section).unwrap(), false).unwrap_err();
        assert!(
            refused.to_string().starts_with("storage.azure.accountkey, or AZURE_STORAGE_KEY, is no key"),
            "{refused}"
        );
    }
}
