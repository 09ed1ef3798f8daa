//! Certificates: one private authority for each Registry, and what it signs.
//!
//! Pure but for randomness. Who keeps the keys, and when they change, is the [keyring](crate::keyring)'s business.

use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde::{Deserialize, Serialize};

use crate::random;

/// How far back a certificate's life begins, for clients whose clocks are behind.
const BACKDATED: SignedDuration = SignedDuration::from_hours(1);

/// A private authority.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Authority {
    /// Its certificate, as PEM.
    pub certificate: String,
    /// Its key, as PEM.
    pub key: String,
    /// When it was made.
    pub since: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
}

/// A serving certificate.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leaf {
    /// The certificate, as PEM.
    pub certificate: String,
    /// Its key, as PEM.
    pub key: String,
    /// SHA-256 of the certificate's DER, in lower-case hexadecimal: how a pod reports it.
    pub fingerprint: String,
    /// The names and addresses it is for.
    pub names: Vec<String>,
    /// When it was made.
    pub since: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
}

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// By the library that makes them.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// For want of randomness.
    #[error(transparent)]
    Random(#[from] random::Unavailable),
}

impl Authority {
    /// A new authority for one Registry. Each has a name of its own, so that two of them in one bundle are told apart.
    pub fn new(registry: &str, now: Timestamp, life: Duration) -> Result<Self, Error> {
        let not_after = later(now, life);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let name = format!("Berth {registry} {}", random::name(8)?);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_life(&mut params, now, not_after);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { certificate, key: key.serialize_pem(), since: now, not_after })
    }

    /// A serving certificate for `names`. It never outlives the authority.
    pub fn issue(&self, names: &[String], now: Timestamp, life: Duration) -> Result<Leaf, Error> {
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, KeyPair::from_pem(&self.key)?)?;
        let not_after = later(now, life).min(self.not_after);
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.iter().map(|name| subject(name)).collect::<Result<_, _>>()?;
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, names.first().filter(|name| name.len() <= 64).map_or("registry", String::as_str));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_life(&mut params, now, not_after);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Leaf {
            fingerprint: crate::fingerprint::of(certificate.der()),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            names: names.to_vec(),
            since: now,
            not_after,
        })
    }

    /// When the next one is due: when two thirds of its life are over.
    pub fn due(&self) -> Timestamp {
        two_thirds(self.since, self.not_after)
    }
}

impl Leaf {
    /// When the next one is due: `renew_before` its end, or when two thirds of its life are over. Never before a third of its
    /// life, or it would be made again and again; and never in its last tenth, for the kubelet takes minutes to bring it.
    pub fn due(&self, renew_before: Option<Duration>) -> Timestamp {
        let life = self.not_after.duration_since(self.since);
        let (earliest, latest) = (self.since + life / 3, self.not_after - life / 10);
        match renew_before.and_then(|before| SignedDuration::try_from(before).ok()) {
            Some(before) => self.not_after.checked_sub(before).unwrap_or(earliest).clamp(earliest, latest),
            None => two_thirds(self.since, self.not_after),
        }
    }
}

fn subject(name: &str) -> Result<SanType, rcgen::Error> {
    Ok(match name.parse::<IpAddr>() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(name.try_into()?),
    })
}

fn two_thirds(since: Timestamp, until: Timestamp) -> Timestamp {
    since + until.duration_since(since) / 3 * 2
}

fn later(now: Timestamp, life: Duration) -> Timestamp {
    SignedDuration::try_from(life).ok().and_then(|life| now.checked_add(life).ok()).unwrap_or(Timestamp::MAX)
}

/// rcgen's dates are another crate's type, which need not be named to be computed with.
fn set_life(params: &mut CertificateParams, from: Timestamp, until: Timestamp) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |time: Timestamp| epoch + Duration::from_secs(u64::try_from(time.as_second()).unwrap_or_default());
    params.not_before = at(from - BACKDATED);
    params.not_after = at(until);
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::*;

    use super::*;

    #[test]
    fn a_leaf_is_renewed_neither_again_and_again_nor_at_its_end() {
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        let hour = SignedDuration::from_hours(1);
        let leaf = |life: i64| Leaf {
            certificate: String::new(),
            key: String::new(),
            fingerprint: String::new(),
            names: Vec::new(),
            since: start,
            not_after: start + hour * i32::try_from(life).unwrap(),
        };
        let due = |life, before: u64| leaf(life).due(Some(Duration::from_secs(before * 3600)));
        assert_eq!(leaf(90).due(None), start + hour * 60);
        assert_eq!(due(90, 40), start + hour * 50, "as it was asked");
        assert_eq!(due(90, 89), start + hour * 30, "not before a third of its life");
        assert_eq!(due(90, 200), start + hour * 30, "as when an authority that ends soon made it shorter than that");
        assert_eq!(due(90, 0), start + hour * 81, "not in its last tenth");
    }

    #[test]
    fn a_leaf_verifies_under_its_authority_and_holds_names_and_addresses() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let authority = Authority::new("images", now, Duration::from_secs(86_400)).unwrap();
        let names = ["images.a.svc".to_owned(), "10.0.0.1".into(), "fd00::1".into()];
        let leaf = authority.issue(&names, now, Duration::from_secs(864_000)).unwrap();
        assert_eq!(leaf.not_after, authority.not_after, "no leaf outlives its authority");

        let (_, ca_pem) = parse_x509_pem(authority.certificate.as_bytes()).unwrap();
        let (_, leaf_pem) = parse_x509_pem(leaf.certificate.as_bytes()).unwrap();
        assert_eq!(crate::fingerprint::of(&leaf_pem.contents), leaf.fingerprint);
        let (ca, leaf) = (ca_pem.parse_x509().unwrap(), leaf_pem.parse_x509().unwrap());
        assert!(ca.is_ca() && !leaf.is_ca());
        assert_eq!(leaf.issuer(), ca.subject());
        assert_eq!(leaf.validity().not_before.timestamp(), now.as_second() - 3600);
        let san = leaf.subject_alternative_name().unwrap().unwrap();
        assert!(
            san.critical || leaf.subject().iter().next().is_some(),
            "a subject, or a critical SAN (RFC 5280, 4.2.1.6)"
        );
        let san: Vec<String> = san.value.general_names.iter().map(ToString::to_string).collect();
        assert_eq!(san.len(), 3, "{san:?}");
    }

    #[test]
    fn two_thirds_of_a_life_are_the_time_to_renew() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let authority = Authority::new("images", now, Duration::from_secs(300)).unwrap();
        assert_eq!(authority.due(), now + SignedDuration::from_secs(200));
        let leaf = authority.issue(&["a".into()], now, Duration::from_secs(150)).unwrap();
        assert_eq!(leaf.due(None), now + SignedDuration::from_secs(100));
        assert_eq!(leaf.due(Some(Duration::from_secs(30))), now + SignedDuration::from_secs(120));
    }
}
