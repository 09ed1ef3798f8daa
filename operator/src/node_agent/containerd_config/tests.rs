use std::process::Command;

use super::*;

/// Configurations as a list of files, the first of which imports the others, and what containerd 2.2.1 makes of each.
/// `{main}` marks where the first file's imports go.
const CASES: &[(&[&str], &str)] = &[
    (&["version = 3"], DEFAULT_LIST),
    (
        &["version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/etc/containerd/certs.d'"],
        "/etc/containerd/certs.d",
    ),
    (&["version = 3\n[plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = \"\""], ""),
    (&["version = 2"], DEFAULT_LIST),
    (&["version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = '/v2'"], "/v2"),
    (&["version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = ''"], DEFAULT_LIST),
    (&["version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry.headers]\nx = ['y']"], DEFAULT_LIST),
    // A version 1 file counts as one of version 3 whose plugins nobody knows.
    (&["[plugins.cri.registry]\nconfig_path = '/v1'"], DEFAULT_LIST),
    (&["version = 3\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = '/v2'"], DEFAULT_LIST),
    (&["version = 2\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/v3'"], "/v3"),
    (
        &["version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry.headers]\nx = ['y']\n\
           [plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/v3'"],
        DEFAULT_LIST,
    ),
    (
        &[
            "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/a'",
            "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = ''",
        ],
        "",
    ),
    (
        &[
            "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/a'",
            "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry.headers]\nx = ['y']",
            "version = 3\n[plugins.'io.containerd.cri.v1.images']\nmax_concurrent_downloads = 4",
        ],
        "/a",
    ),
    (
        &[
            "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/a'",
            "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/b'",
            "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/c'",
        ],
        "/c",
    ),
    (&["version = 3", "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = '/v2'"], "/v2"),
    (&["version = 3", "[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/none'"], "/none"),
    (
        &[
            "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = '/v2'",
            "version = 3\n[plugins.'io.containerd.cri.v1.images']\nmax_concurrent_downloads = 4",
        ],
        DEFAULT_LIST,
    ),
    (
        &[
            "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = '/v2'",
            "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry.headers]\nx = ['y']",
        ],
        "/v2",
    ),
];

fn tables(files: &[&str]) -> Vec<Table> {
    files.iter().map(|file| file.parse().unwrap()).collect()
}

fn path(era: Era, files: &[&str]) -> String {
    config_path(era, tables(files)).unwrap()
}

#[test]
fn containerd_2_2_1() {
    for (files, expected) in CASES {
        assert_eq!(path(Era::TwoTwo, files), *expected, "{files:#?}");
    }
}

#[test]
fn containerd_1_replaces_whole_sections_and_has_no_default() {
    let v2 = |body: &str| format!("version = 2\n[plugins.'io.containerd.grpc.v1.cri'{body}");
    let set = v2(".registry]\nconfig_path = '/a'");
    assert_eq!(path(Era::One, &["version = 2"]), "");
    assert_eq!(path(Era::One, &[&set]), "/a");
    assert_eq!(path(Era::One, &[&set, &v2("]\nsandbox_image = 'x'")]), "");
    assert_eq!(
        path(Era::One, &[&set, "version = 2\n[plugins.'io.containerd.gc.v1.scheduler']\npause_threshold = 0.1"]),
        "/a"
    );
    assert_eq!(path(Era::One, &["[plugins.cri.registry]\nconfig_path = '/v1'"]), "/v1");
    assert_eq!(path(Era::One, &["[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = '/a'"]), "");
    assert_eq!(path(Era::One, &["version = 2\n[plugins.cri.registry]\nconfig_path = '/v1'"]), "");
    assert_eq!(config_path(Era::One, tables(&["version = 3"])), Err(TooNew(3)));
}

#[test]
fn containerd_2_0_and_2_1_have_no_default() {
    for era in [Era::TwoZero, Era::TwoOne] {
        assert_eq!(path(era, &[]), "");
        assert_eq!(path(era, &["version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = ''"]), "");
        assert_eq!(
            path(era, &["version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = '/a'"]),
            "/a"
        );
    }
}

#[test]
fn from_2_2_2_an_empty_path_is_the_default_unless_there_are_mirrors() {
    let empty = "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = ''";
    let mirrors =
        "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry.mirrors.'docker.io']\nendpoint = ['https://m']";
    for era in [Era::TwoTwoTwo, Era::TwoThree] {
        assert_eq!(path(era, &[]), DEFAULT_LIST);
        assert_eq!(path(era, &[empty]), DEFAULT_LIST);
        assert_eq!(path(era, &[mirrors]), "");
    }
}

#[test]
fn from_2_3_each_file_is_migrated_by_itself() {
    let v2 = "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = '/v2'";
    let v4 = "version = 4\n[plugins.'io.containerd.cri.v1.images']\nmax_concurrent_downloads = 4";
    assert_eq!(path(Era::TwoThree, &[v2, v4]), "/v2");
    assert_eq!(path(Era::TwoThree, &[v4, v2]), "/v2");
    assert_eq!(path(Era::TwoThree, &["[plugins.cri.registry]\nconfig_path = '/v1'"]), "/v1");
    assert_eq!(config_path(Era::TwoThree, tables(&["version = 5"])), Err(TooNew(5)));
}

/// Asks a real containerd 2.2.0 or 2.2.1: `BERTH_TEST_CONTAINERD=/path/to/containerd cargo test -p berth-operator`.
#[test]
fn containerd_itself_says_the_same() {
    let Some(containerd) = std::env::var_os("BERTH_TEST_CONTAINERD") else { return };
    for (files, expected) in CASES {
        let place = tempfile::tempdir().unwrap();
        for (index, file) in files.iter().enumerate() {
            let imports = if index == 0 { "imports = ['drop-in-*.toml']\n" } else { "" };
            let name = if index == 0 { "config.toml".into() } else { format!("drop-in-{index}.toml") };
            std::fs::write(place.path().join(name), format!("{imports}{file}\n")).unwrap();
        }
        let main = place.path().join("config.toml");
        let output = Command::new(&containerd).arg("--config").arg(main).args(["config", "dump"]).output().unwrap();
        let dump: Table = String::from_utf8(output.stdout).unwrap().parse().unwrap();
        let found = &dump["plugins"]["io.containerd.cri.v1.images"]["registry"]["config_path"];
        assert_eq!(found.as_str(), Some(*expected), "{files:#?}");
    }
}
