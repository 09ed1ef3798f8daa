//! Where a chunk of an upload belongs: pure. distribution-spec `spec.md`, Pushing a blob in chunks.

use std::str::FromStr;

/// The `Content-Range` of a chunk. It is not RFC 9110's: "It MUST match the following regular expression:
/// `^[0-9]+-[0-9]+$`", without a unit and without a total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ContentRange {
    /// The place of the chunk's first byte.
    pub(super) start: u64,
    /// The place of its last byte, which is never before the first.
    end: u64,
}

/// The text is not such a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Content-Range is written START-END with the places of the chunk's first and last byte")]
pub(super) struct InvalidContentRange;

impl ContentRange {
    /// Whether a body of `length` bytes fills it. (`0-18446744073709551615` is filled by nothing.)
    pub(super) fn is_filled_by(self, length: u64) -> bool {
        (self.end - self.start).checked_add(1) == Some(length)
    }
}

impl FromStr for ContentRange {
    type Err = InvalidContentRange;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten().ok_or(InvalidContentRange)
        };
        let (start, end) = text.split_once('-').ok_or(InvalidContentRange)?;
        let (start, end): (u64, u64) = (number(start)?, number(end)?);
        if start <= end { Ok(Self { start, end }) } else { Err(InvalidContentRange) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_knows_its_start_and_its_length() {
        let range: ContentRange = "5-9".parse().unwrap();
        assert_eq!(range.start, 5);
        assert!(range.is_filled_by(5) && !range.is_filled_by(4) && !range.is_filled_by(0));
        let all: ContentRange = "0-18446744073709551615".parse().unwrap();
        assert!(!all.is_filled_by(0) && !all.is_filled_by(u64::MAX));
    }

    #[test]
    fn every_other_spelling_is_refused() {
        for text in [
            "",
            "-",
            "5",
            "5-",
            "-5",
            "5-3",
            "bytes=0-5",
            "bytes 0-5/6",
            "0-5/6",
            "+0-5",
            "0-18446744073709551616",
            "0 - 5",
        ] {
            assert_eq!(text.parse::<ContentRange>(), Err(InvalidContentRange), "{text:?}");
        }
    }
}
