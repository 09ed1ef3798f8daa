//! A process that may open no more files, and a disk whose bits flip.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use berth_e2e::image::image;
use berth_e2e::push::push;
use berth_e2e::registry_process::{RegistryProcess, Security, Storage};
use http::StatusCode;

use crate::{Expected, REPOSITORY, endures};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_open_no_more_files_says_later_and_takes_connections_again_when_it_may() -> Result<()> {
    let registry = RegistryProcess::start(Storage::Directory, Security::None).await?;
    let later = StatusCode::SERVICE_UNAVAILABLE;
    // One more than there are: the connection. Nothing is left for what it asks.
    let fail = async |begins: bool| {
        // The connections of before are closed by then.
        tokio::time::sleep(Duration::from_millis(500)).await;
        registry.limit_files(begins.then_some(1))
    };
    let expected = Expected { push: later, delete: later, pulls: false };
    endures(&registry, expected, fail).await.with_context(|| registry.log_end())?;

    // Not even for connections: they wait, and are answered when there is.
    tokio::time::sleep(Duration::from_millis(500)).await;
    registry.limit_files(Some(0))?;
    let client = registry.client()?;
    let asked = tokio::spawn(async move { client.get("/v2/").await });
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(!asked.is_finished(), "a connection that could not be accepted was answered");
    let busy = registry.processor_time()?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let busy = registry.processor_time()? - busy;
    ensure!(busy.as_millis() < 300, "it tries {busy:?} of a second");
    registry.limit_files(None)?;
    asked.await??.expect(StatusCode::OK)?;
    println!("no file left: {expected:?}; a connection waited, with {busy:?} of a second's trying");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bit_that_flips_is_found_before_the_end_of_its_blob_and_a_push_mends_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut registry = RegistryProcess::start(Storage::At(folder.path()), Security::None).await?;
    let client = registry.client()?;
    let large = large_image();
    push(&client, REPOSITORY, "1", &large).await?;
    registry.kill9()?;
    let damaged = flip_a_bit_in_each_blob(&folder.path().join("d"))?;
    ensure!(damaged == large.blobs.len(), "{damaged} blobs");
    registry.restart().await?;
    for blob in &large.blobs {
        let path = format!("/v2/{REPOSITORY}/blobs/{}", blob.digest);
        // The first reader of a large one has its beginning by then; no reader has its end.
        if let Ok(answer) = client.get(&path).await {
            answer.expect(StatusCode::NOT_FOUND)?;
        }
        client.get(&path).await?.expect(StatusCode::NOT_FOUND)?;
        client.head(&path).await?.expect(StatusCode::NOT_FOUND)?;
    }
    let check = registry.check()?;
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    ensure!(!check.status.success() && said.matches("its bytes are not").count() == damaged, "{said}");
    push(&client, REPOSITORY, "1", &large).await?;
    for blob in &large.blobs {
        let read = client.get(&format!("/v2/{REPOSITORY}/blobs/{}", blob.digest)).await?.expect(StatusCode::OK)?;
        ensure!(read.body == blob.bytes, "other bytes");
    }
    println!("{damaged} damaged blobs: none was given out whole, and a push brought them back");
    Ok(())
}

/// With a layer that is not read at once.
fn large_image() -> berth_e2e::image::Manifest {
    let layer = berth_e2e::image::Blob::new("application/vnd.oci.image.layer.v1.tar", vec![7; 5 << 20]);
    let mut small = image("amd64", 4, 1).blobs.into_iter();
    let config = small.next().expect("an image has a configuration");
    berth_e2e::image::Manifest::of_blobs(config, small.chain([layer]).collect())
}

fn flip_a_bit_in_each_blob(shards: &Path) -> Result<usize> {
    let mut flipped = 0;
    for shard in std::fs::read_dir(shards)? {
        for file in std::fs::read_dir(shard?.path())? {
            let path = file?.path();
            let mut bytes = std::fs::read(&path)?;
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
            std::fs::write(path, bytes)?;
            flipped += 1;
        }
    }
    Ok(flipped)
}
