//! Who may do what. It knows neither HTTP nor the store.
//!
//! | room | what lives there |
//! |---|---|
//! | `principal` | who someone turned out to be |
//! | `policy` | what they may do (pure) |
//! | `htpasswd` | users with passwords |
//! | `nodes` | the credentials that nodes pull with |

mod htpasswd;
mod nodes;
mod policy;
mod principal;

use std::collections::BTreeMap;
use std::fmt;

use berth_contract::config::Auth;

use self::htpasswd::Htpasswd;
use self::nodes::Nodes;
pub use self::policy::{Action, allows};
pub use self::principal::Principal;
use crate::config::FileError;
use crate::fairness::Source;

/// A user name and a password, as someone sent them.
pub struct Credentials {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// Why someone is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No credentials, or none that we know. Which of these is nobody's business.
    Unauthenticated,
    /// Too many passwords are being checked at once. Try again.
    Busy,
}

/// The front door.
#[derive(Debug)]
pub struct Access {
    realm: String,
    htpasswd: Option<Htpasswd>,
    nodes: Option<Nodes>,
    open: bool,
}

impl Access {
    /// The door as the configuration's `auth` describes it. Without `auth` it is open.
    ///
    /// # Errors
    /// When a file cannot be read or holds something that cannot be admitted.
    pub fn new(auth: Option<&Auth>) -> Result<Self, FileError> {
        let Some(auth) = auth else {
            return Ok(Self { realm: String::new(), htpasswd: None, nodes: None, open: true });
        };
        let realm = auth.htpasswd.as_ref().map_or_else(|| "Registry".into(), |htpasswd| htpasswd.realm.clone());
        let htpasswd = auth.htpasswd.as_ref().map(|htpasswd| Htpasswd::open(&htpasswd.path)).transpose()?;
        let nodes = auth.nodes.as_ref().map(|nodes| Nodes::open(&nodes.path)).transpose()?;
        Ok(Self { realm, htpasswd, nodes, open: false })
    }

    /// Whether everyone may do everything.
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// What a challenge calls this registry.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// Finds out who sent `credentials`. `from` is no part of who they are: it decides whose turn it is to have a password
    /// checked.
    ///
    /// # Errors
    /// When it is nobody we know, or when there is no time to find out.
    pub async fn authenticate(
        &self,
        credentials: Option<Credentials>,
        from: Option<Source>,
    ) -> Result<Principal, Refusal> {
        if self.open {
            return Ok(Principal::Anyone);
        }
        let credentials = credentials.ok_or(Refusal::Unauthenticated)?;
        if let Some(node) = self.nodes.as_ref().and_then(|nodes| nodes.verify(&credentials)) {
            return Ok(node);
        }
        match &self.htpasswd {
            Some(htpasswd) => htpasswd.verify(credentials, from).await,
            None => Err(Refusal::Unauthenticated),
        }
    }

    /// Reads the files again if they have changed.
    pub fn refresh(&self) {
        if let Some(htpasswd) = &self.htpasswd {
            htpasswd.refresh();
        }
        if let Some(nodes) = &self.nodes {
            nodes.refresh();
        }
    }

    /// The SHA-256 of each file in use, by the configuration key that names it.
    pub fn fingerprints(&self) -> BTreeMap<String, String> {
        let htpasswd = self.htpasswd.as_ref().map(|htpasswd| ("auth.htpasswd.path".into(), htpasswd.fingerprint()));
        let nodes = self.nodes.as_ref().map(|nodes| ("auth.nodes.path".into(), nodes.fingerprint()));
        htpasswd.into_iter().chain(nodes).collect()
    }
}
