//! Lengths of time as the configuration file writes them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time in Go's notation, which is distribution's: `168h`, `1m30s`, `250ms`; a bare `0` is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(std::time::Duration);

/// The text is not a length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a length of time is written as whole numbers with units h, m, s or ms, as in 168h or 1m30s")]
pub struct InvalidDuration;

impl Duration {
    /// So many hours.
    pub const fn from_hours(hours: u64) -> Self {
        Self::from_secs(hours * 3600)
    }

    /// So many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }

    /// For use with clocks.
    pub const fn get(self) -> std::time::Duration {
        self.0
    }
}

impl FromStr for Duration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "0" {
            return Ok(Self::default());
        }
        let mut rest = text;
        let mut millis: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, tail) = rest.split_at(digits);
            let letters = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let (unit, tail) = tail.split_at(letters);
            let scale = match unit {
                "h" => 3_600_000,
                "m" => 60_000,
                "s" => 1000,
                "ms" => 1,
                _ => return Err(InvalidDuration),
            };
            let number: u64 = number.parse().map_err(|_| InvalidDuration)?;
            let part = number.checked_mul(scale).ok_or(InvalidDuration)?;
            millis = millis.checked_add(part).ok_or(InvalidDuration)?;
            rest = tail;
        }
        if text.is_empty() { Err(InvalidDuration) } else { Ok(Self(std::time::Duration::from_millis(millis))) }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let parts =
            [(millis / 3_600_000, "h"), (millis / 60_000 % 60, "m"), (millis / 1000 % 60, "s"), (millis % 1000, "ms")];
        if millis == 0 {
            return f.write_str("0s");
        }
        parts.iter().filter(|(number, _)| *number > 0).try_for_each(|(number, unit)| write!(f, "{number}{unit}"))
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_notation_is_read_and_written_back() {
        for text in ["168h", "1m30s", "250ms", "2h5s", "0s"] {
            assert_eq!(text.parse::<Duration>().unwrap().to_string(), text);
        }
        assert_eq!("90s".parse::<Duration>().unwrap().to_string(), "1m30s");
    }

    #[test]
    fn what_is_not_a_length_of_time_is_refused() {
        for text in ["", "5", "h", "-5s", "5 s", "5d", "1.5h", "99999999999999999999h", "18446744073709551615h"] {
            assert_eq!(text.parse::<Duration>(), Err(InvalidDuration), "{text:?}");
        }
    }
}
