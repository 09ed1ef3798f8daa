//! When a key is replaced, and in which steps. Pure but for randomness.
//!
//! Every replacement overlaps, so that no pull fails: what accepts learns the new before what presents it does, and forgets
//! the old after.
//!
//! | what | accepted by | presented by | steps |
//! |---|---|---|---|
//! | serving certificate | whoever trusts the authority | pods | one: replaced in place |
//! | authority | nodes, clients | pods | both in the bundle → nodes acknowledge, or 24 h → new certificate → old one leaves the bundle |
//! | node credential | pods | nodes | both in the pods' file → every pod reports it → nodes are told → old one leaves the file |
//! | `http.secret` | pods | clients, from pods | both in the pods' file → every pod reports it → the new one seals → old one leaves the file |
//! | generated password | pods | people | one: replaced in place, and nothing overlaps: who asks for it fears the old one |

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::overlapping::{Overlapping, Terms, Turn};
use super::{Admin, Error, Keyring, Retiring};
use crate::certificate_authority::Authority;
use crate::random;

/// A node credential is used for a day. It is accepted for another hour, for pulls that began with it, and longer while nodes
/// that report late may use it.
const NODE_CREDENTIAL: Terms = Terms {
    life: SignedDuration::from_hours(24),
    overlap: SignedDuration::from_hours(1),
    patience: SignedDuration::from_hours(12),
};
/// An upload that began a moment before its key was replaced may go on for a week, the default of
/// `storage.maintenance.uploadpurging.age`, and for as long as a pod takes to hear of it.
const HTTP_SECRET: Terms = Terms {
    life: SignedDuration::from_hours(30 * 24),
    overlap: SignedDuration::from_hours(8 * 24),
    patience: SignedDuration::from_hours(8 * 24),
};
/// How long a rotation waits for those who do not answer.
const PATIENCE: SignedDuration = SignedDuration::from_hours(24);
/// The cost of the generated user's bcrypt hash. The password is 256 random bits, so a higher one would protect nothing and
/// slow every request down.
const BCRYPT_COST: u32 = 10;

/// What a rotation needs to know.
#[derive(Clone, Debug)]
pub struct Circumstances<'a> {
    /// The time.
    pub now: Timestamp,
    /// What the authority is named after.
    pub registry: &'a str,
    /// The names and addresses to certify; none while the Service has no address.
    pub names: Option<&'a [String]>,
    /// How long things live.
    pub lives: Lives,
    /// The request for a new certificate, if there is one.
    pub rotate_certificates: Option<&'a str>,
    /// The request for a new authority, if there is one.
    pub rotate_authority: Option<&'a str>,
    /// The request for a new generated password, if there is one.
    pub rotate_password: Option<&'a str>,
    /// Whether a user is to be generated.
    pub admin: bool,
    /// Whether nodes may pull.
    pub nodes: bool,
    /// Whether every ready pod, and at least one, serves the certificate.
    pub pods_serve_leaf: bool,
    /// Whether every ready pod, and at least one, accepts the node credentials.
    pub pods_accept_nodes: bool,
    /// Whether every ready pod, and at least one, opens what any key of `http.secret` sealed.
    pub pods_accept_http_secret: bool,
    /// Whether every node trusts the bundle; unknown when no agent reports.
    pub nodes_trust_bundle: Option<bool>,
    /// Whether every node uses the active credential; unknown when no agent reports.
    pub nodes_use_active: Option<bool>,
}

/// How long things live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lives {
    /// An authority.
    pub authority: Duration,
    /// A serving certificate.
    pub certificate: Duration,
    /// When a certificate is renewed before its end; by default when two thirds of its life are over.
    pub renew_before: Option<Duration>,
}

/// Something that a human may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is a new serving certificate.
    CertificateIssued,
    /// A new authority is trusted beside the old one.
    AuthorityIncoming,
    /// The new authority signs; every node trusts it.
    AuthoritySwitched,
    /// The new authority signs, although not every node has said that it trusts it.
    AuthoritySwitchedLate,
    /// The old authority is no longer trusted.
    AuthorityRetired,
    /// There is a new generated password.
    PasswordReplaced,
    /// The node credential is being replaced.
    NodeCredential(Turn),
    /// The key of upload locations is being replaced.
    HttpSecret(Turn),
}

impl Keyring {
    /// Takes every step that is due. The keyring must be stored before anything that follows from it is written.
    pub fn advance(&mut self, at: &Circumstances<'_>) -> Result<Vec<Step>, Error> {
        let mut steps = Vec::new();
        self.advance_authority(at, &mut steps)?;
        self.advance_leaf(at, &mut steps)?;
        self.advance_admin(at, &mut steps)?;
        self.advance_nodes(at, &mut steps)?;
        let turns = self.http_secret.advance(at.now, &HTTP_SECRET, at.pods_accept_http_secret, true)?;
        steps.extend(turns.into_iter().map(Step::HttpSecret));
        Ok(steps)
    }

    fn advance_authority(&mut self, at: &Circumstances<'_>, steps: &mut Vec<Step>) -> Result<(), Error> {
        if let Some(retiring) = &self.retiring
            && (at.pods_serve_leaf || at.now >= retiring.since + PATIENCE)
        {
            self.retiring = None;
            steps.push(Step::AuthorityRetired);
        }
        if let Some(incoming) = &self.incoming {
            let trusted = at.nodes_trust_bundle == Some(true);
            if trusted || at.now >= self.switches_at_the_latest(incoming) {
                let old = std::mem::replace(&mut self.authority, incoming.clone());
                self.retiring = Some(Retiring { certificate: old.certificate, since: at.now });
                self.incoming = None;
                // A leaf of the old authority is none of the new one's.
                self.leaf = None;
                steps.push(if trusted { Step::AuthoritySwitched } else { Step::AuthoritySwitchedLate });
            }
            return Ok(());
        }
        let asked = is_new(at.rotate_authority, self.handled_authority_rotation.as_deref());
        if self.retiring.is_none() && (asked || at.now >= self.authority.due()) {
            self.incoming = Some(Authority::new(at.registry, at.now, at.lives.authority)?);
            self.handled_authority_rotation = at.rotate_authority.map(Into::into);
            steps.push(Step::AuthorityIncoming);
        }
        Ok(())
    }

    /// What the old authority signed ends with it, so the new one does not wait for so long.
    fn switches_at_the_latest(&self, incoming: &Authority) -> Timestamp {
        let life = self.authority.not_after.duration_since(self.authority.since);
        (incoming.since + PATIENCE).min(self.authority.not_after - life / 10)
    }

    fn advance_leaf(&mut self, at: &Circumstances<'_>, steps: &mut Vec<Step>) -> Result<(), Error> {
        let Some(names) = at.names else { return Ok(()) };
        let asked = is_new(at.rotate_certificates, self.handled_certificate_rotation.as_deref());
        let current = self
            .leaf
            .as_ref()
            .is_some_and(|leaf| leaf.names == names && at.now < leaf.due(at.lives.renew_before) && !asked);
        if !current {
            self.leaf = Some(self.authority.issue(names, at.now, at.lives.certificate)?);
            self.handled_certificate_rotation = at.rotate_certificates.map(Into::into);
            steps.push(Step::CertificateIssued);
        }
        Ok(())
    }

    fn advance_admin(&mut self, at: &Circumstances<'_>, steps: &mut Vec<Step>) -> Result<(), Error> {
        if !at.admin {
            self.admin = None;
            self.written.admin = None;
            return Ok(());
        }
        let asked = is_new(at.rotate_password, self.handled_password_rotation.as_deref());
        if self.admin.is_some() && !asked {
            return Ok(());
        }
        if self.admin.is_some() {
            steps.push(Step::PasswordReplaced);
        }
        let password = random::password()?;
        self.admin = Some(Admin { hash: bcrypt::hash(&password, BCRYPT_COST)?, password });
        self.handled_password_rotation = at.rotate_password.map(Into::into);
        Ok(())
    }

    fn advance_nodes(&mut self, at: &Circumstances<'_>, steps: &mut Vec<Step>) -> Result<(), Error> {
        match &mut self.nodes {
            Some(_) if !at.nodes => self.nodes = None,
            Some(nodes) => {
                let unused = at.nodes_use_active == Some(true);
                let turns = nodes.advance(at.now, &NODE_CREDENTIAL, at.pods_accept_nodes, unused)?;
                steps.extend(turns.into_iter().map(Step::NodeCredential));
            }
            None if at.nodes => self.nodes = Some(Overlapping::new(at.now)?),
            None => {}
        }
        Ok(())
    }

    /// When the next step is due by the clock alone. Steps that wait for pods or nodes are looked at more often.
    pub fn due(&self, now: Timestamp, lives: &Lives) -> Timestamp {
        let mut due = vec![self.authority.due()];
        due.extend(self.leaf.as_ref().map(|leaf| leaf.due(lives.renew_before)));
        due.extend(self.incoming.as_ref().map(|incoming| self.switches_at_the_latest(incoming)));
        due.extend(self.retiring.as_ref().map(|retiring| retiring.since + PATIENCE));
        due.extend(self.nodes.as_ref().map(|nodes| nodes.due(now, &NODE_CREDENTIAL)));
        due.push(self.http_secret.due(now, &HTTP_SECRET));
        due.into_iter().min().unwrap_or(Timestamp::MAX)
    }

    /// Whether a step waits for pods or nodes.
    pub fn is_rotating(&self) -> bool {
        self.incoming.is_some()
            || self.retiring.is_some()
            || self.nodes.as_ref().is_some_and(Overlapping::is_incoming)
            || self.http_secret.is_incoming()
    }
}

/// Whether there is a request that was not fulfilled. Its value is an opaque token: only its change counts.
fn is_new(request: Option<&str>, handled: Option<&str>) -> bool {
    request.is_some() && request != handled
}

#[cfg(test)]
mod tests;
