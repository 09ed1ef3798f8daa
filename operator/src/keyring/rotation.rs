//! When a key is replaced, and in which steps. Pure but for randomness.
//!
//! Every replacement overlaps, so that no pull fails: what accepts learns the new before what presents it does, and forgets
//! the old after.
//!
//! | what | accepted by | presented by | steps |
//! |---|---|---|---|
//! | serving certificate | whoever trusts the authority | pods | one: replaced in place |
//! | authority | nodes, clients | pods | both in the bundle → five minutes, and nodes acknowledge, or 24 h → new certificate → old one leaves the bundle |
//! | node credential | pods | nodes | both in the pods' file → every pod reports it → nodes are told → old one leaves the file |
//! | `http.secret` | pods | clients, from pods | both in the pods' file → every pod reports it → the new one seals → old one leaves the file |
//! | generated password | pods | people | new one in the pods' file, in the place of the old one → every pod reports it → people are told; nothing overlaps: who asks for it fears the old one |
//!
//! A pod that serves and does not answer the operator is taken to have what was written for it an hour ago.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::overlapping::{Acceptance, Overlapping, Terms, Turn};
use super::{Admin, Error, IncomingAdmin, Keyring, NodeRotation, NodeRotationStage, Retiring};
use crate::certificate_authority::Authority;
use crate::random;

/// A node credential is used for a day. It is accepted for another hour, for pulls that began with it, and longer while nodes
/// that report late may use it.
const NODE_CREDENTIAL: Terms = Terms {
    life: SignedDuration::from_hours(24),
    overlap: SignedDuration::from_hours(1),
    patience: SignedDuration::from_hours(12),
};
/// One that somebody fears others know is accepted for as long as pods and nodes take to hear of the next one.
const FEARED_NODE_CREDENTIAL: Terms =
    Terms { overlap: SignedDuration::from_mins(2), patience: SignedDuration::from_hours(1), ..NODE_CREDENTIAL };

/// An upload that began a moment before its key was replaced may go on for a week, the default of
/// `storage.maintenance.uploadpurging.age`, and for as long as a pod takes to hear of it.
const HTTP_SECRET: Terms = Terms {
    life: SignedDuration::from_hours(30 * 24),
    overlap: SignedDuration::from_hours(8 * 24),
    patience: SignedDuration::from_hours(8 * 24),
};
/// How long a new authority is trusted at least before it signs. Clients do not say that they trust it: those that mount its
/// ConfigMap have it within two minutes.
const TRUST: SignedDuration = SignedDuration::from_mins(5);

/// How long a rotation waits for those who do not answer.
const PATIENCE: SignedDuration = SignedDuration::from_hours(24);
/// How long people may know no password that pods accept, whatever is heard of the pods: the kubelet brings them the new one
/// within two minutes.
const LOCKED_OUT: SignedDuration = SignedDuration::from_mins(3);

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
    /// The request for a new node credential, if there is one.
    pub rotate_node_credential: Option<&'a str>,
    /// Whether a user is to be generated.
    pub admin: bool,
    /// Whether nodes may pull.
    pub nodes: bool,
    /// Whether the Secret that pods mount holds what the keyring said before this pass.
    pub server_is_written: bool,
    /// Whether every ready pod, and at least one, serves the certificate.
    pub pods_serve_leaf: bool,
    /// Whether every ready pod, and at least one, accepts the node credentials as they were before this pass.
    pub pods_accept_nodes: Acceptance,
    /// Whether every ready pod, and at least one, opens what any key of `http.secret` sealed.
    pub pods_accept_http_secret: Acceptance,
    /// Whether every ready pod, and at least one, accepts the generated password, and no other.
    pub pods_accept_admin: Acceptance,
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
    /// There is a new generated password, and pods accept it.
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
        let turns = self.http_secret.advance(at.now, &HTTP_SECRET, at.pods_accept_http_secret, true, false)?;
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
            let trusted = at.nodes_trust_bundle == Some(true) && at.now >= incoming.since + TRUST;
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
            (self.admin, self.incoming_admin, self.written.admin) = (None, None, None);
            return Ok(());
        }
        if self.admin.is_none() {
            self.admin = Some(new_admin()?);
            self.handled_password_rotation = at.rotate_password.map(Into::into);
        }
        if let Some(incoming) = &mut self.incoming_admin {
            let everyone = at.pods_accept_admin == Acceptance::Everyone;
            incoming.shown |= everyone || at.server_is_written && at.now >= incoming.since + LOCKED_OUT;
        }
        if let Some(incoming) =
            self.incoming_admin.take_if(|incoming| at.pods_accept_admin.holds(incoming.since, at.now))
        {
            self.admin = Some(incoming.admin);
            self.handled_password_rotation = Some(incoming.request);
            steps.push(Step::PasswordReplaced);
        }
        if let Some(request) = at.rotate_password
            && self.incoming_admin.is_none()
            && is_new(Some(request), self.handled_password_rotation.as_deref())
        {
            let (admin, since) = (new_admin()?, at.now);
            self.incoming_admin = Some(IncomingAdmin { admin, request: request.into(), since, shown: false });
        }
        Ok(())
    }

    fn advance_nodes(&mut self, at: &Circumstances<'_>, steps: &mut Vec<Step>) -> Result<(), Error> {
        let Some(nodes) = self.nodes.as_mut().filter(|_| at.nodes) else {
            self.nodes = if at.nodes { Some(Overlapping::new(at.now)?) } else { None };
            // Nobody knows one that did not exist.
            self.node_rotation = None;
            self.handled_node_rotation = at.rotate_node_credential.map(Into::into);
            return Ok(());
        };
        if let Some(NodeRotation { stage: NodeRotationStage::Refused(since), .. }) = self.node_rotation
            && nodes.is_settled()
            && at.pods_accept_nodes.holds(since, at.now)
        {
            self.handled_node_rotation = self.node_rotation.take().map(|rotation| rotation.request);
        }
        if let Some(request) = at.rotate_node_credential
            && is_new(Some(request), self.handled_node_rotation.as_deref())
            && self.node_rotation.as_ref().is_none_or(|rotation| rotation.request != request)
        {
            self.node_rotation = Some(NodeRotation { request: request.into(), stage: NodeRotationStage::Waiting });
        }
        let terms = if self.node_rotation.is_some() { &FEARED_NODE_CREDENTIAL } else { &NODE_CREDENTIAL };
        let asked = self.node_rotation.as_ref().is_some_and(|rotation| rotation.stage == NodeRotationStage::Waiting);
        let unused = at.nodes_use_active == Some(true);
        let turns = nodes.advance(at.now, terms, at.pods_accept_nodes, unused, asked)?;
        if let Some(rotation) = &mut self.node_rotation {
            for turn in &turns {
                rotation.stage = match (rotation.stage, turn) {
                    (NodeRotationStage::Waiting, Turn::Incoming) => NodeRotationStage::Begun,
                    (NodeRotationStage::Begun, Turn::Retired) => NodeRotationStage::Refused(at.now),
                    (stage, _) => stage,
                };
            }
        }
        steps.extend(turns.into_iter().map(Step::NodeCredential));
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
            || self.node_rotation.is_some()
            || self.incoming_admin.is_some()
            || self.http_secret.is_incoming()
    }
}

fn new_admin() -> Result<Admin, Error> {
    let password = random::password()?;
    Ok(Admin { hash: bcrypt::hash(&password, BCRYPT_COST)?, password })
}

/// Whether there is a request that was not fulfilled. Its value is an opaque token: only its change counts.
fn is_new(request: Option<&str>, handled: Option<&str>) -> bool {
    request.is_some() && request != handled
}

#[cfg(test)]
mod tests;
