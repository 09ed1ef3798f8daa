//! Containers of Azure Blob Storage.

use std::sync::Arc;

use berth_contract::config::{Azure, AzureCredentials, AzureCredentialsType};
use object_store::azure::{AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::signer::Signer;

use super::Object;
use super::advice::{Bucket, Provider};
use super::budget::Budgeted;
use super::open::{OpenBucketError, client, credentials, never, patient, variable};

/// What the platform tells of the identity that it gives
/// (<https://azure.github.io/azure-workload-identity/docs/topics/service-account-labels-and-annotations.html>).
const PLATFORM: &[(&str, AzureConfigKey)] = &[
    ("AZURE_CLIENT_ID", AzureConfigKey::ClientId),
    ("AZURE_TENANT_ID", AzureConfigKey::AuthorityId),
    ("AZURE_FEDERATED_TOKEN_FILE", AzureConfigKey::FederatedTokenFile),
    ("AZURE_AUTHORITY_HOST", AzureConfigKey::AuthorityHost),
    ("IDENTITY_ENDPOINT", AzureConfigKey::MsiEndpoint),
];

impl Object {
    /// The container that the configuration names. Nothing is asked of it yet.
    pub(crate) fn azure(config: &Azure, redirects: bool) -> Result<Self, OpenBucketError> {
        let builder = builder(config)?;
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

fn builder(config: &Azure) -> Result<MicrosoftAzureBuilder, OpenBucketError> {
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
