//! A secret that is replaced so that those who accept it and those who present it always agree: it is accepted before it is
//! presented, and for a while after. Pure but for randomness.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::random;

/// A secret in use, and while it is replaced one before or after it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Overlapping {
    /// What is presented.
    active: Dated,
    /// What will be presented, once everyone accepts it.
    #[serde(default)]
    next: Option<Dated>,
    /// What was presented, still accepted; `since` is when it was replaced.
    #[serde(default)]
    previous: Option<Dated>,
}

/// A secret and a time.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dated {
    password: String,
    since: Timestamp,
}

/// How long one is what.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How long it is presented before the next one is made.
    pub life: SignedDuration,
    /// How long the one before is accepted at least.
    pub overlap: SignedDuration,
    /// How long it is accepted at most, when it is not known whether somebody presents it.
    pub patience: SignedDuration,
}

/// What those who are to accept a secret say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Acceptance {
    /// Everyone accepts all of [`Overlapping::accepted`].
    Everyone,
    /// Nobody says no, but somebody who serves has not answered for an hour.
    Unheard,
    /// Somebody does not, or may not, yet.
    NotYet,
}

impl Acceptance {
    /// Whether what was written at `since` may be relied on. Who serves and is not heard has had it for long after this time:
    /// the kubelet brings it within two minutes.
    pub fn holds(self, since: Timestamp, now: Timestamp) -> bool {
        match self {
            Self::Everyone => true,
            Self::NotYet => false,
            Self::Unheard => now >= since + SignedDuration::from_hours(1),
        }
    }
}

/// A step of the replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The next one is to be accepted.
    Incoming,
    /// The next one is presented.
    Switched,
    /// The one before is accepted no longer.
    Retired,
}

impl Overlapping {
    /// The first one.
    pub fn new(now: Timestamp) -> Result<Self, random::Unavailable> {
        Ok(Self { active: Dated::new(now)?, next: None, previous: None })
    }

    /// What is presented.
    pub fn active(&self) -> &str {
        &self.active.password
    }

    /// Everything that is accepted, what is presented first.
    pub fn accepted(&self) -> impl Iterator<Item = &str> {
        let others = [&self.next, &self.previous].into_iter().flatten();
        std::iter::once(&self.active).chain(others).map(|dated| dated.password.as_str())
    }

    /// Takes every step that is due. `unused`: everyone presents the active one. `asked`: it is to be replaced before its
    /// time.
    pub fn advance(
        &mut self,
        now: Timestamp,
        terms: &Terms,
        acceptance: Acceptance,
        unused: bool,
        asked: bool,
    ) -> Result<Vec<Turn>, random::Unavailable> {
        let mut turns = Vec::new();
        if let Some(next) = self.next.take_if(|next| acceptance.holds(next.since, now)) {
            let old = std::mem::replace(&mut self.active, Dated { since: now, ..next });
            self.previous = Some(Dated { since: now, ..old });
            turns.push(Turn::Switched);
        }
        if let Some(previous) = &self.previous {
            let wait = if unused { terms.overlap } else { terms.patience };
            if now >= previous.since + wait {
                self.previous = None;
                turns.push(Turn::Retired);
            }
        }
        if self.is_settled() && (asked || now >= self.active.since + terms.life) {
            self.next = Some(Dated::new(now)?);
            turns.push(Turn::Incoming);
        }
        Ok(turns)
    }

    /// When the next step is due by the clock alone: the switch is not.
    pub fn due(&self, now: Timestamp, terms: &Terms) -> Timestamp {
        match (&self.previous, &self.next) {
            (Some(previous), _) if now < previous.since + terms.overlap => previous.since + terms.overlap,
            (Some(previous), _) => previous.since + terms.patience,
            (None, Some(_)) => Timestamp::MAX,
            (None, None) => self.active.since + terms.life,
        }
    }

    /// Whether there is one alone: the next one is not made yet, and the one before is accepted no longer.
    pub const fn is_settled(&self) -> bool {
        self.next.is_none() && self.previous.is_none()
    }

    /// Whether the next one waits to be accepted by everyone.
    pub const fn is_incoming(&self) -> bool {
        self.next.is_some()
    }
}

impl Dated {
    fn new(since: Timestamp) -> Result<Self, random::Unavailable> {
        Ok(Self { password: random::password()?, since })
    }
}

#[cfg(test)]
mod tests;
