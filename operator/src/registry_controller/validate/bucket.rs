//! A bucket as it is written, made into what pods are configured with.

mod azure;
mod gcs;
mod s3;

use berth_contract::config;
use ipnet::IpNet;

use crate::api::registry::{Redirect, Storage};

/// A bucket, and where pods get what may not stand in their configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatedBucket {
    /// The section of the configuration file, without the files that pods mount. No credential is in it: whoever may read
    /// ConfigMaps may not know it.
    pub section: Section,
    /// Where the credentials are; with none the platform gives them.
    pub credentials: Option<Credentials>,
    /// Where authorities for the endpoint's certificate are.
    pub authorities: Option<Authorities>,
    /// Whether who pulls is sent to the bucket.
    pub redirects: bool,
    /// Whose clients are not.
    pub redirect_except: Vec<IpNet>,
}

/// Whose bucket it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Section {
    /// One of Amazon S3, or of anything that speaks its API.
    S3(config::S3),
    /// A container of Azure Blob Storage.
    Azure(config::Azure),
    /// One of Google Cloud Storage.
    Gcs(config::Gcs),
}

/// A Secret of the user's with credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The Secret.
    pub secret: String,
    /// How they reach the pods.
    pub given: Given,
}

/// How credentials reach the pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// As variables: the name of each, and the key in the Secret that holds its value.
    Variables(Vec<(&'static str, String)>),
    /// As a file, under this key.
    File(String),
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
    /// The field of the Registry that says all this.
    pub const fn field(&self) -> &'static str {
        match self.section {
            Section::S3(_) => "spec.storage.s3",
            Section::Azure(_) => "spec.storage.azure",
            Section::Gcs(_) => "spec.storage.gcs",
        }
    }

    /// The place, and where it is: two that differ may still be one, by two addresses.
    pub fn address(&self) -> String {
        let at = match &self.section {
            Section::S3(s3) => s3.regionendpoint.clone().unwrap_or_else(|| "s3".into()),
            Section::Azure(azure) => azure.endpoint(),
            Section::Gcs(_) => "gcs".into(),
        };
        format!("{at} {}", self.place())
    }

    /// Whether its provider calls it a container.
    pub const fn is_container(&self) -> bool {
        matches!(self.section, Section::Azure(_))
    }

    /// Which images these are: the bucket, and what their names begin with.
    pub fn place(&self) -> String {
        let (bucket, prefix) = match &self.section {
            Section::S3(s3) => (s3.bucket.clone(), &s3.rootdirectory),
            Section::Azure(azure) => (format!("{}/{}", azure.accountname, azure.container), &azure.rootdirectory),
            Section::Gcs(gcs) => (gcs.bucket.clone(), &gcs.rootdirectory),
        };
        std::iter::once(bucket).chain(prefix.iter().map(|prefix| format!("/{prefix}"))).collect()
    }
}

impl Credentials {
    /// The keys that the Secret must have.
    pub fn keys(&self) -> Vec<&str> {
        match &self.given {
            Given::Variables(variables) => variables.iter().map(|(_, key)| key.as_str()).collect(),
            Given::File(key) => vec![key],
        }
    }
}

/// What is written, with the defaults of what is not. `None`: the bytes are in no bucket.
pub fn bucket(storage: &Storage) -> Result<Option<ValidatedBucket>, &'static str> {
    match (&storage.s3, &storage.azure, &storage.gcs) {
        (None, None, None) => Ok(None),
        (Some(wish), None, None) => s3::bucket(wish).map(Some),
        (None, Some(wish), None) => azure::container(wish).map(Some),
        (None, None, Some(wish)) => gcs::bucket(wish).map(Some),
        _ => Err(super::ONE_KIND),
    }
}

fn is_always(redirect: Option<Redirect>) -> bool {
    redirect == Some(Redirect::Always)
}

/// The CRD lets through what is none only where the API server is older than the rule.
fn networks(wish: Option<&Vec<String>>) -> Result<Vec<IpNet>, &'static str> {
    let networks = wish.into_iter().flatten().map(|network| network.parse()).collect::<Result<_, _>>();
    networks.map_err(|_| "storage: redirectExcept: write networks as ADDRESS/LENGTH, such as 10.244.0.0/16")
}
