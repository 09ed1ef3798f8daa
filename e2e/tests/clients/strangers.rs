//! Clients that do not trust the registry, and those that the registry does not trust.

use anyhow::{Result, ensure};
use berth_e2e::registry_process::{PASSWORD, USER};

use crate::Shop;

#[tokio::test]
async fn no_client_talks_to_a_registry_whose_authority_it_does_not_know() -> Result<()> {
    let shop = Shop::open().await?;
    let host = shop.host.as_str();
    let logins: [(&str, &[&str]); 6] = [
        ("crane", &["catalog", host]),
        ("oras", &["login", "-u", USER, "-p", PASSWORD, host]),
        ("regctl", &["repo", "ls", host]),
        ("skopeo", &["login", "-u", USER, "-p", PASSWORD, host]),
        ("buildah", &["login", "-u", USER, "-p", PASSWORD, host]),
        ("helm", &["registry", "login", host, "--username", USER, "--password", PASSWORD]),
    ];
    for (program, arguments) in logins {
        let complaint = shop.bench.fails(program, arguments)?;
        ensure!(complaint.contains("certificate") || complaint.contains("x509"), "{complaint}");
    }
    ensure!(!shop.registry.log().contains("principal=\"alice\""), "a password was sent to a stranger");
    Ok(())
}

#[tokio::test]
async fn no_client_gets_in_with_a_wrong_password_or_without_one() -> Result<()> {
    let mut shop = Shop::open().await?;
    shop.bench.set("SSL_CERT_FILE", shop.authority.clone());
    let host = shop.host.as_str();
    let (wrong, ca, image) = ("wrong", shop.authority.as_str(), shop.image("team/app:1"));
    let logins: [(&str, &[&str]); 6] = [
        ("crane", &["catalog", host]),
        ("oras", &["login", "--ca-file", ca, "-u", USER, "-p", wrong, host]),
        ("regctl", &["manifest", "get", &image]),
        ("skopeo", &["login", "-u", USER, "-p", wrong, host]),
        ("buildah", &["login", "-u", USER, "-p", wrong, host]),
        ("helm", &["registry", "login", host, "--ca-file", ca, "--username", USER, "--password", wrong]),
    ];
    for (program, arguments) in logins {
        let complaint = shop.bench.fails(program, arguments)?.to_lowercase();
        let understood = ["401", "unauthorized", "authentication required", "invalid username"];
        ensure!(understood.iter().any(|word| complaint.contains(word)), "{complaint}");
    }
    Ok(())
}
