//! What is the matter with a bucket and what to do about it: one sentence, which names the key of the configuration.

use object_store::Error as ObjectError;

use super::error::{code, element, reason, texts};

/// Whose API it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Provider {
    Memory,
    S3,
    Gcs,
    Azure,
}

/// A bucket, as messages name it.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    pub(super) provider: Provider,
    pub(super) name: String,
}

impl Bucket {
    /// What to do when the bucket cannot be used.
    pub(super) fn advice(&self, error: &ObjectError, doing: &str) -> String {
        let name = &self.name;
        if let Some(advice) = code(error).and_then(|code| self.advice_on(&code, error, doing)) {
            return advice;
        }
        let reason = reason(error);
        match error {
            // A redirect, which a bucket's own region would not answer with.
            _ if reason.contains("without LOCATION") => self.other_region(None),
            ObjectError::PermissionDenied { .. } => self.no_right(doing),
            ObjectError::Unauthenticated { .. } => format!("{}: {reason}", self.bad_credentials()),
            _ if code(error).is_some() => format!("the store refuses to {doing} in the bucket {name}: {reason}"),
            _ => format!("the store of the bucket {name} cannot be asked to {doing}: {reason}"),
        }
    }

    fn advice_on(&self, code: &str, error: &ObjectError, doing: &str) -> Option<String> {
        Some(match code {
            "NoSuchBucket" | "ContainerNotFound" => {
                let (name, key) = (&self.name, self.key());
                format!("there is no bucket {name}: create it, or correct {key}")
            }
            "InvalidAccessKeyId" | "XAdminUserNotFound" => "the store does not know the access key: correct \
                storage.s3.accesskey, or the credentials that the platform gives"
                .into(),
            "SignatureDoesNotMatch" => {
                "the secret is not that of the access key: correct storage.s3.secretkey, or the \
                credentials that the platform gives"
                    .into()
            }
            // Microsoft has one code for a wrong key and for a wrong clock.
            "AuthenticationFailed" if texts(error).any(|text| text.contains("date header")) => Self::clocks(),
            "RequestTimeTooSkewed" | "RequestExpired" => Self::clocks(),
            "AuthenticationFailed" | "InvalidAuthenticationInfo" | "NoAuthenticationInformation" => {
                self.bad_credentials()
            }
            "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => {
                "the credentials that the platform gives have expired or are not for this store".into()
            }
            "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
                self.other_region(element(error, "Region"))
            }
            "AccessDenied"
            | "AllAccessDisabled"
            | "AccountProblem"
            | "AuthorizationFailure"
            | "AuthorizationPermissionMismatch"
            | "InsufficientAccountPermissions" => self.no_right(doing),
            _ => return None,
        })
    }

    /// What to do when there are no credentials to begin with.
    pub(super) fn without_credentials(&self, error: &ObjectError) -> String {
        let reason = reason(error);
        let given = match self.provider {
            Provider::S3 => {
                "give storage.s3.accesskey and storage.s3.secretkey, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            }
            Provider::Gcs => "name a key as storage.gcs.keyfile, or as GOOGLE_APPLICATION_CREDENTIALS",
            Provider::Azure => "give storage.azure.accountkey or storage.azure.credentials, or AZURE_STORAGE_KEY",
            Provider::Memory => "give some",
        };
        format!(
            "the platform gives no credentials: {given}, or let the platform know who this is (a role of the ServiceAccount or \
             of the instance): {reason}"
        )
    }

    fn clocks() -> String {
        "the clocks of this machine and of the store are more than a quarter of an hour apart: set them (NTP)".into()
    }

    fn bad_credentials(&self) -> String {
        let key = match self.provider {
            Provider::S3 | Provider::Memory => "storage.s3.accesskey and storage.s3.secretkey",
            Provider::Gcs => "storage.gcs.keyfile",
            Provider::Azure => "storage.azure.accountkey or storage.azure.credentials",
        };
        format!("the store does not accept the credentials: correct {key}, or what the platform gives")
    }

    fn no_right(&self, doing: &str) -> String {
        let rights = match self.provider {
            Provider::S3 | Provider::Memory => {
                "s3:ListBucket, s3:ListBucketMultipartUploads, s3:GetObject, s3:PutObject, s3:DeleteObject and \
                 s3:AbortMultipartUpload and, where storage.s3.keyid is given, kms:GenerateDataKey and kms:Decrypt"
            }
            Provider::Gcs => "what is in the role roles/storage.objectUser",
            Provider::Azure => "what is in the role Storage Blob Data Contributor",
        };
        format!("the credentials may not {doing} in the bucket {}: allow {rights}", self.name)
    }

    fn other_region(&self, region: Option<String>) -> String {
        let (name, key) = (&self.name, self.key());
        let region = region.map_or_else(|| "it".into(), |region| format!("{region}, or correct {key}"));
        format!("the bucket {name} is in another region: set storage.s3.region to {region}")
    }

    /// The key that names it.
    const fn key(&self) -> &'static str {
        match self.provider {
            Provider::S3 | Provider::Memory => "storage.s3.bucket",
            Provider::Gcs => "storage.gcs.bucket",
            Provider::Azure => "storage.azure.container",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(provider: Provider, document: &str) -> String {
        let error = ObjectError::Generic { store: "S3", source: document.into() };
        Bucket { provider, name: "b".into() }.advice(&error, "write")
    }

    #[test]
    fn each_provider_is_spoken_of_in_the_keys_of_its_own_section() {
        let missing = advice(Provider::S3, "<Error><Code>NoSuchBucket</Code><Message>x</Message></Error>");
        assert_eq!(missing, "there is no bucket b: create it, or correct storage.s3.bucket");
        let missing = advice(Provider::Azure, "<Error><Code>ContainerNotFound</Code></Error>");
        assert_eq!(missing, "there is no bucket b: create it, or correct storage.azure.container");
        assert!(advice(Provider::Gcs, "<Error><Code>AccessDenied</Code></Error>").contains("roles/storage.objectUser"));
        assert!(
            advice(Provider::Azure, "<Error><Code>AuthenticationFailed</Code></Error>")
                .contains("storage.azure.accountkey")
        );
    }

    #[test]
    fn another_region_is_named_where_the_store_names_it() {
        let document = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>";
        assert!(advice(Provider::S3, document).contains("set storage.s3.region to eu-west-1"));
        let redirect = "Received redirect without LOCATION, this normally indicates an incorrectly configured region";
        assert!(advice(Provider::S3, redirect).ends_with("set storage.s3.region to it"));
    }

    #[test]
    fn a_wrong_clock_is_no_wrong_key() {
        let document = "<Error><Code>AuthenticationFailed</Code><AuthenticationErrorDetail>Request date header too old\
            </AuthenticationErrorDetail></Error>";
        assert!(advice(Provider::Azure, document).contains("clocks"));
        assert!(advice(Provider::S3, "<Error><Code>RequestTimeTooSkewed</Code></Error>").contains("clocks"));
    }

    #[test]
    fn what_has_no_code_is_told_as_it_happened() {
        assert!(advice(Provider::S3, "connection refused").ends_with("connection refused"));
        let other = "400 <?xml version=\"1.0\"?>\n<Error><Code>Odd</Code><Message>No\nway</Message><RequestId>1</RequestId></Error>";
        assert_eq!(advice(Provider::S3, other), "the store refuses to write in the bucket b: Odd: No way");
        let page = advice(Provider::S3, &format!("<html>\n{}\n</html>", "x".repeat(1000)));
        assert!(page.len() < 400 && !page.contains('\n'), "{page}");
    }
}
