//! When something is to be done again and again.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use croner::Cron;
use croner::parser::{CronParser, Seconds};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A cron expression of five fields (minute, hour, day of month, month, day of week), or one of `@hourly`, `@daily`, `@weekly` and
/// `@monthly`, as a Kubernetes CronJob takes it; in UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule(String);

/// The text is not a schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a schedule is a cron expression of five fields in UTC, as in \"0 3 * * *\" for every day at three, or @daily: {0}"
)]
pub struct InvalidSchedule(String);

impl Schedule {
    /// Every day at three.
    pub fn daily_at_three() -> Self {
        Self("0 3 * * *".into())
    }

    /// The first time after `after` that it names.
    pub fn next_after(&self, after: SystemTime) -> Option<SystemTime> {
        next(&cron(&self.0).ok()?, after)
    }
}

fn cron(text: &str) -> Result<Cron, InvalidSchedule> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).build();
    parser.parse(text).map_err(|error| InvalidSchedule(error.to_string()))
}

fn next(cron: &Cron, after: SystemTime) -> Option<SystemTime> {
    let after = Timestamp::try_from(after).ok()?.to_zoned(TimeZone::UTC);
    Some(cron.find_next_occurrence(&after, false).ok()?.timestamp().into())
}

impl FromStr for Schedule {
    type Err = InvalidSchedule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match next(&cron(text)?, SystemTime::UNIX_EPOCH) {
            Some(_) => Ok(Self(text.to_owned())),
            None => Err(InvalidSchedule("it names no day that there is".into())),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn next(schedule: &str, after: &str) -> String {
        let after: Timestamp = after.parse().unwrap();
        let next = schedule.parse::<Schedule>().unwrap().next_after(after.into()).unwrap();
        Timestamp::try_from(next).unwrap().to_string()
    }

    #[test]
    fn times_are_those_of_cron_in_utc() {
        assert_eq!(next("0 3 * * *", "2026-11-26T02:59:59Z"), "2026-11-26T03:00:00Z");
        assert_eq!(next("0 3 * * *", "2026-11-26T03:00:00Z"), "2026-11-27T03:00:00Z");
        assert_eq!(next("*/15 * * * *", "2026-11-26T03:01:00Z"), "2026-11-26T03:15:00Z");
        assert_eq!(next("30 1 * * 0", "2026-11-26T00:00:00Z"), "2026-11-29T01:30:00Z");
        assert_eq!(next("@monthly", "2026-11-26T00:00:00Z"), "2026-12-01T00:00:00Z");
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_an_example() {
        for text in ["", "daily", "0 3 * *", "0 0 3 * * *", "61 * * * *", "0 0 30 2 *"] {
            let refused = text.parse::<Schedule>().unwrap_err().to_string();
            assert!(refused.starts_with("a schedule is a cron expression"), "{text}: {refused}");
        }
    }

    #[test]
    fn the_next_time_is_always_later() {
        let schedule: Schedule = "* * * * *".parse().unwrap();
        let mut time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        for _ in 0..1000 {
            let next = schedule.next_after(time).unwrap();
            assert!(next > time);
            time = next;
        }
    }
}
