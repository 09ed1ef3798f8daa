//! Buckets of Google Cloud Storage.

use std::sync::Arc;

use berth_contract::config::Gcs;
use object_store::gcp::GoogleCloudStorageBuilder;
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
        // Of what stands in the section only the key can be something that nothing is made of.
        let key = if config.keyfile.is_some() { "gcs.keyfile" } else { "gcs" };
        let build =
            |builder: GoogleCloudStorageBuilder| builder.build().map_err(|error| OpenBucketError::Config(key, error));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_holds_no_key_is_named() {
        for file in ["/nowhere", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")] {
            let section = serde_json::json!({"bucket": "images", "keyfile": file});
            let refused = Object::gcs(&serde_json::from_value(section).unwrap(), false).unwrap_err();
            assert!(refused.to_string().starts_with("storage.gcs.keyfile: "), "{refused}");
        }
    }
}
