use anyhow::{Result, ensure};
use berth_e2e::image;
use berth_e2e::registry_process::{PASSWORD, USER};
use http::StatusCode;
use serde_json::Value;

use crate::Shop;

async fn shop() -> Result<Shop> {
    let shop = Shop::open().await?;
    // It takes a folder in which every `*.crt` is an authority.
    std::fs::create_dir(shop.bench.at("certificates"))?;
    std::fs::copy(&shop.authority, shop.bench.at("certificates/ca.crt"))?;
    shop.skopeo(&["login", "--cert-dir", &shop.certificates(), "-u", USER, "-p", PASSWORD, &shop.host])?;
    Ok(shop)
}

impl Shop {
    fn certificates(&self) -> String {
        self.bench.at("certificates")
    }

    fn skopeo(&self, arguments: &[&str]) -> Result<String> {
        self.bench.run("skopeo", &[&["--insecure-policy", "--tmpdir", &self.bench.at("")], arguments].concat())
    }

    fn docker(&self, name: &str) -> String {
        format!("docker://{}", self.image(name))
    }
}

#[tokio::test]
async fn skopeo_pushes_and_pulls_an_image_and_an_index() -> Result<()> {
    let shop = shop().await?;
    let certificates = shop.certificates();
    let (image, index) = (image::image("amd64", 1, 2), image::index(&["amd64", "arm64"], 2));
    for (tag, manifest) in [("image", &image), ("index", &index)] {
        let (name, layout) =
            (shop.docker(&format!("team/app:{tag}")), format!("oci:{}:1", shop.layout(tag, manifest)?));
        shop.skopeo(&["copy", "--all", "--dest-cert-dir", &certificates, &layout, &name])?;
        shop.holds("team/app", tag, manifest).await?;
        let raw = shop.skopeo(&["inspect", "--raw", "--cert-dir", &certificates, &name])?;
        ensure!(raw.as_bytes() == manifest.bytes);
        let pulled = format!("pulled-{tag}");
        let into = format!("oci:{}:1", shop.bench.at(&pulled));
        shop.skopeo(&["copy", "--all", "--src-cert-dir", &certificates, &name, &into])?;
        shop.layout_holds(&pulled, manifest)?;
    }
    Ok(())
}

#[tokio::test]
async fn skopeo_pushes_an_image_in_docker_s_format() -> Result<()> {
    let shop = shop().await?;
    let layout = format!("oci:{}:1", shop.layout("index", &image::index(&["amd64", "arm64"], 2))?);
    let options = ["copy", "--all", "--format", "v2s2", "--dest-cert-dir", &shop.certificates()];
    shop.skopeo(&[&options[..], &[&layout, &shop.docker("team/docker:1")]].concat())?;
    let list = shop.client.get("/v2/team/docker/manifests/1").await?.expect(StatusCode::OK)?;
    ensure!(list.header("content-type") == Some("application/vnd.docker.distribution.manifest.list.v2+json"));
    let list: Value = serde_json::from_slice(&list.body)?;
    ensure!(list["manifests"][1]["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json");
    let inspected = shop.skopeo(&["inspect", "--cert-dir", &shop.certificates(), &shop.docker("team/docker:1")])?;
    ensure!(serde_json::from_str::<Value>(&inspected)?["Architecture"] == "amd64");
    Ok(())
}

#[tokio::test]
async fn skopeo_copies_to_another_repository_without_sending_a_layer() -> Result<()> {
    let shop = shop().await?;
    let certificates = shop.certificates();
    let index = image::index(&["amd64", "arm64"], 2);
    let (from, to) = (shop.docker("team/app:1"), shop.docker("other/app:1"));
    let layout = format!("oci:{}:1", shop.layout("index", &index)?);
    shop.skopeo(&["copy", "--all", "--dest-cert-dir", &certificates, &layout, &from])?;
    let options = ["copy", "--all", "--src-cert-dir", &certificates, "--dest-cert-dir", &certificates];
    shop.skopeo(&[&options[..], &[&from, &to]].concat())?;
    shop.holds("other/app", "1", &index).await?;
    shop.layers_were_mounted("other/app")
}

#[tokio::test]
async fn skopeo_lists_tags_and_deletes() -> Result<()> {
    let shop = shop().await?;
    let certificates = shop.certificates();
    let (one, two) = (image::image("amd64", 1, 1), image::image("amd64", 2, 1));
    for (tag, manifest) in [("1", &one), ("2", &two)] {
        let layout = format!("oci:{}:1", shop.layout(tag, manifest)?);
        let name = shop.docker(&format!("team/app:{tag}"));
        shop.skopeo(&["copy", "--dest-cert-dir", &certificates, &layout, &name])?;
    }
    let tags = shop.skopeo(&["list-tags", "--cert-dir", &certificates, &shop.docker("team/app")])?;
    ensure!(serde_json::from_str::<Value>(&tags)?["Tags"] == serde_json::json!(["1", "2"]));
    shop.skopeo(&["delete", "--cert-dir", &certificates, &shop.docker("team/app:1")])?;
    shop.is_gone(&format!("/v2/team/app/manifests/{}", one.digest)).await?;
    shop.holds("team/app", "2", &two).await
}
