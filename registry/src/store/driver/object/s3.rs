//! Buckets of Amazon S3 and of everything that speaks its API.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use berth_contract::config::S3;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{Attribute, Attributes, Certificate, ClientOptions, RetryConfig};

use super::Object;

/// Why a bucket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenBucketError {
    /// The authorities cannot be read.
    #[error("storage.s3.cabundle: {0} cannot be read: {1}")]
    Authorities(PathBuf, #[source] io::Error),
    /// They are none.
    #[error("storage.s3.cabundle: {0} holds no certificate in PEM")]
    NoAuthorities(PathBuf),
    /// The rest of the configuration cannot be acted on.
    #[error("storage.s3: {0}")]
    Config(#[source] object_store::Error),
}

/// For a connection to be made.
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);
/// For the next bytes of an answer. There is no limit for a whole one: a blob takes as long as its reader.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);
/// A connection that nobody uses is closed before the store might do it: a request that is on its way at that moment is lost, and
/// some are not sent again.
const IDLE_FOR: Duration = Duration::from_secs(15);
/// How often what may be tried again is, with growing pauses of random length between.
const RETRIES: usize = 5;
/// After so long nothing is tried again: its client has a limit too.
const RETRIED_FOR: Duration = Duration::from_secs(60);

impl Object {
    /// The bucket that the configuration names. Nothing is asked of it yet.
    pub(crate) fn s3(config: &S3) -> Result<Self, OpenBucketError> {
        let builder = builder(config, &|name| std::env::var(name).ok().filter(|value| !value.is_empty()))?;
        let patient = RetryConfig { max_retries: RETRIES, retry_timeout: RETRIED_FOR, ..RetryConfig::default() };
        let objects = Arc::new(build(builder.clone().with_retry(patient))?);
        // With the same credentials: what the platform gives is fetched once.
        let never = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let once = build(builder.with_retry(never).with_credentials(Arc::clone(objects.credentials())))?;
        let root = config.rootdirectory.as_deref().unwrap_or_default().trim_matches('/');
        let class = config.storageclass.clone();
        Ok(Self {
            credentials: Some(Arc::clone(objects.credentials())),
            pages: Some(Arc::clone(&objects) as _),
            objects,
            once: Arc::new(once),
            bucket: config.bucket.clone(),
            ignores_conditions: Arc::default(),
            root: if root.is_empty() { String::new() } else { format!("{root}/") },
            class: class.map(|class| Attributes::from_iter([(Attribute::StorageClass, class)])).unwrap_or_default(),
        })
    }
}

fn build(builder: AmazonS3Builder) -> Result<AmazonS3, OpenBucketError> {
    builder.build().map_err(OpenBucketError::Config)
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
        .with_client_options(client(config)?);
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
                let kind = "aws_server_side_encryption".parse().map_err(OpenBucketError::Config)?;
                builder.with_config(kind, "AES256")
            }
        };
    }
    Ok(builder)
}

fn client(config: &S3) -> Result<ClientOptions, OpenBucketError> {
    let agent = http::HeaderValue::from_static(concat!("berth-registry/", env!("CARGO_PKG_VERSION")));
    let mut client = ClientOptions::new()
        .with_user_agent(agent)
        .with_connect_timeout(CONNECTED_WITHIN)
        .with_pool_idle_timeout(IDLE_FOR)
        .with_read_timeout(ANSWERED_WITHIN)
        .with_timeout_disabled();
    if let Some(path) = &config.cabundle {
        let pem = fs::read(path).map_err(|error| OpenBucketError::Authorities(path.clone(), error))?;
        let authorities = Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if authorities.is_empty() {
            return Err(OpenBucketError::NoAuthorities(path.clone()));
        }
        client = authorities.into_iter().fold(client, ClientOptions::with_root_certificate);
    }
    Ok(client)
}

#[cfg(test)]
impl Object {
    /// A part of the bucket that `BERTH_TEST_S3_*` names, as nobody has it.
    pub(crate) fn in_a_test_bucket() -> Self {
        let variable = |name: &str| {
            let name = format!("BERTH_TEST_S3_{name}");
            std::env::var(&name)
                .unwrap_or_else(|_| panic!("{name} is not set: run this by the bin `with-s3` of berth-e2e"))
        };
        let document = serde_json::json!({
            "bucket": variable("BUCKET"),
            "region": "us-east-1",
            "regionendpoint": variable("ENDPOINT"),
            "forcepathstyle": true,
            "accesskey": variable("ACCESS_KEY"),
            "secretkey": variable("SECRET_KEY"),
            "rootdirectory": ulid::Ulid::generate().to_string(),
        });
        Self::s3(&serde_json::from_value(document).unwrap()).unwrap()
    }
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
