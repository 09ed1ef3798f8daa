use anyhow::{Result, ensure};
use berth_e2e::image;
use berth_e2e::registry_process::{PASSWORD, USER};

use crate::Shop;

async fn shop() -> Result<Shop> {
    let mut shop = Shop::open().await?;
    shop.bench.set("SSL_CERT_FILE", shop.authority.clone()); // it has no option for that
    shop.bench.run("crane", &["auth", "login", &shop.host, "-u", USER, "-p", PASSWORD])?;
    Ok(shop)
}

#[tokio::test]
async fn crane_pushes_and_pulls_an_image_and_an_index() -> Result<()> {
    let shop = shop().await?;
    let (image, index) = (image::image("amd64", 1, 2), image::index(&["amd64", "arm64"], 2));
    for (tag, manifest) in [("image", &image), ("index", &index)] {
        let (name, layout) = (shop.image(&format!("team/app:{tag}")), shop.layout(tag, manifest)?);
        shop.bench.run("crane", &["push", &layout, &name])?;
        shop.holds("team/app", tag, manifest).await?;

        ensure!(shop.bench.run("crane", &["digest", &name])?.trim() == manifest.digest.to_string());
        ensure!(shop.bench.run("crane", &["manifest", &name])?.as_bytes() == manifest.bytes);
        shop.bench.run("crane", &["validate", "--remote", &name])?;
        let pulled = format!("pulled-{tag}");
        shop.bench.run("crane", &["pull", "--format=oci", &name, &shop.bench.at(&pulled)])?;
        shop.layout_holds(&pulled, manifest)?;
    }
    Ok(())
}

#[tokio::test]
async fn crane_lists_tags_and_deletes_by_tag_and_by_digest() -> Result<()> {
    let shop = shop().await?;
    let image = image::image("amd64", 1, 1);
    let name = shop.image("team/app");
    shop.bench.run("crane", &["push", &shop.layout("image", &image)?, &format!("{name}:1")])?;
    shop.bench.run("crane", &["tag", &format!("{name}:1"), "2"])?;
    ensure!(shop.bench.run("crane", &["ls", &name])? == "1\n2\n");
    ensure!(shop.bench.run("crane", &["catalog", &shop.host])? == "team/app\n");

    shop.bench.run("crane", &["delete", &format!("{name}:1")])?;
    shop.is_gone("/v2/team/app/manifests/1").await?;
    shop.holds("team/app", "2", &image).await?;
    shop.bench.run("crane", &["delete", &format!("{name}@{}", image.digest)])?;
    shop.is_gone(&format!("/v2/team/app/manifests/{}", image.digest)).await?;
    shop.is_gone("/v2/team/app/manifests/2").await
}

#[tokio::test]
async fn crane_copies_to_another_repository_without_sending_a_layer() -> Result<()> {
    let shop = shop().await?;
    let index = image::index(&["amd64", "arm64"], 2);
    let (from, to) = (shop.image("team/app:1"), shop.image("other/app:1"));
    shop.bench.run("crane", &["push", &shop.layout("index", &index)?, &from])?;
    shop.bench.run("crane", &["copy", &from, &to])?;
    shop.holds("other/app", "1", &index).await?;
    shop.layers_were_mounted("other/app")
}
