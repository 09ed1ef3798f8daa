//! Disks that are full, read-only, or broken.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use berth_e2e::cluster::run;
use berth_e2e::fragile_disk::{Fault, FragileDisk};
use berth_e2e::image::image;
use berth_e2e::push::push;
use berth_e2e::registry_process::{RegistryProcess, Security, Storage};
use http::StatusCode;
use serde_json::json;
use tempfile::TempDir;

use crate::{Expected, REPOSITORY, endures};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_costs_the_pushes_of_that_time_and_nothing_else() -> Result<()> {
    if !can_mount() {
        return Ok(());
    }
    let (full, unwell) = (StatusCode::INSUFFICIENT_STORAGE, StatusCode::INTERNAL_SERVER_ERROR);
    let (later, done) = (StatusCode::SERVICE_UNAVAILABLE, StatusCode::ACCEPTED);
    for (fault, expected) in [
        (Fault::Full, Expected { push: full, delete: done, pulls: true }),
        (Fault::OverQuota, Expected { push: full, delete: done, pulls: true }),
        (Fault::ReadOnly, Expected { push: later, delete: later, pulls: true }),
        (Fault::FailingWrites, Expected { push: unwell, delete: done, pulls: true }),
        (Fault::FailingSyncs, Expected { push: unwell, delete: unwell, pulls: true }),
        (Fault::FailingReads, Expected { push: unwell, delete: unwell, pulls: false }),
    ] {
        let disk = FragileDisk::mount()?;
        let registry = RegistryProcess::start(Storage::At(disk.path()), Security::None).await?;
        let fail = async |begins: bool| {
            disk.fail(begins.then_some(fault));
            Ok(())
        };
        endures(&registry, expected, fail).await.with_context(|| format!("{fault:?}\n{}", registry.log_end()))?;
        println!("{fault:?}: {expected:?}");
    }
    Ok(())
}

/// So long nothing is collected.
const GRACE: Duration = Duration::from_secs(10);

/// Which of its resources a file system is out of.
#[derive(Clone, Copy, Debug)]
enum Out {
    Bytes,
    Inodes,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_serves_is_started_on_and_is_emptied_by_deletions_and_a_collection() -> Result<()> {
    if !can_mount() {
        return Ok(());
    }
    for out in [Out::Bytes, Out::Inodes] {
        let disk = SmallDisk::mount()?;
        let collection = json!({"enabled": false, "grace": format!("{}s", GRACE.as_secs()), "untagged": "delete"});
        let mut registry = RegistryProcess::start_with(Storage::At(disk.path()), Security::None, collection).await?;
        let fail = async |begins: bool| if begins { disk.fill(out) } else { disk.empty() };
        let (push_, delete) = (StatusCode::INSUFFICIENT_STORAGE, StatusCode::ACCEPTED);
        let expected = Expected { push: push_, delete, pulls: true };
        endures(&registry, expected, fail).await.with_context(|| format!("{out:?}\n{}", registry.log_end()))?;

        let client = registry.client()?;
        push(&client, "other", "garbage", &image("amd64", 7, 3)).await?;
        disk.fill(out)?;
        registry.kill9()?;
        registry.restart().await.with_context(|| format!("{out:?}: it does not start on a full disk"))?;
        client.get(&format!("/v2/{REPOSITORY}/manifests/kept")).await?.expect(StatusCode::OK)?;
        client.delete("/v2/other/manifests/garbage").await?.expect(StatusCode::ACCEPTED)?;
        client
            .delete(&format!("/v2/other/manifests/{}", image("amd64", 7, 3).digest))
            .await?
            .expect(StatusCode::ACCEPTED)?;
        tokio::time::sleep(GRACE + Duration::from_secs(1)).await;
        let (mut child, mut said) = registry.collect(true)?;
        let status = child.wait()?;
        let mut text = String::new();
        std::io::Seek::rewind(&mut said)?;
        std::io::Read::read_to_string(&mut said, &mut text)?;
        ensure!(status.success(), "{out:?}: a full disk is not emptied: {text}\n{}", registry.log_end());
        push(&client, "other", "room", &image("amd64", 7, 3))
            .await
            .with_context(|| format!("{out:?}: no room\n{text}"))?;
        println!("out of {out:?}: {expected:?}; then: {}", text.lines().last().unwrap_or_default());
    }
    Ok(())
}

/// A file system in memory with room for little.
struct SmallDisk {
    folder: TempDir,
}

const BYTES: usize = 24 << 20;
const INODES: usize = 400;

impl SmallDisk {
    fn mount() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("berth-small-disk-").tempdir()?;
        let options = format!("size={BYTES},nr_inodes={INODES}");
        run("mount", &["-t", "tmpfs", "-o", &options, "berth-small-disk", &folder.path().display().to_string()])?;
        std::fs::create_dir(folder.path().join("registry"))?;
        Ok(Self { folder })
    }

    fn path(&self) -> &'static Path {
        // A test lives as long as its disk.
        Box::leak(self.folder.path().join("registry").into_boxed_path())
    }

    fn ballast(&self) -> PathBuf {
        self.folder.path().join("ballast")
    }

    fn fill(&self, out: Out) -> Result<()> {
        let is_full = |error: &std::io::Error| error.kind() == std::io::ErrorKind::StorageFull;
        std::fs::create_dir_all(self.ballast())?;
        for number in 0.. {
            let file = File::create(self.ballast().join(number.to_string()));
            let filled = match (file, out) {
                (Ok(mut file), Out::Bytes) => file.write_all(&vec![0; BYTES]).map(drop),
                (Ok(_), Out::Inodes) => continue,
                (Err(error), _) => Err(error),
            };
            ensure!(filled.as_ref().err().is_some_and(is_full), "{filled:?}");
            return Ok(());
        }
        Ok(())
    }

    fn empty(&self) -> Result<()> {
        Ok(std::fs::remove_dir_all(self.ballast())?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = run("umount", &["--lazy", &self.folder.path().display().to_string()]) {
            eprintln!("{} stays mounted: {error:#}", self.folder.path().display());
        }
    }
}

/// Where one cannot, that is said and nothing is shown.
fn can_mount() -> bool {
    let mounted = FragileDisk::mount();
    if let Err(error) = &mounted {
        println!("SKIPPED: they need root and FUSE: {error:#}");
    }
    mounted.is_ok()
}
