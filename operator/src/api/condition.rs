//! Conditions: how a resource says what is the matter with it.
//!
//! The rules are kstatus's. `Ready` is always there. `Reconciling` and `Stalled` are there only while they are true:
//! `Reconciling` says that the operator is at work and waiting helps, `Stalled` that a human is needed. All conditions carry
//! the generation they speak of, and their time changes only when their status does.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The truth of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody knows, or not yet.
    Unknown,
}

impl Truth {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// A condition before it has a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its type.
    pub type_: &'static str,
    /// Its truth.
    pub truth: Truth,
    /// Why, in one CamelCase word that tests and alerts may rely on.
    pub reason: String,
    /// Why, in a sentence that says what to do where something can be done.
    pub message: String,
}

impl Finding {
    /// A finding.
    pub fn new(type_: &'static str, truth: impl Into<Truth>, reason: &str, message: impl Into<String>) -> Self {
        // The API server admits 32 KiB; a message that long is read by nobody and stored with every change.
        let message: String = message.into();
        let message = message.char_indices().nth(1024).map_or(message.as_str(), |(end, _)| &message[..end]).to_owned();
        Self { type_, truth: truth.into(), reason: reason.into(), message }
    }
}

/// `findings` as conditions: a condition whose status is what it was before keeps its time.
pub fn conditions(
    findings: Vec<Finding>,
    before: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    findings
        .into_iter()
        .map(|finding| {
            let unchanged = before
                .iter()
                .find(|condition| condition.type_ == finding.type_ && condition.status == finding.truth.as_str());
            Condition {
                last_transition_time: unchanged
                    .map_or_else(|| Time::from(now), |condition| condition.last_transition_time.clone()),
                message: finding.message,
                observed_generation: generation,
                reason: finding.reason,
                status: finding.truth.as_str().into(),
                type_: finding.type_.into(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conditions_time_changes_only_with_its_status() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let find = |truth| vec![Finding::new("Ready", truth, "R", "m")];
        let first = conditions(find(Truth::False), &[], Some(1), at(1));
        let second = conditions(find(Truth::False), &first, Some(2), at(2));
        let third = conditions(find(Truth::True), &second, Some(2), at(3));
        assert_eq!(first[0].last_transition_time, second[0].last_transition_time);
        assert_eq!(second[0].observed_generation, Some(2));
        assert_eq!(third[0].last_transition_time, Time::from(at(3)));
    }
}
