//! What a store's errors mean.

use std::error::Error;

use object_store::Error as ObjectError;
use object_store::client::{HttpError, HttpErrorKind};

use super::budget::SpentError;
use crate::store::error::{StoreError, StoreErrorKind};

/// A failure of the store's, with what a caller can do about it.
pub(super) fn failed(doing: impl std::fmt::Display, error: ObjectError) -> StoreError {
    let kind = match code(&error).as_deref() {
        Some(
            "SlowDown" | "ServiceUnavailable" | "TooManyRequests" | "OperationAborted" | "ServerBusy"
            | "rateLimitExceeded",
        ) => StoreErrorKind::Overloaded,
        Some("QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" | "InsufficientCapacity") => {
            StoreErrorKind::Full
        }
        _ if texts(&error).any(|text| text.contains("status code: 507")) => StoreErrorKind::Full,
        _ if is_unreachable(&error) => StoreErrorKind::Unreachable,
        _ => StoreErrorKind::Other,
    };
    StoreError::of_kind(kind, doing, error)
}

/// Whether nobody answered, or what answered had a fault of its own. (`object_store` keeps the status to itself, but says it.)
fn is_unreachable(error: &ObjectError) -> bool {
    // Something that it cannot do, and will not be able to.
    let refused = ["status code: 501", "status code: 505"];
    chain(error).any(|error| error.is::<HttpError>() || error.is::<SpentError>())
        || texts(error).any(|text| text.contains("status code: 5") && !refused.iter().any(|code| text.contains(code)))
}

/// The `Code` of the store's error document, which Google and Microsoft have as Amazon has it
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>). An answer to HEAD has none.
pub(super) fn code(error: &ObjectError) -> Option<String> {
    element(error, "Code")
}

pub(super) fn element(error: &ObjectError, name: &str) -> Option<String> {
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
        Some("SlowDown" | "ServiceUnavailable" | "ServerBusy" | "TooManyRequests" | "RequestLimitExceeded")
    );
    let mut transport = chain(error).filter_map(|error| error.downcast_ref::<HttpError>());
    !is_spent(error) && (is_refused || transport.any(|error| error.kind() == HttpErrorKind::Connect))
}

/// Whether somebody else writes to the same object at this moment. There are other reasons for a 409, which stay.
pub(super) fn is_conflict(error: &ObjectError) -> bool {
    matches!(code(error).as_deref(), Some("ConditionalRequestConflict" | "OperationAborted"))
}

/// What happened, in one line: what the store says of it, or else the innermost cause; the others say where that was noticed.
pub(super) fn reason(error: &ObjectError) -> String {
    match (element(error, "Code"), element(error, "Message")) {
        (Some(code), Some(message)) => format!("{code}: {}", in_a_line(&message)),
        (Some(code), None) => code,
        (None, _) => in_a_line(&texts(error).last().unwrap_or_default()),
    }
}

fn in_a_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(LONGEST_REASON).collect()
}

/// In characters. What stands between us and a store may answer with a page.
const LONGEST_REASON: usize = 300;

/// Whether the answer began to come and did not end.
pub(super) fn broke_off(error: &ObjectError) -> bool {
    let mut transport = chain(error).filter_map(|error| error.downcast_ref::<HttpError>());
    let breaks = |kind| matches!(kind, HttpErrorKind::Decode | HttpErrorKind::Interrupted | HttpErrorKind::Unknown);
    !is_spent(error) && transport.any(|error| breaks(error.kind()))
}

/// Whether no request is sent again at the moment, whatever has become of it.
fn is_spent(error: &ObjectError) -> bool {
    chain(error).any(<dyn Error>::is::<SpentError>)
}

/// Whether the store does not know what it was asked to do.
pub(super) fn is_not_implemented(error: &ObjectError) -> bool {
    matches!(error, ObjectError::NotImplemented { .. } | ObjectError::NotSupported { .. })
        || code(error).as_deref() == Some("NotImplemented")
}

pub(super) fn texts(error: &ObjectError) -> impl Iterator<Item = String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(document: &str) -> ObjectError {
        ObjectError::Generic { store: "S3", source: document.into() }
    }

    #[test]
    fn only_a_store_that_says_so_has_done_nothing() {
        assert!(was_not_done(&answered("<Error><Code>SlowDown</Code></Error>")));
        assert!(!was_not_done(&answered("<Error><Code>InternalError</Code></Error>")));
        assert!(!was_not_done(&answered("503 Service Unavailable, says something on the way")));
    }

    #[test]
    fn a_fault_of_the_store_is_one_that_may_be_over_later() {
        let kind = |error| failed("read", error).kind();
        let fault =
            "Server returned non-2xx status code: 500 Internal Server Error: <Error><Code>InternalError</Code></Error>";
        assert_eq!(kind(answered(fault)), StoreErrorKind::Unreachable);
        assert_eq!(kind(answered("<Error><Code>SlowDown</Code></Error>")), StoreErrorKind::Overloaded);
        assert_eq!(kind(answered("<Error><Code>XMinioStorageFull</Code></Error>")), StoreErrorKind::Full);
        let refusal = "Server returned non-2xx status code: 403 Forbidden: <Error><Code>AccessDenied</Code></Error>";
        assert_eq!(kind(answered(refusal)), StoreErrorKind::Other);
        let cut = HttpError::new(HttpErrorKind::Interrupted, std::io::Error::other("reset"));
        assert_eq!(kind(ObjectError::Generic { store: "S3", source: Box::new(cut) }), StoreErrorKind::Unreachable);
    }

    #[test]
    fn the_code_is_found_wherever_it_stands_in_the_chain() {
        let document = "<Error><Code>NoSuchBucket</Code><Message>x</Message></Error>";
        let error = answered(document);
        assert_eq!(code(&error).as_deref(), Some("NoSuchBucket"));
        let other = answered("connection refused");
        assert_eq!(code(&other), None);
    }
}
