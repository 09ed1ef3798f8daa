//! Buckets of Amazon S3 and of everything that speaks its API.

use std::sync::Arc;

use berth_contract::config::S3;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{HttpClient, HttpConnector, ReqwestConnector};
use object_store::signer::Signer;
use object_store::{Attribute, Attributes};

use super::Object;
use super::advice::{Bucket, Provider};
use super::budget::Budgeted;
use super::open::{OpenBucketError, client, credentials, never, patient, refuse_empty, variable};
use super::signed::Signed;

impl Object {
    /// The bucket that the configuration names. Nothing is asked of it yet.
    pub(crate) fn s3(config: &S3, redirects: bool) -> Result<Self, OpenBucketError> {
        if config.accesskey.is_none() {
            refuse_empty(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])?;
        }
        let builder = builder(config, &variable)?;
        let objects = Arc::new(build(builder.clone().with_retry(patient()))?);
        // With the same credentials: what the platform gives is fetched once.
        let once = build(builder.with_retry(never()).with_credentials(Arc::clone(objects.credentials())))?;
        let signed = Signed { signer: Arc::clone(&objects) as _, http: http(config)? };
        let pullers = redirects.then(|| pullers(config, &variable, &objects)).transpose()?;
        let class = config.storageclass.clone();
        let credentials = credentials(objects.credentials());
        let bucket = Bucket { provider: Provider::S3, name: config.bucket.clone() };
        Ok(Self {
            signed: Some(signed),
            pullers,
            encryption: config.encrypt.then_some(if config.keyid.is_some() { "aws:kms" } else { "AES256" }),
            class: class.map(|class| Attributes::from_iter([(Attribute::StorageClass, class)])).unwrap_or_default(),
            ..Self::opened(objects, once, credentials, bucket, config.rootdirectory.as_deref())
        })
    }
}

/// The bucket as pullers reach it, with the same credentials.
fn pullers(
    config: &S3,
    variable: &dyn Fn(&str) -> Option<String>,
    objects: &AmazonS3,
) -> Result<Arc<dyn Signer>, OpenBucketError> {
    let regionendpoint = config.redirectendpoint.clone().or_else(|| config.regionendpoint.clone());
    let theirs = S3 { regionendpoint, ..config.clone() };
    let builder = builder(&theirs, variable)?.with_credentials(Arc::clone(objects.credentials()));
    Ok(Arc::new(build(builder)?))
}

fn http(config: &S3) -> Result<HttpClient, OpenBucketError> {
    let client = client(config.cabundle.as_ref())?.with_allow_http(true);
    ReqwestConnector::default().connect(&client).map_err(failed)
}

fn failed(error: object_store::Error) -> OpenBucketError {
    OpenBucketError::Config("s3", error)
}

fn build(builder: AmazonS3Builder) -> Result<AmazonS3, OpenBucketError> {
    builder.build().map_err(failed)
}

/// What the platform tells of the credentials that it gives
/// (<https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html>). Nothing else of the environment counts: a
/// variable that somebody set for another program must not send blobs to another place.
const CREDENTIALS: &[AmazonS3ConfigKey] = &[
    AmazonS3ConfigKey::AccessKeyId,
    AmazonS3ConfigKey::SecretAccessKey,
    AmazonS3ConfigKey::Token,
    AmazonS3ConfigKey::WebIdentityTokenFile,
    AmazonS3ConfigKey::RoleArn,
    AmazonS3ConfigKey::RoleSessionName,
    AmazonS3ConfigKey::StsEndpoint,
    AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
    AmazonS3ConfigKey::ContainerCredentialsFullUri,
    AmazonS3ConfigKey::ContainerAuthorizationTokenFile,
    AmazonS3ConfigKey::MetadataEndpoint,
];

fn builder(config: &S3, variable: &dyn Fn(&str) -> Option<String>) -> Result<AmazonS3Builder, OpenBucketError> {
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&config.bucket)
        .with_virtual_hosted_style_request(!config.forcepathstyle)
        .with_http_connector(Budgeted::default())
        .with_client_options(client(config.cabundle.as_ref())?);
    let region = config.region.clone().or_else(|| variable("AWS_REGION")).or_else(|| variable("AWS_DEFAULT_REGION"));
    if let Some(region) = region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = config.endpoint() {
        builder = builder.with_allow_http(endpoint.starts_with("http://")).with_endpoint(endpoint);
    }
    if let (Some(id), Some(secret)) = (&config.accesskey, &config.secretkey) {
        builder = builder.with_access_key_id(id).with_secret_access_key(&secret.0);
    } else {
        for key in CREDENTIALS {
            if let Some(value) = variable(&key.as_ref().to_uppercase()) {
                builder = builder.with_config(*key, value);
            }
        }
    }
    if config.encrypt {
        builder = match &config.keyid {
            Some(key) => builder.with_sse_kms_encryption(key),
            None => {
                let kind = "aws_server_side_encryption".parse().map_err(failed)?;
                builder.with_config(kind, "AES256")
            }
        };
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(document: serde_json::Value, environment: &[(&str, &str)]) -> AmazonS3Builder {
        let variable =
            |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        builder(&serde_json::from_value(document).unwrap(), &variable).unwrap()
    }

    #[test]
    fn of_the_environment_only_what_the_file_leaves_out_counts() {
        let environment = [
            ("AWS_ACCESS_KEY_ID", "other"),
            ("AWS_SECRET_ACCESS_KEY", "other"),
            ("AWS_SESSION_TOKEN", "other"),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ENDPOINT_URL_S3", "https://elsewhere"),
            ("AWS_SKIP_SIGNATURE", "true"),
        ];
        let own = built(
            serde_json::json!({"bucket": "b", "region": "", "accesskey": "own", "secretkey": "own"}),
            &environment,
        );
        let of = |builder: &AmazonS3Builder, key: AmazonS3ConfigKey| builder.get_config_value(&key);
        assert_eq!(of(&own, AmazonS3ConfigKey::AccessKeyId).as_deref(), Some("own"));
        assert_eq!(of(&own, AmazonS3ConfigKey::Token), None, "a token of another key would be refused with it");
        assert_eq!(
            of(&own, AmazonS3ConfigKey::Region).as_deref(),
            Some("eu-west-1"),
            "an empty key of the file is none"
        );
        assert_eq!(of(&own, AmazonS3ConfigKey::S3Endpoint), None);
        assert_eq!(of(&own, AmazonS3ConfigKey::SkipSignature).as_deref(), Some("false"));

        let platform = built(serde_json::json!({"bucket": "b", "region": "us-east-2"}), &environment);
        assert_eq!(of(&platform, AmazonS3ConfigKey::AccessKeyId).as_deref(), Some("other"));
        assert_eq!(of(&platform, AmazonS3ConfigKey::Token).as_deref(), Some("other"));
        assert_eq!(of(&platform, AmazonS3ConfigKey::Region).as_deref(), Some("us-east-2"));
    }
}
