use anyhow::{Result, ensure};
use berth_e2e::image;
use berth_e2e::registry_process::{PASSWORD, USER};
use serde_json::Value;

use crate::Shop;
use crate::cut::Wire;

async fn shop() -> Result<Shop> {
    let mut shop = Shop::open().await?;
    shop.bench.set("SSL_CERT_FILE", shop.authority.clone());
    shop.bench.run("regctl", &["registry", "login", &shop.host, "--user", USER, "--pass", PASSWORD])?;
    Ok(shop)
}

#[tokio::test]
async fn regctl_pushes_and_pulls_an_image_and_an_index() -> Result<()> {
    let shop = shop().await?;
    let (image, index) = (image::image("amd64", 1, 2), image::index(&["amd64", "arm64"], 2));
    for (tag, manifest) in [("image", &image), ("index", &index)] {
        let name = shop.image(&format!("team/app:{tag}"));
        let layout = format!("ocidir://{}:1", shop.layout(tag, manifest)?);
        shop.bench.run("regctl", &["image", "copy", &layout, &name])?;
        shop.holds("team/app", tag, manifest).await?;
        ensure!(shop.bench.run("regctl", &["image", "digest", &name])?.trim() == manifest.digest.to_string());
        let pulled = format!("pulled-{tag}");
        shop.bench.run("regctl", &["image", "copy", &name, &format!("ocidir://{}:1", shop.bench.at(&pulled))])?;
        shop.layout_holds(&pulled, manifest)?;
    }
    Ok(())
}

#[tokio::test]
async fn regctl_sends_a_large_blob_in_chunks() -> Result<()> {
    let shop = shop().await?;
    shop.put_in_chunks(&shop.host).await?;
    let chunks = shop.registry.log().lines().filter(|line| line.contains("endpoint=\"upload_chunk\"")).count();
    ensure!(chunks > 1, "it was sent in {chunks} chunks");
    Ok(())
}

/// The connection breaks in the middle of the third chunk, and regctl goes on from there by itself.
#[tokio::test(flavor = "multi_thread")]
async fn regctl_goes_on_after_its_connection_was_cut_in_the_middle_of_a_chunk() -> Result<()> {
    let shop = shop().await?;
    let wire = Wire::to(&shop.host, 700_000).await?;
    shop.bench.run("regctl", &["registry", "login", &wire.host, "--user", USER, "--pass", PASSWORD])?;
    shop.put_in_chunks(&wire.host).await?;
    ensure!(wire.cuts() == 1, "the wire broke {} times", wire.cuts());
    // The upload went on without beginning again: from where the chunk began, or from further on when some of it had arrived,
    // which a refusal told.
    let log = shop.registry.log();
    let is_begun = |line: &&str| line.contains("endpoint=\"start_upload\"") && line.contains("status=202");
    ensure!(log.lines().filter(is_begun).count() == 1, "{log}");
    Ok(())
}

#[tokio::test]
async fn regctl_puts_artifacts_on_an_image_lists_them_and_copies_them_along() -> Result<()> {
    let shop = shop().await?;
    let name = shop.image("team/app:1");
    let layout = format!("ocidir://{}:1", shop.layout("image", &image::image("amd64", 1, 1))?);
    shop.bench.run("regctl", &["image", "copy", &layout, &name])?;
    for kind in ["note", "signature"] {
        std::fs::write(shop.bench.at(kind), format!("a {kind}"))?;
        let kind_of_artifact = format!("application/vnd.example.{kind}");
        let file = shop.bench.at(kind);
        let put = ["artifact", "put", "--artifact-type", &kind_of_artifact, "--subject", &name, "--file", &file];
        shop.bench.run("regctl", &put)?;
    }
    ensure!(shop.artifacts(&name, &[])? == 2);
    ensure!(shop.artifacts(&name, &["--filter-artifact-type", "application/vnd.example.note"])? == 1);

    let copy = shop.image("other/app:1");
    shop.bench.run("regctl", &["image", "copy", "--referrers", &name, &copy])?;
    ensure!(shop.artifacts(&copy, &[])? == 2);
    shop.layers_were_mounted("other/app")
}

impl Shop {
    /// Puts a megabyte in four chunks by way of `host`, after which the registry has it.
    async fn put_in_chunks(&self, host: &str) -> Result<()> {
        self.bench.run("regctl", &["registry", "set", host, "--blob-chunk", "300000", "--blob-max", "100000"])?;
        let bytes = fastrand::Rng::with_seed(3).u128(..).to_string().repeat(30_000);
        let blob = image::Blob::new("application/octet-stream", bytes);
        let file = self.bench.at("blob");
        std::fs::write(&file, &blob.bytes)?;
        let mut put = self.bench.command("regctl");
        put.args(["blob", "put", &format!("{host}/team/app")]).stdin(std::fs::File::open(&file)?);
        let output = tokio::task::spawn_blocking(move || put.output()).await??;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let path = format!("/v2/team/app/blobs/{}", blob.digest);
        ensure!(self.client.get(&path).await?.body == blob.bytes, "it differs");
        Ok(())
    }

    fn artifacts(&self, name: &str, options: &[&str]) -> Result<usize> {
        let list = ["artifact", "list", "--format", "{{json .Descriptors}}", name];
        let answer: Value = serde_json::from_str(&self.bench.run("regctl", &[&list, options].concat())?)?;
        Ok(answer.as_array().map_or(0, Vec::len))
    }
}

#[tokio::test]
async fn regctl_lists_and_deletes_tags_and_manifests() -> Result<()> {
    let shop = shop().await?;
    let image = image::image("amd64", 1, 1);
    let name = shop.image("team/app");
    let layout = format!("ocidir://{}:1", shop.layout("image", &image)?);
    for tag in ["1", "2", "3"] {
        shop.bench.run("regctl", &["image", "copy", &layout, &format!("{name}:{tag}")])?;
    }
    ensure!(shop.bench.run("regctl", &["tag", "ls", &name])? == "1\n2\n3\n");
    ensure!(shop.bench.run("regctl", &["tag", "ls", "--limit", "1", "--last", "1", &name])? == "2\n");
    ensure!(shop.bench.run("regctl", &["repo", "ls", &shop.host])? == "team/app\n");

    shop.bench.run("regctl", &["tag", "delete", &format!("{name}:1")])?;
    shop.is_gone("/v2/team/app/manifests/1").await?;
    shop.holds("team/app", "2", &image).await?;
    shop.bench.run("regctl", &["manifest", "delete", &format!("{name}@{}", image.digest)])?;
    shop.is_gone("/v2/team/app/manifests/2").await
}
