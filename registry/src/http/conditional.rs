//! Conditional requests: pure. RFC 9110 section 13. An entity tag is the digest in quotes, so it is always strong.

use berth_oci::Digest;
use http::{HeaderMap, header};

/// The entity tag of what `digest` names.
pub(super) fn entity_tag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// Whether `If-None-Match` says that the client has it already. The caller has found that it exists and may be seen.
pub(super) fn is_known(headers: &HeaderMap, digest: &Digest) -> bool {
    let ours = entity_tag(digest);
    let known = |tag: &str| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == ours;
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|tag| known(tag.trim()))
}

/// The `Range` that holds: none, when `If-Range` speaks of something else. We give out no dates to ask by.
pub(super) fn range<'h>(headers: &'h HeaderMap, digest: &Digest) -> Option<&'h str> {
    let range = headers.get(header::RANGE)?.to_str().ok();
    match headers.get(header::IF_RANGE) {
        Some(condition) if condition.as_bytes() != entity_tag(digest).as_bytes() => None,
        _ => range,
    }
}

#[cfg(test)]
mod tests {
    use berth_oci::Algorithm;

    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::RANGE, "bytes=0-1".parse().unwrap()), (name, value.parse().unwrap())])
    }

    #[test]
    fn a_client_that_has_it_says_so_by_tag_or_by_star() {
        let digest = Digest::of(Algorithm::Sha256, b"");
        let tag = entity_tag(&digest);
        for value in [tag.clone(), format!("W/{tag}"), "*".into(), format!("\"x\", {tag}")] {
            assert!(is_known(&headers(header::IF_NONE_MATCH, &value), &digest), "{value}");
        }
        for value in ["\"x\"".to_owned(), digest.to_string(), String::new()] {
            assert!(!is_known(&headers(header::IF_NONE_MATCH, &value), &digest), "{value}");
        }
    }

    #[test]
    fn a_range_of_something_else_is_no_range() {
        let digest = Digest::of(Algorithm::Sha256, b"");
        assert_eq!(range(&headers(header::IF_RANGE, &entity_tag(&digest)), &digest), Some("bytes=0-1"));
        assert_eq!(range(&headers(header::IF_RANGE, "\"x\""), &digest), None);
        assert_eq!(range(&headers(header::IF_RANGE, "Wed, 21 Oct 2015 07:28:00 GMT"), &digest), None);
        assert_eq!(range(&HeaderMap::new(), &digest), None);
    }
}
