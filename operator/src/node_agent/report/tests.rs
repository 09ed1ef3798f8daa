use super::*;
use crate::node_agent::hosts_toml::Endpoint;

fn known(refused: Vec<Why>) -> Known {
    Known {
        endpoint: Endpoint {
            registry: "team-a/images".into(),
            addresses: vec!["10.96.0.7".parse().unwrap()],
            port: 443,
            ca_bundle: "CA".into(),
            authorization: Some("Basic x".into()),
        },
        own: vec![],
        granted: vec![],
        refused,
    }
}

fn wanted(wish: Wish) -> Wanted {
    [("u".to_owned(), wish)].into()
}

fn verified(known: &Known, verdict: Result<(), Why>) -> Verification {
    let mut verification = Verification::new();
    verification.assume(&known.endpoint, verdict);
    verification
}

fn trouble(reason: &'static str) -> Trouble {
    Trouble { own: [("u".to_owned(), Why::new(reason, "m"))].into(), ..Trouble::default() }
}

fn found(lookup: &Lookup, known: Known, trouble: &Trouble, verdict: Result<(), Why>) -> RegistryReport {
    let verification = verified(&known, verdict);
    let wanted = wanted(Wish::Known(Box::new(known)));
    compose("n", "containerd://2.2.1", lookup, &wanted, trouble, &verification).unwrap().registries["u"].clone()
}

fn directories() -> Lookup {
    Lookup::Directories(vec!["/etc/containerd/certs.d".into()])
}

#[test]
fn trusted_is_what_is_read_and_verified() {
    let report = found(&directories(), known(vec![]), &Trouble::default(), Ok(()));
    assert_eq!((report.state, report.reason.as_str()), (TrustState::Trusted, "Verified"));
    assert_eq!(report.ca_bundle_sha256, Some(fingerprint::of("CA")));
    assert_eq!(report.credential_sha256, Some(fingerprint::of("Basic x")));
}

#[test]
fn whatever_is_missing_is_not_trusted() {
    let none = Trouble::default();
    let why = |reason| Why::new(reason, "m");
    for (lookup, trouble, verdict, state, reason) in [
        (Lookup::Unsupported(why("NoConfigPath")), &none, Ok(()), TrustState::Unsupported, "NoConfigPath"),
        (Lookup::Unknown(why("ConfigNotReadable")), &none, Ok(()), TrustState::Unknown, "ConfigNotReadable"),
        (directories(), &none, Err(why("Unreachable")), TrustState::Unknown, "Unreachable"),
        (directories(), &trouble("HostDirectoryNotOurs"), Ok(()), TrustState::Unsupported, "HostDirectoryNotOurs"),
        (directories(), &trouble("WriteFailed"), Ok(()), TrustState::Unknown, "WriteFailed"),
    ] {
        let report = found(&lookup, known(vec![]), trouble, verdict);
        assert_eq!((report.state, report.reason.as_str()), (state, reason));
    }
}

#[test]
fn a_host_that_it_does_not_get_is_a_reason_and_not_the_state() {
    let refused = known(vec![Why::new("HostNotGranted", "docker.io")]);
    let report = found(&directories(), refused, &Trouble::default(), Ok(()));
    assert_eq!((report.state, report.reason.as_str()), (TrustState::Trusted, "HostNotGranted"));
}

#[test]
fn nothing_is_reported_before_the_first_verdict() {
    let wanted = wanted(Wish::Known(Box::new(known(vec![]))));
    let compose = |lookup: &Lookup| compose("n", "r", lookup, &wanted, &Trouble::default(), &Verification::new());
    assert_eq!(compose(&directories()), None);
    // Where the runtime reads nothing, no verdict is waited for.
    assert!(compose(&Lookup::Unsupported(Why::new("NoConfigPath", ""))).is_some());
}
