//! When to shake hands with which registry, and what came of it. How, is [`handshake`]'s.
//!
//! A change is verified at once, a failure again after one second and then ever less often, a success every few minutes. One
//! failure after a success changes nothing yet: a registry that restarts should not make every node write a report.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::effective_config::Why;
use super::handshake;
use super::hosts_toml::Endpoint;

/// How long a success counts; up to a quarter is added, so that nodes do not ask together.
const EVERY: Duration = Duration::from_secs(300);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// Handshakes at a time.
const PARALLEL: usize = 8;

/// What a handshake depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Subject {
    addresses: Vec<IpAddr>,
    port: u16,
    ca_bundle: String,
}

impl From<&Endpoint> for Subject {
    fn from(endpoint: &Endpoint) -> Self {
        Self { addresses: endpoint.addresses.clone(), port: endpoint.port, ca_bundle: endpoint.ca_bundle.clone() }
    }
}

struct Known {
    /// `None` until the first handshake ended.
    verdict: Option<Result<(), Why>>,
    failures: u32,
    /// When to ask again; `None` while asking.
    due: Option<Instant>,
}

/// The verdicts on all registries.
pub(super) struct Verification {
    known: HashMap<Subject, Known>,
    running: JoinSet<(Subject, Result<(), Why>)>,
    permits: Arc<Semaphore>,
}

impl Verification {
    pub(super) fn new() -> Self {
        Self { known: HashMap::new(), running: JoinSet::new(), permits: Arc::new(Semaphore::new(PARALLEL)) }
    }

    /// Begins the handshakes that are due, and forgets registries that are not among `endpoints`.
    pub(super) fn begin<'a>(&mut self, endpoints: impl Iterator<Item = &'a Endpoint>) {
        let subjects: Vec<Subject> = endpoints.map(Subject::from).collect();
        self.known.retain(|subject, _| subjects.contains(subject));
        let now = Instant::now();
        for subject in subjects {
            let known =
                self.known.entry(subject.clone()).or_insert(Known { verdict: None, failures: 0, due: Some(now) });
            if known.due.is_some_and(|due| due <= now) {
                known.due = None;
                let permits = Arc::clone(&self.permits);
                self.running.spawn(async move {
                    let _permit = permits.acquire().await;
                    let verdict = handshake::verify(&subject.addresses, subject.port, &subject.ca_bundle).await;
                    (subject, verdict)
                });
            }
        }
    }

    /// Waits until a handshake ended or one is due. Safe to cancel.
    pub(super) async fn changed(&mut self) {
        let due = self.known.values().filter_map(|known| known.due).min();
        let due = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(ended) = self.running.join_next() => {
                if let Ok((subject, verdict)) = ended {
                    self.conclude(&subject, verdict);
                }
            }
            () = due => {}
        }
    }

    /// What is known of a registry; `None` while the first handshake is on its way.
    pub(super) fn verdict(&self, endpoint: &Endpoint) -> Option<&Result<(), Why>> {
        self.known.get(&Subject::from(endpoint))?.verdict.as_ref()
    }

    /// A verdict without a handshake.
    #[cfg(test)]
    pub(super) fn assume(&mut self, endpoint: &Endpoint, verdict: Result<(), Why>) {
        let known = Known { verdict: Some(verdict), failures: 0, due: None };
        self.known.insert(Subject::from(endpoint), known);
    }

    fn conclude(&mut self, subject: &Subject, verdict: Result<(), Why>) {
        let Some(known) = self.known.get_mut(subject) else { return };
        let wait = if verdict.is_ok() {
            known.failures = 0;
            EVERY + EVERY.mul_f64(fraction() / 4.0)
        } else {
            known.failures += 1;
            (FIRST_RETRY * 2_u32.saturating_pow(known.failures - 1)).min(LAST_RETRY)
        };
        known.due = Some(Instant::now() + wait);
        let first_failure_after_success = verdict.is_err() && known.failures == 1 && known.verdict == Some(Ok(()));
        if !first_failure_after_success {
            known.verdict = Some(verdict);
        }
    }
}

/// A number from 0 to 1, another one each time. It spreads load and guards nothing.
fn fraction() -> f64 {
    let bits = u32::try_from(RandomState::new().hash_one(0) >> 32).unwrap_or_default();
    f64::from(bits) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint {
            registry: "a/b".into(),
            addresses: vec!["127.0.0.1".parse().unwrap()],
            port: 1,
            ca_bundle: String::new(),
            authorization: None,
        }
    }

    fn failure() -> Result<(), Why> {
        Err(Why::new("Unreachable", "x"))
    }

    #[tokio::test]
    async fn one_failure_after_a_success_is_not_yet_a_verdict() {
        let endpoint = endpoint();
        let subject = Subject::from(&endpoint);
        let mut verification = Verification::new();
        verification.begin(std::iter::once(&endpoint));
        assert!(verification.verdict(&endpoint).is_none());
        for (ended, expected) in [(Ok(()), Ok(())), (failure(), Ok(())), (failure(), failure()), (Ok(()), Ok(()))] {
            verification.conclude(&subject, ended);
            assert_eq!(verification.verdict(&endpoint), Some(&expected));
        }
    }

    #[tokio::test]
    async fn failures_are_tried_again_soon_and_successes_late() {
        let endpoint = endpoint();
        let subject = Subject::from(&endpoint);
        let mut verification = Verification::new();
        verification.begin(std::iter::once(&endpoint));
        let mut waits = Vec::new();
        for ended in [failure(), failure(), failure(), Ok(()), failure()] {
            verification.conclude(&subject, ended);
            let due = verification.known[&subject].due.unwrap();
            waits.push(due.saturating_duration_since(Instant::now()).as_secs_f64().round());
        }
        assert_eq!(waits[..3], [1.0, 2.0, 4.0]);
        assert!(waits[3] >= 300.0 && waits[3] <= 375.0);
        assert!(waits[4] <= 1.0);
        // What is forgotten is asked anew.
        verification.begin(std::iter::empty());
        assert!(verification.known.is_empty());
    }

    #[tokio::test]
    async fn a_handshake_that_ends_is_noticed() {
        let endpoint = endpoint();
        let mut verification = Verification::new();
        verification.begin(std::iter::once(&endpoint));
        verification.changed().await;
        assert!(verification.verdict(&endpoint).unwrap().is_err());
    }
}
