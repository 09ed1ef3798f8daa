use std::fs;

use tempfile::TempDir;

use super::*;
use crate::node_agent::containerd_config::DEFAULT_LIST;

/// A node's `/etc/containerd` with these files.
fn node(files: &[(&str, &str)]) -> (TempDir, ConfigDirectory) {
    let place = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = place.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let config = ConfigDirectory { host: "/etc/containerd".into(), seen_at: place.path().to_owned() };
    (place, config)
}

fn found(runtime: &str, files: &[(&str, &str)]) -> Lookup {
    let (_place, config) = node(files);
    lookup(runtime, &config)
}

fn reason(lookup: &Lookup) -> &'static str {
    match lookup {
        Lookup::Directories(_) => "found",
        Lookup::Unsupported(why) | Lookup::Unknown(why) => why.reason,
    }
}

const V3: &str =
    "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/etc/containerd/certs.d'\n";

#[test]
fn a_single_directory() {
    let expected = Lookup::Directories(vec!["/etc/containerd/certs.d".into()]);
    assert_eq!(found("containerd://2.2.1", &[("config.toml", V3)]), expected);
    let slash = V3.replace("certs.d'", "certs.d/'");
    assert_eq!(found("containerd://2.0.0", &[("config.toml", &slash)]), expected);
    let v2 = "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = '/etc/containerd/certs.d'\n";
    for runtime in
        ["containerd://1.7.29", "containerd://1.6.20~ds1", "containerd://v2.1.0-rc.1", "containerd://2.4.0+unknown"]
    {
        assert_eq!(found(runtime, &[("config.toml", v2)]), expected, "{runtime}");
    }
}

#[test]
fn the_default_list_is_two_places() {
    let both = Lookup::Directories(vec!["/etc/containerd/certs.d".into(), DEFAULT_LIST.into()]);
    assert_eq!(found("containerd://2.2.1", &[]), both);
    assert_eq!(found("containerd://2.2.1", &[("config.toml", "version = 3")]), both);
    let list = V3.replace("certs.d'", "certs.d:/etc/docker/certs.d'");
    assert_eq!(found("containerd://2.2.1", &[("config.toml", &list)]), both);
    // Before the transfer service, the list was always taken apart.
    let first = Lookup::Directories(vec!["/etc/containerd/certs.d".into()]);
    assert_eq!(found("containerd://2.0.5", &[("config.toml", &list)]), first);
}

#[test]
fn no_directory_at_all_is_unsupported() {
    let empty = V3.replace("/etc/containerd/certs.d", "");
    assert_eq!(reason(&found("containerd://2.2.1", &[("config.toml", &empty)])), "NoConfigPath");
    assert_eq!(reason(&found("containerd://1.7.0", &[])), "NoConfigPath");
    assert_eq!(reason(&found("cri-o://1.33.0", &[])), "RuntimeNotContainerd");
    assert_eq!(reason(&found("containerd://1.7.11-k3s2", &[])), "RuntimeConfigElsewhere");
}

#[test]
fn what_cannot_be_told_is_unknown() {
    for (runtime, files, expected) in [
        ("", vec![], "RuntimeNotUnderstood"),
        ("containerd://", vec![], "RuntimeVersionUnknown"),
        ("containerd://2.5.0", vec![], "RuntimeVersionUnknown"),
        ("containerd://3.0.0", vec![], "RuntimeVersionUnknown"),
        ("containerd://2.2.1", vec![("config.toml", "version = [")], "ConfigNotUnderstood"),
        ("containerd://2.2.1", vec![("config.toml", "version = 4")], "ConfigNotUnderstood"),
        ("containerd://2.2.1", vec![("config.toml", "imports = ['/opt/more.toml']")], "ConfigNotReadable"),
        ("containerd://2.2.1", vec![("config.toml", "imports = ['../more.toml']")], "ConfigNotReadable"),
        ("containerd://2.2.1", vec![("config.toml", "imports = ['missing.toml']")], "ConfigNotReadable"),
        ("containerd://2.2.1", vec![("config.toml", "imports = ['conf.d/[ab]*.toml']")], "ImportNotUnderstood"),
    ] {
        assert_eq!(reason(&found(runtime, &files)), expected, "{runtime} {files:?}");
    }
}

#[test]
fn imports_are_followed_in_order() {
    let other = V3.replace("certs.d", "hosts.d");
    let main = "version = 3\nimports = ['conf.d/*.toml', 'missing.d/*.toml', '/etc/containerd/last.toml']\n";
    let files = [
        ("config.toml", main),
        ("conf.d/10-a.toml", V3),
        ("conf.d/20-b.toml", &other),
        ("conf.d/30-c.toml.bak", V3),
        ("last.toml", "version = 3\nimports = ['config.toml']"),
    ];
    assert_eq!(found("containerd://2.2.1", &files), Lookup::Directories(vec!["/etc/containerd/hosts.d".into()]));
}

#[test]
fn links_within_are_followed_and_links_out_are_not() {
    let (place, config) = node(&[("real/main.toml", V3)]);
    std::os::unix::fs::symlink("real/main.toml", place.path().join("config.toml")).unwrap();
    assert_eq!(reason(&lookup("containerd://2.2.1", &config)), "found");
    fs::remove_file(place.path().join("config.toml")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", place.path().join("config.toml")).unwrap();
    assert_eq!(reason(&lookup("containerd://2.2.1", &config)), "ConfigNotReadable");
}

#[test]
fn patterns_match_as_in_a_shell() {
    for (pattern, name, expected) in [
        ("*.toml", "a.toml", true),
        ("*.toml", ".toml", true),
        ("*.toml", "a.toml.bak", false),
        ("a*c*e", "abcde", true),
        ("a*c*e", "ace", true),
        ("a*a", "a", false),
        ("*", "x", true),
    ] {
        assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
    }
}
