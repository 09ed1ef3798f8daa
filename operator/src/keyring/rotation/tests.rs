use super::*;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn lives() -> Lives {
    Lives {
        authority: Duration::from_secs(5 * 365 * 86_400),
        certificate: Duration::from_secs(90 * 86_400),
        renew_before: None,
    }
}

fn at(now: Timestamp, names: &[String]) -> Circumstances<'_> {
    Circumstances {
        now,
        registry: "images",
        names: Some(names),
        lives: lives(),
        rotate_certificates: None,
        rotate_authority: None,
        rotate_password: None,
        rotate_node_credential: None,
        admin: true,
        nodes: true,
        server_is_written: true,
        pods_serve_leaf: false,
        pods_accept_nodes: Acceptance::NotYet,
        pods_accept_http_secret: Acceptance::NotYet,
        pods_accept_admin: Acceptance::NotYet,
        nodes_trust_bundle: None,
        nodes_use_active: None,
    }
}

fn keyring(names: &[String]) -> Keyring {
    let authority = Authority::new("images", start(), lives().authority).unwrap();
    let mut keyring = Keyring::new("uid", authority, start()).unwrap();
    assert_eq!(keyring.advance(&at(start(), names)).unwrap(), [Step::CertificateIssued]);
    keyring
}

fn names() -> Vec<String> {
    vec!["images.a.svc".into(), "10.0.0.1".into()]
}

#[test]
fn a_keyring_at_rest_does_not_change() {
    let names = names();
    let mut keyring = keyring(&names);
    let before = keyring.clone();
    assert_eq!(keyring.advance(&at(start() + HOUR, &names)).unwrap(), []);
    assert!(keyring == before);
    assert_eq!(keyring.due(start(), &lives()), start() + HOUR * 24, "the node credential is the first to change");
}

#[test]
fn nothing_is_certified_before_the_service_has_an_address() {
    let authority = Authority::new("images", start(), lives().authority).unwrap();
    let mut keyring = Keyring::new("uid", authority, start()).unwrap();
    keyring.advance(&Circumstances { names: None, ..at(start(), &[]) }).unwrap();
    assert!(keyring.leaf.is_none() && keyring.server_files().is_none());
}

#[test]
fn a_certificate_is_renewed_when_due_when_asked_and_when_names_change() {
    let names = names();
    let mut keyring = keyring(&names);
    let first = keyring.leaf.clone().unwrap().fingerprint;

    let asked = Circumstances { rotate_certificates: Some("one"), ..at(start() + HOUR, &names) };
    assert_eq!(keyring.advance(&asked).unwrap(), [Step::CertificateIssued]);
    assert_eq!(keyring.advance(&asked).unwrap(), [], "a request is fulfilled once");
    assert_eq!(keyring.handled_certificate_rotation.as_deref(), Some("one"));

    let moved = vec!["images.a.svc".to_owned(), "10.0.0.2".into()];
    let asked = Circumstances { rotate_certificates: Some("one"), ..at(start() + HOUR * 2, &moved) };
    assert_eq!(keyring.advance(&asked).unwrap(), [Step::CertificateIssued]);

    let asked = Circumstances { rotate_certificates: Some("one"), ..at(start() + HOUR * 24 * 61, &moved) };
    assert!(keyring.advance(&asked).unwrap().contains(&Step::CertificateIssued));
    assert_ne!(keyring.leaf.unwrap().fingerprint, first);
}

#[test]
fn an_authority_is_trusted_before_it_signs_and_until_nobody_serves_its_certificates() {
    let names = names();
    let mut keyring = keyring(&names);
    let old = keyring.authority.certificate.clone();
    let asked = |now| Circumstances { rotate_authority: Some("x"), ..at(now, &names) };

    assert_eq!(keyring.advance(&asked(start())).unwrap(), [Step::AuthorityIncoming]);
    assert!(keyring.ca_bundle().contains(&old) && keyring.ca_bundle() != old);
    assert!(keyring.authority.certificate == old, "the old one signs while nodes learn the new one");

    let waiting = Circumstances { nodes_trust_bundle: Some(false), ..asked(start() + HOUR) };
    assert_eq!(keyring.advance(&waiting).unwrap(), []);

    let early = SignedDuration::from_mins(4);
    let early = Circumstances { nodes_trust_bundle: Some(true), ..asked(start() + early) };
    assert_eq!(keyring.advance(&early).unwrap(), [], "clients do not say when they trust it");

    let trusted = Circumstances { nodes_trust_bundle: Some(true), ..asked(start() + HOUR) };
    assert_eq!(keyring.advance(&trusted).unwrap(), [Step::AuthoritySwitched, Step::CertificateIssued]);
    assert!(keyring.ca_bundle().contains(&old), "pods may still serve what the old one signed");

    let served = Circumstances { pods_serve_leaf: true, ..asked(start() + HOUR) };
    assert_eq!(keyring.advance(&served).unwrap(), [Step::AuthorityRetired]);
    assert!(!keyring.ca_bundle().contains(&old));
    assert_eq!(keyring.advance(&served).unwrap(), []);
}

#[test]
fn nodes_that_do_not_answer_hold_an_authority_up_for_a_day() {
    let names = names();
    let mut keyring = keyring(&names);
    let asked = |now| Circumstances { rotate_authority: Some("x"), nodes: false, ..at(now, &names) };
    keyring.advance(&asked(start())).unwrap();
    assert_eq!(keyring.advance(&asked(start() + HOUR * 23)).unwrap(), []);
    let steps = keyring.advance(&asked(start() + HOUR * 24)).unwrap();
    assert_eq!(steps, [Step::AuthoritySwitchedLate, Step::CertificateIssued]);
}

#[test]
fn a_node_credential_is_accepted_before_it_is_used_and_until_nobody_uses_it() {
    let names = names();
    let mut keyring = keyring(&names);
    let lines = |keyring: &Keyring| keyring.server_files().unwrap()["nodes"].lines().count();
    let day = start() + HOUR * 24;
    let first = keyring.entry_files();

    assert_eq!(keyring.advance(&at(day, &names)).unwrap(), [Step::NodeCredential(Turn::Incoming)]);
    assert_eq!((lines(&keyring), keyring.entry_files() == first), (2, true));

    assert_eq!(keyring.advance(&at(day + HOUR, &names)).unwrap(), [], "not told before every pod accepts it");
    let accepted = Circumstances { pods_accept_nodes: Acceptance::Everyone, ..at(day + HOUR, &names) };
    assert_eq!(keyring.advance(&accepted).unwrap(), [Step::NodeCredential(Turn::Switched)]);
    assert_eq!((lines(&keyring), keyring.entry_files() == first), (2, false));

    let used = |now| Circumstances { nodes_use_active: Some(true), ..at(now, &names) };
    assert_eq!(keyring.advance(&used(day + HOUR)).unwrap(), [], "pulls that began with it may still go on");
    assert_eq!(keyring.advance(&used(day + HOUR * 2)).unwrap(), [Step::NodeCredential(Turn::Retired)]);
    assert_eq!(lines(&keyring), 1);
}

#[test]
fn a_node_that_does_not_report_holds_the_old_credential_up_for_half_a_day_and_nobody_looks_meanwhile() {
    let names = names();
    let mut keyring = keyring(&names);
    let day = start() + HOUR * 24;
    keyring.advance(&at(day, &names)).unwrap();
    keyring.advance(&Circumstances { pods_accept_nodes: Acceptance::Everyone, ..at(day, &names) }).unwrap();
    assert_eq!(keyring.due(day, &lives()), day + HOUR);
    assert_eq!(keyring.advance(&at(day + HOUR, &names)).unwrap(), []);
    assert_eq!(keyring.due(day + HOUR, &lives()), day + HOUR * 12);
    let steps = keyring.advance(&at(day + HOUR * 12, &names)).unwrap();
    assert_eq!(steps, [Step::NodeCredential(Turn::Retired)]);
}

#[test]
fn a_new_http_secret_opens_before_it_seals_and_the_old_one_opens_what_it_sealed() {
    let names = names();
    let mut keyring = keyring(&names);
    let keys = |keyring: &Keyring| {
        let file = keyring.server_files().unwrap().remove("http-secret").unwrap();
        file.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let quiet = |now| Circumstances { nodes: false, ..at(now, &names) };
    let old = keys(&keyring);
    assert_eq!(old.len(), 1);

    let month = start() + HOUR * 24 * 30;
    assert_eq!(keyring.advance(&quiet(month)).unwrap(), [Step::HttpSecret(Turn::Incoming)]);
    assert_eq!((keys(&keyring).len(), keys(&keyring)[0].as_str()), (2, old[0].as_str()), "the old one seals");
    assert_eq!(keyring.advance(&quiet(month + HOUR)).unwrap(), [], "not before every pod opens what it seals");

    let accepted = |now| Circumstances { pods_accept_http_secret: Acceptance::Everyone, ..quiet(now) };
    assert_eq!(keyring.advance(&accepted(month + HOUR)).unwrap(), [Step::HttpSecret(Turn::Switched)]);
    assert_eq!((keys(&keyring).len(), keys(&keyring)[1].as_str()), (2, old[0].as_str()), "the old one still opens");

    let week = month + HOUR + HOUR * 24 * 8;
    assert_eq!(keyring.advance(&accepted(week - HOUR)).unwrap(), [], "an upload may be a week old");
    assert_eq!(keyring.advance(&accepted(week)).unwrap(), [Step::HttpSecret(Turn::Retired)]);
    assert!(keys(&keyring).len() == 1 && keys(&keyring) != old);
}

#[test]
fn a_feared_node_credential_is_refused_as_soon_as_nobody_uses_it() {
    let names = names();
    let mut keyring = keyring(&names);
    let first = keyring.entry_files();
    let minutes = |minutes| start() + SignedDuration::from_mins(minutes);
    let asked = |now| Circumstances { rotate_node_credential: Some("x"), ..at(now, &names) };
    let accepted =
        |now| Circumstances { pods_accept_nodes: Acceptance::Everyone, nodes_use_active: Some(true), ..asked(now) };
    assert_eq!(keyring.advance(&asked(minutes(0))).unwrap(), [Step::NodeCredential(Turn::Incoming)]);
    assert_eq!(keyring.advance(&asked(minutes(1))).unwrap(), [], "one request, one replacement");
    assert_eq!(keyring.advance(&accepted(minutes(1))).unwrap(), [Step::NodeCredential(Turn::Switched)]);
    assert!(keyring.entry_files() != first && keyring.is_rotating());
    assert_eq!(keyring.advance(&accepted(minutes(3))).unwrap(), [Step::NodeCredential(Turn::Retired)]);
    assert_eq!(keyring.handled_node_rotation, None, "pods have not heard that the old one is refused");
    keyring.advance(&accepted(minutes(4))).unwrap();
    assert_eq!(keyring.handled_node_rotation.as_deref(), Some("x"));
    assert!(!keyring.is_rotating());
    assert_eq!(keyring.advance(&accepted(minutes(5))).unwrap(), []);
}

#[test]
fn a_feared_credential_is_accepted_for_an_hour_where_a_node_does_not_report() {
    let names = names();
    let mut keyring = keyring(&names);
    let asked = |now| Circumstances {
        rotate_node_credential: Some("x"),
        pods_accept_nodes: Acceptance::Everyone,
        ..at(now, &names)
    };
    keyring.advance(&asked(start())).unwrap();
    keyring.advance(&asked(start())).unwrap();
    assert_eq!(keyring.advance(&asked(start() + SignedDuration::from_mins(59))).unwrap(), []);
    assert_eq!(keyring.advance(&asked(start() + HOUR)).unwrap(), [Step::NodeCredential(Turn::Retired)]);
}

#[test]
fn a_request_for_a_node_credential_is_fulfilled_though_no_pod_is_heard() {
    let names = names();
    let mut keyring = keyring(&names);
    let unheard = |minutes| Circumstances {
        rotate_node_credential: Some("x"),
        pods_accept_nodes: Acceptance::Unheard,
        nodes_use_active: Some(true),
        ..at(start() + SignedDuration::from_mins(minutes), &names)
    };
    for minutes in [0, 60, 62, 121] {
        keyring.advance(&unheard(minutes)).unwrap();
        assert_eq!(keyring.handled_node_rotation, None, "{minutes}");
    }
    keyring.advance(&unheard(122)).unwrap();
    assert_eq!(keyring.handled_node_rotation.as_deref(), Some("x"));
}

#[test]
fn a_request_for_a_node_credential_waits_for_the_replacement_under_way_and_hastens_it() {
    let names = names();
    let mut keyring = keyring(&names);
    let day = start() + HOUR * 24;
    let daily = |now| Circumstances { pods_accept_nodes: Acceptance::Everyone, ..at(now, &names) };
    keyring.advance(&daily(day)).unwrap();
    keyring.advance(&daily(day)).unwrap();
    let asked = |minutes| Circumstances {
        rotate_node_credential: Some("x"),
        nodes_use_active: Some(true),
        ..daily(day + SignedDuration::from_mins(minutes))
    };
    assert_eq!(keyring.advance(&asked(1)).unwrap(), []);
    assert!(keyring.is_rotating(), "it is looked after");
    let both = [Step::NodeCredential(Turn::Retired), Step::NodeCredential(Turn::Incoming)];
    assert_eq!(keyring.advance(&asked(2)).unwrap(), both);
}

#[test]
fn a_pod_that_serves_and_is_not_heard_holds_a_credential_up_for_an_hour_and_one_that_says_no_for_ever() {
    let names = names();
    let mut keyring = keyring(&names);
    let day = start() + HOUR * 24;
    keyring.advance(&at(day, &names)).unwrap();
    assert_eq!(keyring.advance(&at(day + HOUR * 48, &names)).unwrap(), [], "it says no");
    let unheard = |now| Circumstances { pods_accept_nodes: Acceptance::Unheard, ..at(now, &names) };
    assert_eq!(keyring.advance(&unheard(day + SignedDuration::from_mins(59))).unwrap(), []);
    assert_eq!(keyring.advance(&unheard(day + HOUR)).unwrap(), [Step::NodeCredential(Turn::Switched)]);
}

#[test]
fn people_are_told_a_new_password_when_every_pod_accepts_it_and_no_longer_the_old_one() {
    let names = names();
    let mut keyring = keyring(&names);
    let (pods, people) = (keyring.server_files().unwrap(), keyring.admin_files());
    let asked = |token| Circumstances { rotate_password: Some(token), ..at(start() + HOUR, &names) };
    let accepted = |token| Circumstances { pods_accept_admin: Acceptance::Everyone, ..asked(token) };
    assert_eq!(keyring.advance(&asked("one")).unwrap(), []);
    assert_ne!(keyring.server_files().unwrap()["htpasswd"], pods["htpasswd"]);
    assert_eq!(keyring.server_files().unwrap()["htpasswd"].lines().count(), 1, "the old one ends at once");
    assert_eq!((keyring.admin_files(), keyring.handled_password_rotation.as_deref()), (people.clone(), None));

    let pods = keyring.server_files().unwrap();
    assert_eq!(keyring.advance(&accepted("one")).unwrap(), [Step::PasswordReplaced]);
    assert_ne!(keyring.admin_files(), people);
    assert_eq!(keyring.server_files().unwrap()["htpasswd"], pods["htpasswd"]);
    assert_eq!(keyring.handled_password_rotation.as_deref(), Some("one"));
    assert_eq!(keyring.advance(&accepted("one")).unwrap(), [], "a request is fulfilled once");

    keyring.advance(&asked("two")).unwrap();
    let late = Circumstances { now: start() + HOUR + SignedDuration::from_mins(3), ..asked("two") };
    let shown = keyring.admin_files();
    keyring.advance(&Circumstances { server_is_written: false, ..late.clone() }).unwrap();
    assert_eq!(keyring.admin_files(), shown, "pods cannot have it");
    assert_eq!(keyring.advance(&late).unwrap(), [], "a pod may still accept the old one");
    assert_ne!(keyring.admin_files(), shown, "nobody is locked out for longer");
    assert_eq!(keyring.handled_password_rotation.as_deref(), Some("one"));
    assert_eq!(keyring.advance(&accepted("three")).unwrap(), [Step::PasswordReplaced]);
    assert!(keyring.incoming_admin.is_some(), "asked again meanwhile");
}

#[test]
fn a_registry_made_anew_begins_with_the_password_that_people_were_about_to_be_told() {
    let names = names();
    let mut keyring = keyring(&names);
    let asked = Circumstances { rotate_password: Some("one"), ..at(start() + HOUR, &names) };
    keyring.advance(&asked).unwrap();
    let pods = keyring.server_files().unwrap();
    keyring.adopt("other");
    let shown = keyring.admin_files().unwrap()["password"].clone();
    let (_, hash) = pods["htpasswd"].trim_end().split_once(':').unwrap();
    assert!(bcrypt::verify(shown, hash).unwrap() && keyring.server_files().unwrap()["htpasswd"] == pods["htpasswd"]);
}

#[test]
fn a_password_is_not_replaced_where_users_have_their_own() {
    let names = names();
    let mut keyring = keyring(&names);
    let asked = Circumstances { rotate_password: Some("one"), admin: false, ..at(start() + HOUR, &names) };
    assert_eq!(keyring.advance(&asked).unwrap(), []);
    assert!(keyring.admin_files().is_none());
}

#[test]
fn nodes_that_may_not_pull_have_no_credential() {
    let names = names();
    let mut keyring = keyring(&names);
    keyring.advance(&Circumstances { nodes: false, ..at(start(), &names) }).unwrap();
    assert!(keyring.entry_files().is_none());
    assert!(!keyring.server_files().unwrap().contains_key("nodes"));
}

#[test]
fn a_keyring_survives_being_stored() {
    let keyring = keyring(&names());
    let stored = serde_json::to_string(&keyring).unwrap();
    assert!(serde_json::from_str::<Keyring>(&stored).unwrap() == keyring);
}

#[test]
fn an_authority_that_lives_for_days_is_replaced_before_it_ends_whoever_does_not_answer() {
    let names = names();
    let life =
        Lives { authority: Duration::from_secs(24 * 3600), certificate: Duration::from_secs(90 * 86_400), ..lives() };
    let quiet =
        |now| Circumstances { lives: life, nodes: false, admin: false, pods_serve_leaf: true, ..at(now, &names) };
    let authority = Authority::new("images", start(), life.authority).unwrap();
    let mut keyring = Keyring::new("uid", authority, start()).unwrap();
    let mut now = start();
    let mut issued = 0;
    while now < start() + HOUR * 24 * 7 {
        let steps = keyring.advance(&quiet(now)).unwrap();
        issued += steps.iter().filter(|step| **step == Step::CertificateIssued).count();
        assert!(now < keyring.leaf.as_ref().unwrap().not_after, "an expired certificate is served");
        now += SignedDuration::from_mins(10);
    }
    assert!(issued < 60, "{issued} certificates in a week");
}
