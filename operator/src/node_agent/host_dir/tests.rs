use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::node_agent::host_name::HostName;

/// Every path below `root` with its permissions and content; a link's content is its target.
fn snapshot(root: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let content = if metadata.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else if metadata.is_dir() {
                pending.push(path.clone());
                Vec::new()
            } else {
                fs::read(&path).unwrap()
            };
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            found.insert(name, (metadata.permissions().mode(), content));
        }
    }
    found
}

fn endpoint(ca_bundle: &str) -> Endpoint {
    Endpoint {
        registry: "team-a/images".into(),
        addresses: vec!["10.96.0.7".parse().unwrap()],
        port: 443,
        ca_bundle: ca_bundle.into(),
        authorization: Some("Basic secret".into()),
    }
}

fn spelling(directory: &str) -> Spelling {
    Spelling { directory: directory.into(), also_read: None }
}

fn root() -> (TempDir, Directory) {
    let place = tempfile::tempdir().unwrap();
    let directory = Directory::open(place.path()).unwrap();
    (place, directory)
}

fn write_one(root: &Directory, name: &str, ca_bundle: &str) -> Outcome {
    write(root, "/etc/containerd/certs.d", &spelling(name), "uid-1", &endpoint(ca_bundle)).unwrap()
}

#[test]
fn a_directory_is_written_once_and_then_left_alone() {
    let (place, root) = root();
    assert_eq!(write_one(&root, "images.team-a.svc", "CA"), Outcome::Written);
    let first = snapshot(place.path());
    assert_eq!(first["images.team-a.svc/hosts.toml"].0 & 0o777, 0o600);
    assert_eq!(write_one(&root, "images.team-a.svc", "CA"), Outcome::Unchanged);
    assert_eq!(snapshot(place.path()), first);
    assert_eq!(ours(&root).unwrap(), [("images.team-a.svc".to_owned(), "uid-1".to_owned())]);
}

#[test]
fn a_new_authority_leaves_no_file_of_the_old() {
    let (place, root) = root();
    write_one(&root, "h", "old");
    assert_eq!(write_one(&root, "h", "new"), Outcome::Written);
    let files: Vec<_> = snapshot(place.path()).into_keys().collect();
    assert_eq!(
        files,
        ["h".to_owned(), "h/.berth".into(), format!("h/{}", endpoint("new").ca_file()), "h/hosts.toml".into()]
    );
}

#[test]
fn edits_by_others_are_undone() {
    let (place, root) = root();
    write_one(&root, "h", "CA");
    let written = snapshot(place.path());
    fs::write(place.path().join("h/hosts.toml"), "server = \"https://evil\"").unwrap();
    fs::remove_file(place.path().join("h").join(endpoint("CA").ca_file())).unwrap();
    fs::write(place.path().join("h/ca-0123456789abcdef.crt"), "stray").unwrap();
    assert_eq!(write_one(&root, "h", "CA"), Outcome::Written);
    assert_eq!(snapshot(place.path()), written);
    fs::remove_file(place.path().join("h/hosts.toml")).unwrap();
    symlink("/etc/passwd", place.path().join("h/hosts.toml")).unwrap();
    assert_eq!(write_one(&root, "h", "CA"), Outcome::Written);
    assert_eq!(snapshot(place.path()), written);
}

#[test]
fn what_others_made_is_not_touched() {
    let (place, root) = root();
    fs::create_dir(place.path().join("directory")).unwrap();
    fs::write(place.path().join("file"), "theirs").unwrap();
    symlink("/nonexistent", place.path().join("link")).unwrap();
    fs::create_dir(place.path().join("false-marker")).unwrap();
    fs::write(place.path().join("false-marker/.berth"), "something else").unwrap();
    let before = snapshot(place.path());
    for name in ["directory", "file", "link", "false-marker"] {
        assert_eq!(write_one(&root, name, "CA"), Outcome::NotOurs, "{name}");
    }
    let ported = Spelling { directory: "h_443_".into(), also_read: Some("directory".into()) };
    assert_eq!(write(&root, "/r", &ported, "u", &endpoint("CA")).unwrap(), Outcome::NotOurs);
    assert!(ours(&root).unwrap().is_empty());
    remove(&root, "directory").unwrap();
    assert_eq!(snapshot(place.path()), before);
}

#[test]
fn what_others_put_into_ours_survives_its_removal() {
    let (place, root) = root();
    write_one(&root, "h", "CA");
    fs::write(place.path().join("h/note.txt"), "theirs").unwrap();
    remove(&root, "h").unwrap();
    assert_eq!(snapshot(place.path()).into_keys().collect::<Vec<_>>(), ["h", "h/note.txt"]);
    assert!(ours(&root).unwrap().is_empty());
}

#[test]
fn what_an_interruption_left_is_cleared_away() {
    let (place, root) = root();
    let staged = root.create_child(STAGED).unwrap();
    staged.write(MARKER, &Content { bytes: b"half".to_vec(), mode: 0o644 }).unwrap();
    write_one(&root, "h", "CA");
    assert!(!snapshot(place.path()).contains_key(STAGED));
    fs::write(place.path().join("h").join(STAGED), "half").unwrap();
    assert_eq!(write_one(&root, "h", "CA"), Outcome::Written);
    assert!(!snapshot(place.path()).contains_key("h/.berth-tmp"));
}

/// Takes what a test did back, whatever it was, the way a cleanup does.
fn remove_all(root: &Directory) {
    for (name, _) in ours(root).unwrap() {
        remove(root, &name).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn writing_and_removing_leaves_the_tree_as_it_was(
        foreign in prop::collection::vec(0_usize..5, 0..5),
        steps in prop::collection::vec((0_usize..5, "[a-c]", any::<bool>()), 1..12),
    ) {
        const HOSTS: [&str; 5] = ["docker.io", "images.team-a.svc", "a", "b.c", "x.y.svc.cluster.local"];
        let (place, root) = root();
        for host in foreign {
            let directory = place.path().join(HOSTS[host]);
            let _ = fs::create_dir(&directory);
            fs::write(directory.join("hosts.toml"), "server = \"https://theirs\"").unwrap();
        }
        let before = snapshot(place.path());
        for (host, ca_bundle, remove_it) in steps {
            let host: HostName = HOSTS[host].parse().unwrap();
            for spelling in host.directories(443) {
                if remove_it {
                    remove(&root, &spelling.directory).unwrap();
                } else {
                    write(&root, "/r", &spelling, "u", &endpoint(&ca_bundle)).unwrap();
                }
            }
        }
        remove_all(&root);
        prop_assert_eq!(snapshot(place.path()), before);
    }
}
