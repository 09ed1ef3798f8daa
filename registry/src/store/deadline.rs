//! A limit for how long a request may build on what it wrote first.
//!
//! What is younger than the collector's grace (24 h at least) is not collected. A request that hangs longer than half of it,
//! on a disk that stalls or in a machine that sleeps, must not answer for what may be gone by now.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::error::{Result, StoreError};

/// Half of the collector's shortest grace.
pub(super) const HALF_GRACE: Duration = Duration::from_hours(12);

/// When a request wrote first, by a clock that also runs while the machine sleeps and that nobody sets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    begun: Duration,
}

impl Deadline {
    pub(super) fn begin() -> Self {
        Self { begun: since_boot() }
    }

    /// Fails when it is too late to go on, or to say that all went well.
    pub(super) fn check(self) -> Result<()> {
        self.check_at(since_boot())
    }

    fn check_at(self, now: Duration) -> Result<()> {
        if now.saturating_sub(self.begun) < HALF_GRACE {
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
    fn a_request_that_took_half_the_grace_is_late() {
        let deadline = Deadline::begin();
        assert!(deadline.check().is_ok());
        assert!(deadline.check_at(deadline.begun + HALF_GRACE).is_err());
    }
}
