//! Which bytes of a blob a request asks for: pure. RFC 9110 section 14.

use std::ops::Range;

/// What to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// All of it, with 200.
    Whole,
    /// These bytes, with 206. Never empty, never beyond the end.
    Part(Range<u64>),
    /// Nothing, with 416.
    Unsatisfiable,
}

impl Selection {
    /// The bytes, of a blob of `size`. `None`: there is nothing to send.
    pub(super) fn range(&self, size: u64) -> Option<Range<u64>> {
        match self {
            Self::Whole => Some(0..size),
            Self::Part(range) => Some(range.clone()),
            Self::Unsatisfiable => None,
        }
    }
}

/// Reads a `Range` header against a blob of `size` bytes.
///
/// What cannot be understood, another unit, and several ranges at once are answered with the whole ("A server MAY ignore
/// the Range header field"). A range whose end comes before its start is not grammatical either, but the conformance
/// program wants 416 for it.
pub(super) fn select(header: Option<&str>, size: u64) -> Selection {
    let Some((first, last)) = header.and_then(|header| header.trim().strip_prefix("bytes=")?.split_once('-')) else {
        return Selection::Whole;
    };
    match (number(first), number(last)) {
        (Bound::None, Bound::At(suffix)) => part(size.saturating_sub(suffix), size, size),
        (Bound::At(first), Bound::None) => part(first, size, size),
        (Bound::At(first), Bound::At(last)) => part(first, last.saturating_add(1), size),
        (Bound::None, Bound::None) | (Bound::Malformed, _) | (_, Bound::Malformed) => Selection::Whole,
    }
}

enum Bound {
    None,
    At(u64),
    Malformed,
}

/// A number too big for 64 bits is beyond the end of everything, which is all that matters of it.
fn number(text: &str) -> Bound {
    match text.trim() {
        "" => Bound::None,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => Bound::At(digits.parse().unwrap_or(u64::MAX)),
        _ => Bound::Malformed,
    }
}

fn part(start: u64, end: u64, size: u64) -> Selection {
    let end = end.min(size);
    if start < end { Selection::Part(start..end) } else { Selection::Unsatisfiable }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn single_ranges_select_what_they_name() {
        for (header, selection) in [
            ("bytes=500-1499", Selection::Part(500..1500)),
            ("bytes=500-", Selection::Part(500..2048)),
            ("bytes=-500", Selection::Part(1548..2048)),
            ("bytes=2000-5000", Selection::Part(2000..2048)),
            ("bytes=0-0", Selection::Part(0..1)),
            ("bytes=0-18446744073709551615", Selection::Part(0..2048)),
            ("bytes=-99999", Selection::Part(0..2048)),
            ("bytes=0-99999999999999999999999", Selection::Part(0..2048)),
            ("bytes=500-0", Selection::Unsatisfiable),
            ("bytes=5000-10000", Selection::Unsatisfiable),
            ("bytes=2048-", Selection::Unsatisfiable),
            ("bytes=-0", Selection::Unsatisfiable),
        ] {
            assert_eq!(select(Some(header), 2048), selection, "{header}");
        }
    }

    #[test]
    fn what_is_not_one_range_of_bytes_selects_the_whole() {
        for header in ["bytes=0-1,5-6", "bytes=-", "bytes=a-b", "bytes=1", "bytes 0-1", "lines=0-1", "", "bytes=+1-2"] {
            assert_eq!(select(Some(header), 2048), Selection::Whole, "{header}");
        }
        assert_eq!(select(Some(&format!("bytes={}", "0-1,".repeat(10_000))), 2048), Selection::Whole);
        assert_eq!(select(None, 2048), Selection::Whole);
    }

    #[test]
    fn an_empty_blob_has_no_part() {
        for header in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
            assert_eq!(select(Some(header), 0), Selection::Unsatisfiable, "{header}");
        }
    }

    proptest! {
        #[test]
        fn a_selected_part_is_never_empty_and_never_beyond_the_end(header: String, first: u64, last: u64, size: u64) {
            for header in [header, format!("bytes={first}-{last}"), format!("bytes={first}-"), format!("bytes=-{last}")] {
                if let Selection::Part(range) = select(Some(&header), size) {
                    prop_assert!(range.start < range.end && range.end <= size);
                }
            }
        }
    }
}
