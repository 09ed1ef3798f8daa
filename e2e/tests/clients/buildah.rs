use anyhow::{Result, ensure};
use berth_e2e::image;
use berth_e2e::registry_process::{PASSWORD, USER};
use http::StatusCode;
use serde_json::Value;

use crate::Shop;

async fn shop() -> Result<Shop> {
    let shop = Shop::open().await?;
    std::fs::create_dir(shop.bench.at("certificates"))?;
    std::fs::copy(&shop.authority, shop.bench.at("certificates/ca.crt"))?;
    std::fs::write(shop.bench.at("policy.json"), r#"{"default": [{"type": "insecureAcceptAnything"}]}"#)?;
    shop.bench.run(
        "buildah",
        &["login", "--cert-dir", &shop.bench.at("certificates"), "-u", USER, "-p", PASSWORD, &shop.host],
    )?;
    Ok(shop)
}

impl Shop {
    fn buildah(&self, verb: &[&str], arguments: &[&str]) -> Result<String> {
        let (root, run) = (self.bench.at("storage"), self.bench.at("storage-run"));
        let storage = ["--root", &root, "--runroot", &run, "--storage-driver", "vfs"];
        self.bench.run("buildah", &[&storage[..], verb, arguments].concat())
    }

    /// With what the verbs that talk to a registry need.
    fn buildah_remote(&self, verb: &[&str], arguments: &[&str]) -> Result<String> {
        let (certificates, policy) = (self.bench.at("certificates"), self.bench.at("policy.json"));
        let options = ["--cert-dir", &certificates, "--signature-policy", &policy];
        self.buildah(verb, &[&options[..], arguments].concat())
    }
}

#[tokio::test]
async fn buildah_builds_and_pushes_an_image_that_another_machine_pulls() -> Result<()> {
    let (shop, name) = (shop().await?, "team/built:1");
    std::fs::write(shop.bench.at("hello"), "hello")?;
    std::fs::write(shop.bench.at("Containerfile"), "FROM scratch\nCOPY hello /hello\nCMD [\"/hello\"]\n")?;
    let (image, policy) = (shop.image(name), shop.bench.at("policy.json"));
    shop.buildah(
        &["build"],
        &["--signature-policy", &policy, "--isolation", "chroot", "-t", &image, &shop.bench.at("")],
    )?;
    shop.buildah_remote(&["push"], &[&image])?;
    let pushed = shop.client.get("/v2/team/built/manifests/1").await?.expect(StatusCode::OK)?;
    ensure!(pushed.header("content-type") == Some(image::IMAGE));

    shop.buildah(&["rmi"], &["--all", "--force"])?;
    shop.buildah_remote(&["pull"], &[&image])?;
    let container = shop.buildah_remote(&["from"], &[&image])?;
    let mounted = shop.buildah(&["mount"], &[container.trim()])?;
    ensure!(std::fs::read(format!("{}/hello", mounted.trim()))? == b"hello");
    Ok(())
}

#[tokio::test]
async fn buildah_pushes_an_index_of_images_for_two_architectures() -> Result<()> {
    let shop = shop().await?;
    shop.buildah(&["manifest", "create"], &["both"])?;
    for (architecture, seed) in [("amd64", 1), ("arm64", 2)] {
        let layout = shop.layout(architecture, &image::image(architecture, seed, 1))?;
        shop.buildah(&["manifest", "add"], &["--arch", architecture, "both", &format!("oci:{layout}:1")])?;
    }
    let name = format!("docker://{}", shop.image("team/both:1"));
    shop.buildah_remote(&["manifest", "push"], &["--all", "both", &name])?;
    let index = shop.client.get("/v2/team/both/manifests/1").await?.expect(StatusCode::OK)?;
    let index: Value = serde_json::from_slice(&index.body)?;
    let entries = index["manifests"].as_array().map_or(&[][..], Vec::as_slice);
    ensure!(entries.len() == 2, "{index}");
    for (entry, seed) in entries.iter().zip([1, 2]) {
        let architecture = entry["platform"]["architecture"].as_str().unwrap_or_default();
        let image = image::image(architecture, seed, 1);
        shop.holds("team/both", image.digest.as_ref(), &image).await?;
    }
    Ok(())
}
