//! A limit for how long a request may build on what it wrote first.
//!
//! What is younger than the collector's grace is not collected. A request that hangs longer than half of it, on a disk that
//! stalls or in a machine that sleeps, must not answer for what may be gone by now. It is two and a half minutes at most, so that
//! a replica which does not know yet of a shorter grace is no danger while that is five minutes or more, as it is in a `Registry`.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::error::{Result, StoreError};

/// The collector's grace, unless the configuration says otherwise.
pub(super) const GRACE: Duration = Duration::from_hours(24);
/// The longest that a request may take.
const LONGEST: Duration = Duration::from_secs(150);

/// When a request wrote first, by a clock that also runs while the machine sleeps and that nobody sets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    begun: Duration,
    limit: Duration,
}

impl Deadline {
    /// `grace`: the collector's.
    pub(super) fn begin(grace: Duration) -> Self {
        Self { begun: since_boot(), limit: LONGEST.min(grace / 2) }
    }

    /// Fails when it is too late to go on, or to say that all went well.
    pub(super) fn check(self) -> Result<()> {
        self.check_at(since_boot())
    }

    fn check_at(self, now: Duration) -> Result<()> {
        if now.saturating_sub(self.begun) < self.limit {
            return Ok(());
        }
        let late = "it took so long that what it relied on may have been collected meanwhile; try again";
        Err(StoreError::other("finish the request", late))
    }
}

fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_took_half_the_grace_or_two_and_a_half_minutes_is_late() {
        for (grace, limit) in [(GRACE, LONGEST), (Duration::from_secs(60), Duration::from_secs(30))] {
            let deadline = Deadline::begin(grace);
            assert!(deadline.check().is_ok());
            assert!(deadline.check_at(deadline.begun + limit - Duration::from_secs(1)).is_ok());
            assert!(deadline.check_at(deadline.begun + limit).is_err());
        }
    }
}
