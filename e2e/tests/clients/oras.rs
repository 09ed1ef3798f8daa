use anyhow::{Result, ensure};
use berth_e2e::image;
use berth_e2e::registry_process::{PASSWORD, USER};
use serde_json::Value;

use crate::Shop;

const NOTE: &str = "application/vnd.example.note";

async fn shop() -> Result<Shop> {
    let shop = Shop::open().await?;
    shop.bench.run("oras", &["login", "--ca-file", &shop.authority, "-u", USER, "-p", PASSWORD, &shop.host])?;
    Ok(shop)
}

impl Shop {
    fn oras_push(&self, folder: &str, manifest: &image::Manifest, name: &str) -> Result<String> {
        let layout = format!("{}:1", self.layout(folder, manifest)?);
        self.bench.run("oras", &["cp", "--from-oci-layout", &layout, "--to-ca-file", &self.authority, name])
    }
}

#[tokio::test]
async fn oras_pushes_and_pulls_an_image_an_index_and_files() -> Result<()> {
    let shop = shop().await?;
    let ca = &shop.authority;
    let (image, index) = (image::image("amd64", 1, 2), image::index(&["amd64", "arm64"], 2));
    for (tag, manifest) in [("image", &image), ("index", &index)] {
        let name = shop.image(&format!("team/app:{tag}"));
        shop.oras_push(tag, manifest, &name)?;
        shop.holds("team/app", tag, manifest).await?;
        let pulled = format!("{}:1", shop.bench.at(&format!("pulled-{tag}")));
        shop.bench.run("oras", &["cp", "--from-ca-file", ca, &name, "--to-oci-layout", &pulled])?;
        shop.layout_holds(&format!("pulled-{tag}"), manifest)?;
    }

    let name = shop.image("team/files:1");
    std::fs::write(shop.bench.at("poem.txt"), "roses are red")?;
    shop.bench.run("oras", &["push", "--ca-file", ca, "--artifact-type", NOTE, &name, "poem.txt:text/plain"])?;
    shop.bench.run("oras", &["pull", "--ca-file", ca, "-o", &shop.bench.at("pulled-files"), &name])?;
    ensure!(std::fs::read(shop.bench.at("pulled-files/poem.txt"))? == b"roses are red");
    Ok(())
}

#[tokio::test]
async fn oras_attaches_artifacts_finds_them_and_copies_them_along() -> Result<()> {
    let shop = shop().await?;
    let ca = &shop.authority;
    let name = shop.image("team/app:1");
    shop.oras_push("image", &image::image("amd64", 1, 1), &name)?;
    for kind in ["note", "signature"] {
        std::fs::write(shop.bench.at(kind), format!("a {kind}"))?;
        let kind_of_artifact = format!("application/vnd.example.{kind}");
        let file = format!("{kind}:text/plain");
        shop.bench.run("oras", &["attach", "--ca-file", ca, "--artifact-type", &kind_of_artifact, &name, &file])?;
    }
    ensure!(shop.referrers(&name, &[])?.len() == 2);
    let notes = shop.referrers(&name, &["--artifact-type", NOTE])?;
    ensure!(notes.len() == 1 && notes[0]["artifactType"] == NOTE, "{notes:?}");

    let copy = shop.image("other/app:1");
    shop.bench.run("oras", &["cp", "--recursive", "--from-ca-file", ca, "--to-ca-file", ca, &name, &copy])?;
    ensure!(shop.referrers(&copy, &[])?.len() == 2);
    shop.layers_were_mounted("other/app")
}

impl Shop {
    fn referrers(&self, name: &str, options: &[&str]) -> Result<Vec<Value>> {
        let ask = ["discover", "--ca-file", &self.authority, "--format", "json", name];
        let answer: Value = serde_json::from_str(&self.bench.run("oras", &[&ask, options].concat())?)?;
        Ok(answer["referrers"].as_array().cloned().unwrap_or_default())
    }
}

#[tokio::test]
async fn oras_lists_and_deletes_tags_manifests_and_blobs() -> Result<()> {
    let shop = shop().await?;
    let ca = &shop.authority;
    let image = image::image("amd64", 1, 1);
    let name = shop.image("team/app");
    shop.oras_push("image", &image, &format!("{name}:1"))?;
    shop.bench.run("oras", &["tag", "--ca-file", ca, &format!("{name}:1"), "2", "3"])?;
    ensure!(shop.bench.run("oras", &["repo", "tags", "--ca-file", ca, &name])? == "1\n2\n3\n");
    ensure!(shop.bench.run("oras", &["repo", "ls", "--ca-file", ca, &shop.host])? == "team/app\n");

    let by_digest = format!("{name}@{}", image.digest);
    shop.bench.run("oras", &["manifest", "delete", "--ca-file", ca, "--force", &by_digest])?;
    shop.is_gone("/v2/team/app/manifests/2").await?;
    let layer = &image.blobs[1].digest;
    shop.bench.run("oras", &["blob", "delete", "--ca-file", ca, "--force", &format!("{name}@{layer}")])?;
    shop.is_gone(&format!("/v2/team/app/blobs/{layer}")).await
}
