//! What happens to replicas: they are killed and started again, or stand still for a while, never all at the same time.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use berth_e2e::replicas::Replicas;
use berth_e2e::s3_proxy::S3Proxy;
use fastrand::Rng;

/// How long nothing happens, how long a replica stands still, and how long it is away, in milliseconds.
const CALM: std::ops::RangeInclusive<u64> = 10..=250;
const CALM_BETWEEN_KILLS: std::ops::RangeInclusive<u64> = 10..=800;
const PAUSE: std::ops::RangeInclusive<u64> = 10..=250;
const AWAY: std::ops::RangeInclusive<u64> = 0..=60;
/// Of a thousand requests to the bucket that do not come through as they should.
const FAULTS: u32 = 10;
/// For the whole test.
const PATIENCE: Duration = Duration::from_secs(3 * 3600);

/// What may happen.
#[derive(Clone, Copy)]
pub(crate) enum Kind<'a> {
    Kills,
    /// And on the way to a bucket, if there is one, requests and answers are lost.
    KillsAndPauses(Option<&'a S3Proxy>),
}

/// What has happened.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    pub(crate) kills: u64,
    pub(crate) pauses: u64,
    took: Duration,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kills and {} pauses in {:.1?}", self.kills, self.pauses, self.took)
    }
}

/// Goes on until it is over. Then all replicas are ready again, and nothing more happens.
///
/// # Errors
/// When a replica does not start again.
pub(crate) async fn until(
    replicas: &mut Replicas,
    seed: u64,
    kind: Kind<'_>,
    is_over: impl Fn() -> bool,
) -> Result<Trouble> {
    let (mut random, began, mut trouble) = (Rng::with_seed(seed), Instant::now(), Trouble::default());
    while !is_over() {
        ensure!(began.elapsed() < PATIENCE, "the clients come to no end");
        kind.spoil(FAULTS);
        match kind {
            Kind::KillsAndPauses(_) => sleep(&mut random, CALM).await,
            Kind::Kills => sleep(&mut random, CALM_BETWEEN_KILLS).await,
        }
        if matches!(kind, Kind::KillsAndPauses(_)) && random.bool() {
            let one = random.usize(..replicas.each.len());
            replicas.each[one].pause()?;
            sleep(&mut random, PAUSE).await;
            replicas.each[one].resume()?;
            trouble.pauses += 1;
        } else {
            trouble.kills += kill(replicas, &mut random, kind).await?;
        }
    }
    kind.spoil(0);
    trouble.took = began.elapsed();
    Ok(trouble)
}

impl Kind<'_> {
    /// So many of a thousand requests to the bucket do not come through as they should.
    fn spoil(self, of_a_thousand: u32) {
        if let Self::KillsAndPauses(Some(network)) = self {
            network.spoil(of_a_thousand);
        }
    }
}

/// Kills one, every fifth time two, never all, and starts them again. Says how many.
async fn kill(replicas: &mut Replicas, random: &mut Rng, kind: Kind<'_>) -> Result<u64> {
    let (first, all) = (random.usize(..replicas.each.len()), replicas.each.len());
    let last = first + usize::from(random.u8(..5) == 0);
    for number in first..=last {
        replicas.each[number % all].kill9()?;
    }
    sleep(random, AWAY).await;
    // A bucket that fails while it is looked at is refused at start-up, which is another matter.
    kind.spoil(0);
    for number in first..=last {
        replicas.each[number % all].restart().await?;
    }
    Ok((last - first + 1) as u64)
}

async fn sleep(random: &mut Rng, milliseconds: std::ops::RangeInclusive<u64>) {
    tokio::time::sleep(Duration::from_millis(random.u64(milliseconds))).await;
}
