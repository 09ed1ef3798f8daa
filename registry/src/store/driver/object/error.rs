//! What a store's errors mean.

use std::error::Error;

use object_store::Error as ObjectError;

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
    let text = texts(error).find(|text| text.contains("<Code>"))?;
    let (_, rest) = text.split_once("<Code>")?;
    rest.split_once("</Code>").map(|(code, _)| code.to_owned())
}

fn texts(error: &ObjectError) -> impl Iterator<Item = String> {
    let mut next: Option<&dyn Error> = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error.to_string())
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
        Some(
            "AuthorizationHeaderMalformed" | "PermanentRedirect" | "TemporaryRedirect" | "IllegalLocationConstraintException",
        ) => {
            format!("the bucket {bucket} is in another region: set storage.s3.region to it")
        }
        Some("AccessDenied" | "AllAccessDisabled" | "AccountProblem") => format!(
            "the credentials may not {doing} in the bucket {bucket}: allow s3:ListBucket, s3:ListBucketMultipartUploads, \
             s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload"
        ),
        Some(code) => format!("the store refuses to {doing} in the bucket {bucket}: {code}: {error}"),
        None if texts(error).any(|text| text.contains("without LOCATION")) => {
            format!("the bucket {bucket} is in another region: set storage.s3.region to it")
        }
        None => {
            // The last of them is what happened; the others say where that was noticed.
            let reason = texts(error).last().unwrap_or_default();
            format!("the store of the bucket {bucket} cannot be asked to {doing}: {reason}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_found_wherever_it_stands_in_the_chain() {
        let document = "<Error><Code>NoSuchBucket</Code><Message>x</Message></Error>";
        let error = ObjectError::Generic { store: "S3", source: document.into() };
        assert_eq!(code(&error).as_deref(), Some("NoSuchBucket"));
        assert!(advice(&error, "write", "b").starts_with("there is no bucket b:"));
        let other = ObjectError::Generic { store: "S3", source: "connection refused".into() };
        assert_eq!(code(&other), None);
        assert!(advice(&other, "write", "b").ends_with("connection refused"), "{}", advice(&other, "write", "b"));
    }
}
