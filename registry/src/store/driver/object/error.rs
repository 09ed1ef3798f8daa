//! What a store's errors mean.

use std::error::Error;

use object_store::Error as ObjectError;
use object_store::client::{HttpError, HttpErrorKind};

use crate::store::error::{StoreError, StoreErrorKind};

/// A failure of the store's, with what a caller can do about it.
pub(super) fn failed(doing: impl std::fmt::Display, error: ObjectError) -> StoreError {
    let kind = match code(&error).as_deref() {
        Some("SlowDown" | "ServiceUnavailable" | "TooManyRequests" | "OperationAborted") => StoreErrorKind::Overloaded,
        Some("QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" | "InsufficientCapacity") => {
            StoreErrorKind::Full
        }
        _ => StoreErrorKind::Other,
    };
    StoreError::of_kind(kind, doing, error)
}

/// The `Code` of S3's error document
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>), which an answer to HEAD has not.
pub(super) fn code(error: &ObjectError) -> Option<String> {
    element(error, "Code")
}

fn element(error: &ObjectError, name: &str) -> Option<String> {
    let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
    texts(error).find_map(|text| {
        let (_, rest) = text.split_once(&begin)?;
        rest.split_once(&end).map(|(value, _)| value.to_owned())
    })
}

/// Whether the store has said that it did nothing, or has never heard of the request: whoever sends it again sends it once.
pub(super) fn was_not_done(error: &ObjectError) -> bool {
    let is_refused = matches!(
        code(error).as_deref(),
        Some("SlowDown" | "ServiceUnavailable" | "TooManyRequests" | "RequestLimitExceeded")
    );
    let mut transport = chain(error).filter_map(|error| error.downcast_ref::<HttpError>());
    is_refused || transport.any(|error| error.kind() == HttpErrorKind::Connect)
}

/// Whether the store does not know what it was asked to do.
pub(super) fn is_not_implemented(error: &ObjectError) -> bool {
    matches!(error, ObjectError::NotImplemented { .. } | ObjectError::NotSupported { .. })
        || code(error).as_deref() == Some("NotImplemented")
}

fn texts(error: &ObjectError) -> impl Iterator<Item = String> {
    chain(error).map(ToString::to_string)
}

fn chain(error: &ObjectError) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// What is the matter and what to do about it, in one sentence.
pub(super) fn advice(error: &ObjectError, doing: &str, bucket: &str) -> String {
    match code(error).as_deref() {
        Some("NoSuchBucket") => format!("there is no bucket {bucket}: create it, or correct storage.s3.bucket"),
        Some("InvalidAccessKeyId" | "XAdminUserNotFound") => {
            "the store does not know the access key: correct storage.s3.accesskey, or the credentials that the platform gives".into()
        }
        Some("SignatureDoesNotMatch") => {
            "the secret is not that of the access key: correct storage.s3.secretkey, or the credentials that the platform gives".into()
        }
        Some("ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") => {
            "the credentials that the platform gives have expired or are not for this store".into()
        }
        Some("RequestTimeTooSkewed" | "RequestExpired") => {
            "the clocks of this machine and of the store are more than a quarter of an hour apart: set them (NTP)".into()
        }
        Some("AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
            other_region(bucket, element(error, "Region"))
        }
        Some("AccessDenied" | "AllAccessDisabled" | "AccountProblem") => format!(
            "the credentials may not {doing} in the bucket {bucket}: allow s3:ListBucket, s3:GetObject, \
             s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload and, where storage.s3.keyid is given, kms:GenerateDataKey \
             and kms:Decrypt"
        ),
        Some(code) => format!("the store refuses to {doing} in the bucket {bucket}: {code}: {error}"),
        // A redirect, which a bucket's own region would not answer with.
        None if texts(error).any(|text| text.contains("without LOCATION")) => other_region(bucket, None),
        None => {
            // The last of them is what happened; the others say where that was noticed.
            let reason = texts(error).last().unwrap_or_default();
            format!("the store of the bucket {bucket} cannot be asked to {doing}: {reason}")
        }
    }
}

fn other_region(bucket: &str, region: Option<String>) -> String {
    let region = region.map_or_else(|| "it".into(), |region| format!("{region}, or correct storage.s3.bucket"));
    format!("the bucket {bucket} is in another region: set storage.s3.region to {region}")
}

/// The same where there are no credentials to begin with.
pub(super) fn without_credentials(error: &ObjectError) -> String {
    let reason = texts(error).last().unwrap_or_default();
    format!(
        "the platform gives no credentials: give storage.s3.accesskey and storage.s3.secretkey, or AWS_ACCESS_KEY_ID and \
         AWS_SECRET_ACCESS_KEY, or let the platform know who this is (a role of the ServiceAccount or of the instance): {reason}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(document: &str) -> ObjectError {
        ObjectError::Generic { store: "S3", source: document.into() }
    }

    #[test]
    fn another_region_is_named_where_the_store_names_it() {
        let error = answered("<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>");
        assert!(advice(&error, "write", "b").contains("set storage.s3.region to eu-west-1"));
        let error =
            answered("Received redirect without LOCATION, this normally indicates an incorrectly configured region");
        assert!(advice(&error, "write", "b").ends_with("set storage.s3.region to it"));
    }

    #[test]
    fn only_a_store_that_says_so_has_done_nothing() {
        assert!(was_not_done(&answered("<Error><Code>SlowDown</Code></Error>")));
        assert!(!was_not_done(&answered("<Error><Code>InternalError</Code></Error>")));
        assert!(!was_not_done(&answered("503 Service Unavailable, says something on the way")));
    }

    #[test]
    fn the_code_is_found_wherever_it_stands_in_the_chain() {
        let document = "<Error><Code>NoSuchBucket</Code><Message>x</Message></Error>";
        let error = answered(document);
        assert_eq!(code(&error).as_deref(), Some("NoSuchBucket"));
        assert!(advice(&error, "write", "b").starts_with("there is no bucket b:"));
        let other = answered("connection refused");
        assert_eq!(code(&other), None);
        assert!(advice(&other, "write", "b").ends_with("connection refused"), "{}", advice(&other, "write", "b"));
    }
}
