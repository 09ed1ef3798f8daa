//! The files in `crds/` are what the types say.

use std::path::Path;

use berth_operator::api::crd;

#[test]
fn crds_are_current() {
    // The chart can read only what lies in it.
    for directory in ["crds", "charts/berth/files/crds"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(directory);
        for (file, yaml) in crd::definitions().unwrap() {
            let stored = std::fs::read_to_string(path.join(file)).unwrap_or_default();
            let command = format!("cargo run -p berth-operator -- crd --out {directory}");
            assert!(stored == yaml, "{directory}/{file} is not current: {command}");
        }
    }
}

#[test]
fn a_crd_holds_nothing_that_would_show_as_a_difference() {
    for (file, yaml) in crd::definitions().unwrap() {
        for line in yaml.lines().map(str::trim) {
            let bare = line.ends_with(": null") || line.ends_with(": []") || line.starts_with("nullable:");
            assert!(!bare && !line.starts_with("format: uint"), "{file}: {line}");
        }
        assert!(yaml.len() < 150_000, "{file} would not fit into the annotation of a client-side apply");
    }
}

#[test]
fn every_field_of_the_spec_is_described() {
    for (file, yaml) in crd::definitions().unwrap() {
        let crd: serde_json::Value = serde_yaml::from_str(&yaml).unwrap();
        let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        described(file, "spec", spec);
    }
}

fn described(file: &str, path: &str, schema: &serde_json::Value) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        assert!(field["description"].is_string(), "{file}: {path}.{name} has no description");
        described(file, &format!("{path}.{name}"), field);
    }
}
