//! Buckets of Google Cloud Storage.

use std::sync::Arc;

use berth_contract::config::Gcs;
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder};
use object_store::signer::Signer;

use super::Object;
use super::advice::{Bucket, Provider};
use super::budget::Budgeted;
use super::open::{OpenBucketError, client, credentials, never, patient, variable};

impl Object {
    /// The bucket that the configuration names. Nothing is asked of it yet.
    pub(crate) fn gcs(config: &Gcs, redirects: bool) -> Result<Self, OpenBucketError> {
        let mut builder = GoogleCloudStorageBuilder::new()
            .with_bucket_name(&config.bucket)
            .with_http_connector(Budgeted::default())
            .with_client_options(client(None)?);
        if let Some(keyfile) = &config.keyfile {
            builder = builder.with_service_account_path(keyfile.to_string_lossy());
        } else if let Some(file) = variable("GOOGLE_APPLICATION_CREDENTIALS") {
            builder = builder.with_application_credentials(file);
        }
        let objects = Arc::new(build(builder.clone().with_retry(patient()))?);
        // With the same credentials: what the platform gives is fetched once.
        let once = build(builder.with_retry(never()).with_credentials(Arc::clone(objects.credentials())))?;
        let credentials = credentials(objects.credentials());
        let bucket = Bucket { provider: Provider::Gcs, name: config.bucket.clone() };
        Ok(Self {
            // What was not finished is left to a lifecycle rule of the bucket.
            signed: None,
            pullers: redirects.then(|| Arc::clone(&objects) as Arc<dyn Signer>),
            ..Self::opened(objects, once, credentials, bucket, config.rootdirectory.as_deref())
        })
    }
}

fn build(builder: GoogleCloudStorageBuilder) -> Result<GoogleCloudStorage, OpenBucketError> {
    builder.build().map_err(|error| OpenBucketError::Config("gcs", error))
}
