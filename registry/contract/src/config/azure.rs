//! `storage.azure`: distribution's keys, and `serviceurl`, which is ours.

use serde::{Deserialize, Serialize};

use super::given::given;
use super::s3::Secret;

/// `storage.azure`: a container of Azure Blob Storage.
///
/// Without `accountkey`, and without `credentials` of an application, the credentials are those of the environment or the
/// platform: a key of the account (`AZURE_STORAGE_KEY`), a workload identity (`AZURE_TENANT_ID`, `AZURE_CLIENT_ID`, `AZURE_FEDERATED_TOKEN_FILE`, `AZURE_AUTHORITY_HOST`), else the managed
/// identity of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Azure {
    /// The storage account.
    pub accountname: String,
    /// One of its two keys.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub accountkey: Option<Secret>,
    /// The container. It must exist.
    pub container: String,
    /// Who the registry is, where it is not the account's key that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<AzureCredentials>,
    /// What the names of the service's hosts end with. Default: `core.windows.net`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// Where the service is, if not at `https://ACCOUNT.blob.REALM`. Ours.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub serviceurl: Option<String>,
    /// What all names of blobs begin with. Default: nothing.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub rootdirectory: Option<String>,
}

/// `storage.azure.credentials`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AzureCredentials {
    /// Of which kind they are.
    pub r#type: AzureCredentialsType,
    /// The application.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub clientid: Option<String>,
    /// The directory that it is registered in.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub tenantid: Option<String>,
    /// Its secret.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
}

/// `storage.azure.credentials.type`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AzureCredentialsType {
    /// `accountkey`.
    SharedKey,
    /// An application with a secret.
    ClientSecret,
    /// What the platform gives.
    #[default]
    DefaultCredentials,
}

impl Azure {
    /// Where the service is.
    pub fn endpoint(&self) -> String {
        let realm = self.realm.as_deref().unwrap_or("core.windows.net");
        let default = || format!("https://{}.blob.{realm}", self.accountname);
        self.serviceurl.as_deref().map_or_else(default, |url| url.trim_end_matches('/').to_owned())
    }

    /// What contradicts itself in it.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let credentials = self.credentials.clone().unwrap_or_default();
        let is_whole = [credentials.clientid.is_some(), credentials.tenantid.is_some(), credentials.secret.is_some()];
        if self.accountname.is_empty() {
            Some("storage.azure.accountname is empty: name the storage account")
        } else if self.container.is_empty() {
            Some("storage.azure.container is empty: name the container")
        } else {
            match credentials.r#type {
                AzureCredentialsType::DefaultCredentials if is_whole.contains(&true) => Some(
                    "storage.azure.credentials has clientid, tenantid or secret: set its type to client_secret, or leave them out for \
                     what the platform gives",
                ),
                AzureCredentialsType::DefaultCredentials if self.credentials.is_some() && self.accountkey.is_some() => {
                    Some("storage.azure.accountkey and storage.azure.credentials exclude each other: leave out one")
                }
                AzureCredentialsType::ClientSecret if self.accountkey.is_some() => {
                    Some("storage.azure.accountkey and storage.azure.credentials exclude each other: leave out one")
                }
                AzureCredentialsType::ClientSecret if is_whole.contains(&false) => Some(
                    "storage.azure.credentials of type client_secret need clientid, tenantid and secret: give all three",
                ),
                AzureCredentialsType::SharedKey if self.accountkey.is_none() => Some(
                    "storage.azure.credentials of type shared_key need the account's key: give storage.azure.accountkey",
                ),
                _ => None,
            }
        }
    }
}
