//! Whose turn it is to replace pods, so that a new default image does not restart every Registry at once.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a place is kept for a Deployment that the watch does not show as replacing its pods.
const KEPT: Duration = Duration::from_secs(30);

/// The places that were given, by the Deployment's uid. Passes run side by side, and the watch shows a rollout only after it
/// began: without these, all that ask in the same moment would find a place free.
#[derive(Default)]
pub struct Rollouts(Mutex<HashMap<String, Instant>>);

impl Rollouts {
    /// Whether this Deployment may replace its pods now, beside those that do.
    pub fn admit(&self, uid: String, replacing: &BTreeSet<String>, most: usize) -> bool {
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        given.retain(|_, since| since.elapsed() < KEPT);
        let others: BTreeSet<_> = replacing.iter().chain(given.keys()).filter(|other| **other != uid).collect();
        let admitted = others.len() < most;
        if admitted {
            given.insert(uid, Instant::now());
        }
        admitted
    }

    /// Gives a place back: nothing came of it.
    pub fn release(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_ask_in_the_same_moment_do_not_all_find_a_place() {
        let rollouts = Rollouts::default();
        let admit = |uid: &str, replacing: &[&str]| {
            rollouts.admit(uid.into(), &replacing.iter().map(|&uid| uid.to_owned()).collect(), 2)
        };
        assert!(admit("a", &[]) && admit("b", &[]), "two places");
        assert!(!admit("c", &[]), "the watch has shown neither yet");
        assert!(admit("a", &["b"]), "whoever has a place keeps it");
        assert!(!admit("c", &["a", "b"]), "one that is seen and kept counts once");
    }

    #[test]
    fn a_place_that_came_to_nothing_is_given_back() {
        let rollouts = Rollouts::default();
        assert!(rollouts.admit("a".into(), &BTreeSet::new(), 1) && !rollouts.admit("b".into(), &BTreeSet::new(), 1));
        rollouts.release("a");
        assert!(rollouts.admit("b".into(), &BTreeSet::new(), 1));
    }

    #[test]
    fn what_the_watch_shows_takes_a_place() {
        let rollouts = Rollouts::default();
        let replacing = BTreeSet::from(["x".to_owned(), "y".into()]);
        assert!(!rollouts.admit("a".into(), &replacing, 2));
        assert!(rollouts.admit("x".into(), &replacing, 2), "its own rollout is no other's");
    }
}
