//! The upstream conformance program of the distribution-spec: nothing fails, and nothing is skipped.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use berth_e2e::azurite::Azurite;
use berth_e2e::registry_process::{PASSWORD, RegistryProcess, Security, Storage, USER};
use berth_e2e::replicas::Replicas;
use berth_e2e::s3_server::{S3Program, S3Server};
use berth_e2e::tool::Bench;
use serde_yaml::Value;

/// Fewer tests than this, and the program did not do its work. (It has about 860 for 1.1 and 980 for dev.)
const AT_LEAST: u64 = 800;

#[tokio::test]
async fn version_1_1_over_plain_http_from_a_directory() -> Result<()> {
    conforms("1.1", Storage::Directory, Security::None).await
}

#[tokio::test]
async fn version_1_1_over_tls_with_a_password_from_a_directory() -> Result<()> {
    conforms("1.1", Storage::Directory, Security::TlsAndPassword).await
}

#[tokio::test]
async fn the_main_branch_over_plain_http_from_a_directory() -> Result<()> {
    conforms("dev", Storage::Directory, Security::None).await
}

#[tokio::test]
async fn the_main_branch_over_tls_with_a_password_from_a_directory() -> Result<()> {
    conforms("dev", Storage::Directory, Security::TlsAndPassword).await
}

#[tokio::test]
async fn version_1_1_over_plain_http_from_memory() -> Result<()> {
    conforms("1.1", Storage::Memory, Security::None).await
}

#[tokio::test]
async fn the_main_branch_over_tls_with_a_password_from_memory() -> Result<()> {
    conforms("dev", Storage::Memory, Security::TlsAndPassword).await
}

#[tokio::test]
async fn the_main_branch_over_tls_with_a_password_from_a_bucket_of_minio() -> Result<()> {
    let server = S3Server::start(S3Program::Minio)?;
    conforms("dev", Storage::Bucket(&S3Server::section(&server.endpoint())), Security::TlsAndPassword).await
}

#[tokio::test]
async fn the_main_branch_over_plain_http_from_a_bucket_of_versitygw() -> Result<()> {
    let server = S3Server::start(S3Program::Versitygw)?;
    conforms("dev", Storage::Bucket(&S3Server::section(&server.endpoint())), Security::None).await
}

#[tokio::test]
async fn the_main_branch_over_plain_http_from_a_container_of_azurite() -> Result<()> {
    let server = Azurite::start().await?;
    conforms("dev", Storage::In(&server.storage()), Security::None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_main_branch_from_three_replicas_on_a_bucket_that_take_turns() -> Result<()> {
    let server = S3Server::start(S3Program::Minio)?;
    conforms_in_turns("dev", Storage::Bucket(&S3Server::section(&server.endpoint()))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_main_branch_from_three_replicas_on_a_directory_that_take_turns() -> Result<()> {
    conforms_in_turns("dev", Storage::At(tempfile::tempdir()?.path())).await
}

/// Each request goes to another replica than the one before it.
async fn conforms_in_turns(version: &str, storage: Storage<'_>) -> Result<()> {
    let replicas = Replicas::start(3, storage).await?;
    let mut bench = Bench::new()?;
    bench.set("OCI_REGISTRY", replicas.host());
    bench.set("OCI_TLS", "disabled");
    nothing_fails(version, bench, &format!("three replicas on a {}", storage.kind()))
}

async fn conforms(version: &str, storage: Storage<'_>, security: Security) -> Result<()> {
    let registry = RegistryProcess::start(storage, security).await?;
    let mut bench = Bench::new()?;
    bench.set("OCI_REGISTRY", registry.host());
    match security {
        Security::None => bench.set("OCI_TLS", "disabled"),
        Security::TlsAndPassword => {
            bench.set("OCI_TLS", "enabled");
            bench.set("OCI_USERNAME", USER);
            bench.set("OCI_PASSWORD", PASSWORD);
            bench.set("SSL_CERT_FILE", registry.authority_path());
        }
    }
    nothing_fails(version, bench, &format!("{} {security:?}", storage.kind()))
}

/// Runs the program against what `bench` names, and reads its report.
fn nothing_fails(version: &str, mut bench: Bench, place: &str) -> Result<()> {
    bench.set("OCI_VERSION", version);
    bench.set("OCI_RESULTS_DIR", bench.at(""));
    let output = bench.command("oci-conformance").output()?;
    let report = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    let counts = Counts::read(&report).with_context(|| format!("no result: {complaints}{report}"))?;
    println!("OCI_VERSION={version} {place}: {counts}");

    ensure!(output.status.success(), "{}\n{counts}\n{}", output.status, what_went_wrong(&report));
    ensure!(counts.is_clean(version), "{counts}\n{}", what_went_wrong(&report));
    let results: Value = serde_yaml::from_str(&std::fs::read_to_string(bench.home().join("results.yaml"))?)?;
    ensure!(results["config"]["version"] == version, "the wrong version ran");
    if version == "dev" {
        let apis = results["apis"].as_mapping().context("results.yaml names no APIs")?;
        let others: Vec<_> = apis.iter().filter(|(_, status)| **status != "Pass").collect();
        ensure!(!apis.is_empty() && others.is_empty(), "APIs that did not pass: {others:?}");
    }
    Ok(())
}

/// The table at the end of the report.
struct Counts(BTreeMap<String, u64>);

impl Counts {
    fn read(report: &str) -> Option<Self> {
        let table = report.split("OCI Conformance Result:").nth(1)?;
        let rows = table.lines().skip(1).map_while(|line| {
            let (name, count) = line.trim().split_once(':')?;
            Some((name.trim_end_matches('.').to_owned(), count.trim().parse().ok()?))
        });
        let counts = BTreeMap::from_iter(rows);
        ["Pass", "FAIL", "Error", "Skip", "Disabled", "Total"]
            .iter()
            .all(|name| counts.contains_key(*name))
            .then_some(Self(counts))
    }

    fn is_clean(&self, version: &str) -> bool {
        let may_differ = |name: &str| matches!(name, "Pass" | "Total") || (name == "Disabled" && version != "dev");
        self.0["Pass"] >= AT_LEAST && self.0.iter().all(|(name, count)| *count == 0 || may_differ(name))
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|(name, count)| write!(f, "{name} {count}  "))
    }
}

/// The tests that did not pass, with their reasons, from the tree at the start of the report.
fn what_went_wrong(report: &str) -> String {
    let tree = report.split("Configuration:").next().unwrap_or_default();
    let bad = |line: &&str| {
        let line = line.trim_end();
        line.ends_with(": FAIL")
            || line.ends_with(": Error")
            || line.ends_with(": Skip")
            || line.trim_start().starts_with("- ")
    };
    tree.lines().filter(bad).take(200).collect::<Vec<_>>().join("\n")
}
