//! Users with passwords: an Apache htpasswd file with bcrypt hashes.

mod file;
mod verified;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{Mutex, Semaphore};

use self::file::Users;
use super::{Credentials, Principal, Refusal};
use crate::config::{FileError, Watched};
use crate::fairness::{ConcurrencyLimit, Source};

/// How many checks may wait for their turn. Each takes about a tenth of a second of a core, so whoever comes later would
/// wait for longer than clients do.
const WAITING: usize = 64;

/// bcrypt looks at no more than this of a password, so a longer one is never the right one.
const LONGEST_PASSWORD: usize = 72;

/// The users, and the few threads that check their passwords.
///
/// Sources take turns: of each only one check at a time waits for a thread or has one. So whoever logs in waits for one check
/// of each other source, however many of them a flood has sent.
#[derive(Debug)]
pub(super) struct Htpasswd {
    users: Arc<Watched<Users>>,
    running: Arc<Semaphore>,
    admitted: ConcurrencyLimit<Option<Source>, Arc<Mutex<()>>>,
}

impl Htpasswd {
    pub(super) fn open(path: &Path) -> Result<Self, FileError> {
        let users =
            Watched::open("auth.htpasswd.path", [path], |[text]| Ok(Users::parse(std::str::from_utf8(text)?)?))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { users, running: Arc::new(Semaphore::new(cores)), admitted: ConcurrencyLimit::new(cores + WAITING) })
    }

    /// The user that sent `credentials`. An unknown user takes as long as a wrong password.
    pub(super) async fn verify(&self, credentials: Credentials, from: Option<Source>) -> Result<Principal, Refusal> {
        let Credentials { user, password } = credentials;
        if password.is_empty() || password.len() > LONGEST_PASSWORD || password.contains('\0') {
            return Err(Refusal::Unauthenticated);
        }
        let users = self.users.get();
        if users.verified.contains(&user, &password) {
            return Ok(Principal::User(user));
        }
        let admitted = self.admitted.admit(from).ok_or(Refusal::Busy)?;
        let turn = Arc::clone(admitted.common()).lock_owned().await;
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(|_| Refusal::Busy)?;
        // Many requests of one client come at once; the first has meanwhile answered for the others.
        if users.verified.contains(&user, &password) {
            return Ok(Principal::User(user));
        }
        let check = tokio::task::spawn_blocking(move || {
            // Held here: a client that goes away ends its request, but not the check that it has begun.
            let _held = (admitted, turn, running);
            let right = users.check(&user, &password);
            if right {
                users.verified.remember(&user, &password);
            }
            right.then_some(Principal::User(user))
        });
        check.await.ok().flatten().ok_or(Refusal::Unauthenticated)
    }

    pub(super) fn refresh(&self) {
        self.users.refresh();
    }

    pub(super) fn fingerprint(&self) -> String {
        self.users.fingerprint()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    fn line(user: &str, password: &str) -> String {
        format!("{user}:{}\n", bcrypt::hash(password, 5).unwrap())
    }

    async fn verify(htpasswd: &Htpasswd, user: &str, password: &str) -> Result<Principal, Refusal> {
        verify_from(htpasswd, None, user, password).await
    }

    async fn verify_from(
        htpasswd: &Htpasswd,
        from: Option<Source>,
        user: &str,
        password: &str,
    ) -> Result<Principal, Refusal> {
        htpasswd.verify(Credentials { user: user.into(), password: password.into() }, from).await
    }

    #[tokio::test]
    async fn a_right_password_is_right_twice_and_a_wrong_one_never() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("htpasswd");
        std::fs::write(&path, line("alice", "secret")).unwrap();
        let htpasswd = Htpasswd::open(&path).unwrap();
        for _ in 0..2 {
            assert_eq!(verify(&htpasswd, "alice", "secret").await, Ok(Principal::User("alice".into())));
            for (user, password) in
                [("alice", "wrong"), ("alice", ""), ("bob", "secret"), ("", "secret"), ("alice", "secret\0")]
            {
                assert_eq!(verify(&htpasswd, user, password).await, Err(Refusal::Unauthenticated), "{user} {password}");
            }
        }
    }

    #[tokio::test]
    async fn a_password_that_bcrypt_would_cut_off_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("htpasswd");
        std::fs::write(&path, line("alice", &"a".repeat(72))).unwrap();
        let htpasswd = Htpasswd::open(&path).unwrap();
        assert!(verify(&htpasswd, "alice", &"a".repeat(72)).await.is_ok());
        assert_eq!(verify(&htpasswd, "alice", &"a".repeat(73)).await, Err(Refusal::Unauthenticated));
    }

    #[tokio::test]
    async fn a_changed_file_forgets_who_was_verified_by_the_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("htpasswd");
        std::fs::write(&path, line("alice", "old")).unwrap();
        let htpasswd = Htpasswd::open(&path).unwrap();
        assert!(verify(&htpasswd, "alice", "old").await.is_ok());
        std::fs::write(&path, line("alice", "new")).unwrap();
        htpasswd.refresh();
        assert_eq!(verify(&htpasswd, "alice", "old").await, Err(Refusal::Unauthenticated));
        assert!(verify(&htpasswd, "alice", "new").await.is_ok());
        std::fs::write(&path, "alice:{SHA}plain").unwrap();
        htpasswd.refresh();
        assert!(verify(&htpasswd, "alice", "new").await.is_ok(), "a broken file leaves the last good one in force");
    }

    /// As many wrong passwords as anyone may want to send, all from one source; and how many of them have been answered.
    fn flood(htpasswd: &Arc<Htpasswd>, from: Source) -> Arc<AtomicUsize> {
        let answered = Arc::new(AtomicUsize::new(0));
        for n in 0..1000 {
            let (htpasswd, answered) = (Arc::clone(htpasswd), Arc::clone(&answered));
            tokio::spawn(async move {
                let answer = verify_from(&htpasswd, Some(from), "alice", &format!("wrong{n}")).await;
                answered.fetch_add(usize::from(answer == Err(Refusal::Unauthenticated)), Ordering::Relaxed);
            });
        }
        answered
    }

    #[tokio::test]
    async fn a_flood_from_one_source_lets_another_in_after_a_check_or_two() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("htpasswd");
        // Each check takes long beside what may keep this thread from running.
        std::fs::write(&path, format!("alice:{}\n", bcrypt::hash("secret", 9).unwrap())).unwrap();
        let htpasswd = Arc::new(Htpasswd::open(&path).unwrap());
        let [flooding, other] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(|address| Source::from(IpAddr::from(address)));
        let answered = flood(&htpasswd, flooding);
        tokio::task::yield_now().await;
        assert!(htpasswd.admitted.admit(Some(flooding)).is_none(), "the flood has all that it can get");
        assert!(verify_from(&htpasswd, Some(other), "alice", "secret").await.is_ok());
        let before_us = answered.load(Ordering::Relaxed);
        assert!(before_us <= 3, "{before_us} checks of the flood came first");
    }

    #[tokio::test]
    async fn a_client_that_goes_away_makes_no_room_for_another_check_before_its_own_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("htpasswd");
        std::fs::write(&path, format!("alice:{}\n", bcrypt::hash("secret", 9).unwrap())).unwrap();
        let htpasswd = Htpasswd::open(&path).unwrap();
        let idle = htpasswd.running.available_permits();
        let gone = tokio::time::timeout(Duration::from_millis(5), verify(&htpasswd, "alice", "wrong"));
        assert!(gone.await.is_err());
        assert_eq!(htpasswd.running.available_permits(), idle - 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn more_checks_than_there_is_time_for_are_turned_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("htpasswd");
        std::fs::write(&path, line("alice", "secret")).unwrap();
        let htpasswd = Htpasswd::open(&path).unwrap();
        let attempts = (0..1000).map(|n| {
            let htpasswd = &htpasswd;
            async move { verify(htpasswd, "alice", &format!("wrong{n}")).await }
        });
        let answers = futures::future::join_all(attempts).await;
        assert!(answers.contains(&Err(Refusal::Busy)) && answers.contains(&Err(Refusal::Unauthenticated)));
        assert!(answers.iter().all(Result::is_err));
        assert!(verify(&htpasswd, "alice", "secret").await.is_ok());
    }
}
