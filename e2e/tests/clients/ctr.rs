use anyhow::{Result, ensure};
use berth_e2e::containerd_process::ContainerdProcess;
use berth_e2e::image;
use berth_e2e::registry_process::{PASSWORD, USER};

use crate::Shop;

#[tokio::test]
async fn containerd_pulls_an_index_and_pushes_it_elsewhere() -> Result<()> {
    let shop = Shop::open().await?;
    let containerd = ContainerdProcess::start(&shop.bench)?;
    let hosts = shop.bench.at("hosts");
    std::fs::create_dir_all(format!("{hosts}/{}", shop.host))?;
    let settings = format!("[host.\"https://{}\"]\nca = \"{}\"\n", shop.host, shop.authority);
    std::fs::write(format!("{hosts}/{}/hosts.toml", shop.host), settings)?;
    let user = format!("{USER}:{PASSWORD}");
    let remote = ["--hosts-dir", &hosts, "--user", &user];

    let index = image::index(&["amd64", "arm64"], 2);
    shop.push("team/app", "1", &index).await?;
    let (from, to) = (shop.image("team/app:1"), shop.image("other/app:1"));
    let pull = [&["images", "pull", "--all-platforms", "--snapshotter", "native"], &remote[..], &[&from]].concat();
    containerd.ctr(&shop.bench, &pull)?;
    let images = containerd.ctr(&shop.bench, &["images", "ls"])?;
    ensure!(images.contains(&index.digest.to_string()), "{images}");
    for manifest in [&index, &index.entries[0]] {
        let content = containerd.ctr(&shop.bench, &["content", "get", manifest.digest.as_ref()])?;
        ensure!(content.as_bytes() == manifest.bytes, "{} differs", manifest.digest);
    }

    containerd.ctr(&shop.bench, &["images", "tag", &from, &to])?;
    containerd.ctr(&shop.bench, &[&["images", "push"], &remote[..], &[&to]].concat())?;
    shop.holds("other/app", "1", &index).await
}
