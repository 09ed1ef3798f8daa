//! Lists that come in pages: `n`, `last` and `Link`. distribution-spec `spec.md`, Listing tags.

use std::fmt::Write as _;

use super::error::ApiError;
use super::query::Query;

/// Which page is asked for.
#[derive(Debug)]
pub(super) struct Paging {
    /// How many items at most.
    pub(super) limit: usize,
    /// The item before the first one.
    pub(super) after: Option<String>,
}

impl Paging {
    /// Reads `n` and `last`. More than `most` at a time is never given, however much is asked for.
    pub(super) fn of(query: &Query, most: usize) -> Result<Self, ApiError> {
        let limit = match query.get("n") {
            None => most,
            Some(n) if !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()) => {
                // A number that does not fit is a large one.
                n.parse().unwrap_or(usize::MAX).min(most)
            }
            Some(_) => return Err(ApiError::Query("n is a number of items")),
        };
        Ok(Self { limit, after: query.get("last").map(Into::into) })
    }

    /// The value of `Link` that leads from `last`, the last item of this page, to the next page.
    pub(super) fn next(&self, path: &str, last: &str, filter: Option<(&str, &str)>) -> String {
        let mut link = format!("<{path}?n={}&last={}", self.limit, Escaped(last));
        if let Some((name, value)) = filter {
            let _ = write!(link, "&{name}={}", Escaped(value));
        }
        link + ">; rel=\"next\""
    }
}

/// Text as it may stand in a query.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.bytes().try_for_each(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
                f.write_char(byte.into())
            }
            _ => write!(f, "%{byte:02X}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paging(query: &str) -> Result<Paging, ApiError> {
        let uri = format!("/?{query}").try_into().map_err(|_| ApiError::Query("not a URI"))?;
        Paging::of(&Query::of(&uri)?, 1000)
    }

    #[test]
    fn a_limit_is_clamped_and_a_limit_that_is_no_number_is_refused() {
        for (query, limit) in
            [("", 1000), ("n=0", 0), ("n=5", 5), ("n=2147483648", 1000), ("n=99999999999999999999999", 1000)]
        {
            assert_eq!(paging(query).unwrap().limit, limit, "{query}");
        }
        for query in ["n=-1", "n=abc", "n=", "n=1.5", "n=+1", "n=%31%00"] {
            assert!(matches!(paging(query), Err(ApiError::Query(_))), "{query}");
        }
    }

    #[test]
    fn a_link_leads_to_the_next_page_of_the_same_question() {
        let paging = paging("n=2&last=x").unwrap();
        assert_eq!(paging.after.as_deref(), Some("x"));
        assert_eq!(paging.next("/v2/a/tags/list", "v1.0", None), "</v2/a/tags/list?n=2&last=v1.0>; rel=\"next\"");
        let filtered = paging.next("/r", "sha256:ab", Some(("artifactType", "a/b+c d")));
        assert_eq!(filtered, "</r?n=2&last=sha256:ab&artifactType=a/b%2Bc%20d>; rel=\"next\"");
    }
}
