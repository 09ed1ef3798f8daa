//! The file's grammar: `USER:BCRYPT-HASH` a line; empty lines and lines that begin with `#` are skipped.

use std::collections::HashMap;
use std::str::FromStr as _;

use bcrypt::HashParts;

use super::verified::Verified;

/// Below this a hash costs an attacker next to nothing.
const LOWEST_COST: u32 = 5;
/// What we would choose today at least; `htpasswd -B` still writes 5.
const ADVISED_COST: u32 = 10;
/// Above this a single login takes a core for seconds.
const HIGHEST_COST: u32 = 14;

/// What one version of the file says, and who has been verified by it.
#[derive(Debug)]
pub(super) struct Users {
    hashes: HashMap<String, String>,
    highest: u32,
    dummy: String,
    pub(super) verified: Verified,
}

/// Why a file is refused. It names the line and never repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub(super) struct InvalidHtpasswd {
    line: usize,
    reason: &'static str,
}

impl Users {
    pub(super) fn parse(text: &str) -> Result<Self, InvalidHtpasswd> {
        let mut hashes = HashMap::new();
        let mut highest = None;
        for (index, line) in text.lines().enumerate() {
            let line_text = line.trim();
            if line_text.is_empty() || line_text.starts_with('#') {
                continue;
            }
            let refused = |reason| InvalidHtpasswd { line: index + 1, reason };
            let (user, hash) = line_text.split_once(':').ok_or(refused("there is no ':' between user and hash"))?;
            let cost = cost(hash).map_err(refused)?;
            if cost < ADVISED_COST {
                tracing::warn!(
                    user,
                    cost,
                    "the bcrypt cost of a password is low; htpasswd -B -C {ADVISED_COST} makes a better hash"
                );
            }
            highest = highest.max(Some(cost));
            if user.is_empty() || hashes.insert(user.to_owned(), hash.to_owned()).is_some() {
                return Err(refused("the user is empty or has stood in the file before"));
            }
        }
        // Compared with when there is no such user, so that the time tells nothing. No password has this hash.
        let highest = highest.unwrap_or(ADVISED_COST);
        let dummy = format!("$2b${highest:02}${}", ".".repeat(53));
        Ok(Self { hashes, highest, dummy, verified: Verified::new() })
    }

    /// Whether this is the password of this user. It takes as long for every user, and for one that is not there: as long
    /// as the most costly hash of the file.
    pub(super) fn check(&self, user: &str, password: &str) -> bool {
        let (hash, known) = self.hash_of(user);
        let right = bcrypt::verify(password, hash).unwrap_or(false) && known;
        // Each step of the cost doubles the time, so what is missing to the highest is one check of each in between.
        for cost in cost(hash).unwrap_or(self.highest)..self.highest {
            let _ = bcrypt::verify(password, &format!("$2b${cost:02}${}", ".".repeat(53)));
        }
        right
    }

    fn hash_of(&self, user: &str) -> (&str, bool) {
        self.hashes.get(user).map_or((&self.dummy, false), |hash| (hash, true))
    }
}

fn cost(hash: &str) -> Result<u32, &'static str> {
    let bcrypt = ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix));
    if !bcrypt || !hash.is_ascii() || hash.len() != 60 {
        return Err("the password is not a bcrypt hash, which htpasswd -B makes");
    }
    let cost = HashParts::from_str(hash).map_err(|_| "the bcrypt hash is malformed")?.get_cost();
    if (LOWEST_COST..=HIGHEST_COST).contains(&cost) { Ok(cost) } else { Err("the bcrypt cost must be from 5 to 14") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2y$05$H/bV5rZ/fQdNHA1cWaBLg.gC8trSQAJGrO/RVJqaRlz3bbWZbkzT6";

    #[test]
    fn users_comments_and_empty_lines_are_read() {
        let users = Users::parse(&format!("# ours\n\nalice:{HASH}\r\nbob:{}\n", HASH.replace("$05$", "$12$"))).unwrap();
        assert_eq!(users.hash_of("alice"), (HASH, true));
        assert!(users.hash_of("carol").0.starts_with("$2b$12$") && !users.hash_of("carol").1);
    }

    #[test]
    fn the_hash_for_unknown_users_is_one_that_bcrypt_computes() {
        let users = Users::parse("").unwrap();
        assert!(!bcrypt::verify("secret", users.hash_of("alice").0).unwrap());
    }

    #[test]
    fn what_cannot_be_admitted_is_named_by_its_line_and_not_repeated() {
        for bad in [
            "alice".to_owned(),
            "alice:secret".to_owned(),
            "alice:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=".to_owned(),
            "alice:$apr1$abc$def".to_owned(),
            format!("alice:{}", HASH.replace("$05$", "$04$")),
            format!("alice:{}", HASH.replace("$05$", "$31$")),
            format!("alice:{}", HASH.replace("$05$", "$15$")),
            format!("alice:{}é", HASH.get(..58).unwrap()),
            format!("alice:{HASH}x"),
            format!(":{HASH}"),
            format!("alice:{HASH}\nalice:{HASH}"),
        ] {
            let error = Users::parse(&format!("# first\n{bad}")).unwrap_err();
            assert!(error.line >= 2 && !error.to_string().contains("alice"), "{error}");
        }
    }
}
