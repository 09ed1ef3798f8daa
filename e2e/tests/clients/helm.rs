use anyhow::{Result, ensure};
use berth_e2e::registry_process::{PASSWORD, USER};

use crate::Shop;

#[tokio::test]
async fn helm_pushes_a_chart_and_gets_it_back() -> Result<()> {
    let shop = Shop::open().await?;
    let ca = &shop.authority;
    let helm = |arguments: &[&str]| shop.bench.run("helm", arguments);
    helm(&["registry", "login", &shop.host, "--ca-file", ca, "--username", USER, "--password", PASSWORD])?;

    std::fs::create_dir_all(shop.bench.at("hello/templates"))?;
    // What stands after a plus is no part of a tag; helm writes an underscore for it.
    std::fs::write(shop.bench.at("hello/Chart.yaml"), "apiVersion: v2\nname: hello\nversion: 1.2.3+build.5\n")?;
    std::fs::write(shop.bench.at("hello/templates/empty.yaml"), "")?;
    helm(&["package", "hello"])?;
    let (charts, chart) = (format!("oci://{}/charts", shop.host), format!("oci://{}/charts/hello", shop.host));
    helm(&["push", "hello-1.2.3+build.5.tgz", &charts, "--ca-file", ca])?;
    let tags = shop.client.get("/v2/charts/hello/tags/list").await?;
    ensure!(String::from_utf8_lossy(&tags.body).contains("1.2.3_build.5"), "{tags:?}");

    std::fs::create_dir(shop.bench.at("pulled"))?;
    helm(&["pull", &chart, "--version", "1.2.3+build.5", "--ca-file", ca, "--destination", "pulled"])?;
    let (pushed, pulled) = (shop.bench.at("hello-1.2.3+build.5.tgz"), shop.bench.at("pulled/hello-1.2.3+build.5.tgz"));
    ensure!(std::fs::read(pushed)? == std::fs::read(pulled)?, "the chart differs");
    // The newest version is found by the list of tags.
    ensure!(helm(&["show", "chart", &chart, "--ca-file", ca])?.contains("version: 1.2.3+build.5"));
    Ok(())
}
