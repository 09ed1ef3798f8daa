use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::node_agent::containerd_config::DEFAULT_LIST;
use crate::node_agent::hosts_toml::Endpoint;

const SINGLE: &str = "/etc/containerd/certs.d";

/// The two mounts of the chart, as a node has them after the agent was installed and before anything was asked.
fn node() -> (TempDir, Vec<HostPath>) {
    let place = tempfile::tempdir().unwrap();
    let mount = |host: &str, name: &str| {
        let seen_at = place.path().join(name);
        fs::create_dir(&seen_at).unwrap();
        HostPath { host: host.into(), seen_at }
    };
    let mounts = vec![mount(SINGLE, "certs.d"), mount("/etc/containerd/certs.d:", "certs.d:")];
    (place, mounts)
}

fn known(name: &str, granted: &[&str]) -> Wish {
    let parse = |host: &str| host.parse().unwrap();
    Wish::Known(Box::new(Known {
        endpoint: Endpoint {
            registry: format!("team-a/{name}"),
            addresses: vec!["10.96.0.7".parse().unwrap()],
            port: 443,
            ca_bundle: "CA".into(),
            authorization: None,
        },
        own: vec![parse(&format!("{name}.team-a.svc"))],
        granted: granted.iter().map(|host| parse(host)).collect(),
        refused: vec![],
    }))
}

fn wanted(wishes: &[(&str, Wish)]) -> Wanted {
    wishes.iter().map(|(uid, wish)| ((*uid).to_owned(), wish.clone())).collect()
}

fn directories(paths: &[&str]) -> BTreeSet<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

/// Every file and directory below a node, sorted.
fn tree(place: &TempDir) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::from(place.path())];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            found.push(path.strip_prefix(place.path()).unwrap().to_str().unwrap().to_owned());
            if path.is_dir() {
                pending.push(path);
            }
        }
    }
    found.sort();
    found
}

fn hosts_of(place: &TempDir, root: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(place.path().join(root)) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap()).filter(|entry| entry.path().is_dir()).collect();
    names.sort_by_key(fs::DirEntry::file_name);
    names.iter().map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[test]
fn a_list_is_written_to_both_places_and_leaves_nothing() {
    let (place, mounts) = node();
    let before = tree(&place);
    let both = directories(&[SINGLE, DEFAULT_LIST]);
    check(&mounts, &[SINGLE.to_owned(), DEFAULT_LIST.to_owned()]).unwrap();
    let trouble = place_all(&mounts, &both, &[("u", known("images", &[]))]);
    assert_eq!(trouble, Trouble::default());
    let expected = ["images.team-a.svc", "images.team-a.svc_443_"];
    assert_eq!(hosts_of(&place, "certs.d"), expected);
    assert_eq!(hosts_of(&place, "certs.d:/etc/docker/certs.d"), expected);
    let toml =
        fs::read_to_string(place.path().join("certs.d:/etc/docker/certs.d/images.team-a.svc/hosts.toml")).unwrap();
    assert!(toml.contains(&format!("ca = \"{DEFAULT_LIST}/images.team-a.svc/ca-")));
    place_all(&mounts, &both, &[]);
    assert_eq!(tree(&place), before);
}

fn place_all(mounts: &[HostPath], paths: &BTreeSet<String>, wishes: &[(&str, Wish)]) -> Trouble {
    place(mounts, paths, &wanted(wishes), false)
}

#[test]
fn a_root_that_is_no_longer_read_is_emptied_by_the_next_run() {
    let (place, mounts) = node();
    let wishes = [("u", known("images", &[]))];
    place_all(&mounts, &directories(&[SINGLE, DEFAULT_LIST]), &wishes);
    place_all(&mounts, &directories(&[SINGLE]), &wishes);
    assert_eq!(hosts_of(&place, "certs.d").len(), 2);
    assert_eq!(hosts_of(&place, "certs.d:"), Vec::<String>::new());
}

#[test]
fn registries_come_and_go_by_themselves() {
    let (place, mounts) = node();
    let single = directories(&[SINGLE]);
    place_all(&mounts, &single, &[("u1", known("images", &["docker.io"])), ("u2", known("charts", &[]))]);
    assert_eq!(hosts_of(&place, "certs.d").len(), 6);
    place_all(&mounts, &single, &[("u2", known("charts", &[]))]);
    assert_eq!(hosts_of(&place, "certs.d"), ["charts.team-a.svc", "charts.team-a.svc_443_"]);
    // The same name under another uid takes the directory over.
    place_all(&mounts, &single, &[("u3", known("charts", &[]))]);
    assert_eq!(hosts_of(&place, "certs.d").len(), 2);
}

#[test]
fn somebody_elses_directory_is_trouble_for_one_registry() {
    let (place, mounts) = node();
    fs::create_dir(place.path().join("certs.d/docker.io")).unwrap();
    fs::create_dir(place.path().join("certs.d/other.team-a.svc:443")).unwrap();
    let trouble = place_all(
        &mounts,
        &directories(&[SINGLE]),
        &[("u1", known("images", &["docker.io"])), ("u2", known("other", &[])), ("u3", known("third", &[]))],
    );
    assert_eq!(trouble.granted["u1"].reason, "HostDirectoryNotOurs");
    assert_eq!(trouble.own["u2"].reason, "HostDirectoryNotOurs");
    assert_eq!((trouble.granted.len(), trouble.own.len()), (1, 1));
    assert!(fs::read_dir(place.path().join("certs.d/docker.io")).unwrap().next().is_none());
}

#[test]
fn what_is_not_understood_stays_as_it_was() {
    let (place, mounts) = node();
    let single = directories(&[SINGLE]);
    place_all(&mounts, &single, &[("u", known("images", &[]))]);
    let before = tree(&place);
    place_all(&mounts, &single, &[("u", Wish::Malformed("why".into()))]);
    assert_eq!(tree(&place), before);
    // Nor does a configuration that cannot be read take anything away from a Registry that exists.
    place_keeping(&mounts, &[("u", known("images", &[]))]);
    assert_eq!(tree(&place), before);
    place_keeping(&mounts, &[]);
    assert_eq!(hosts_of(&place, "certs.d"), Vec::<String>::new());
}

#[test]
fn a_directory_that_is_not_mounted_is_named() {
    let (_place, mounts) = node();
    let why = check(&mounts, &["/etc/containerd/hosts.d".to_owned()]).unwrap_err();
    assert_eq!(why.reason, "ConfigPathNotWritable");
}

fn place_keeping(mounts: &[HostPath], wishes: &[(&str, Wish)]) {
    place(mounts, &BTreeSet::new(), &wanted(wishes), true);
}
