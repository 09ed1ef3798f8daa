//! What no client can be made to do at will: to break off in the middle, and to go on.

use anyhow::{Result, ensure};
use berth_e2e::http::{cut_off_after, nothing, whole};
use berth_e2e::image::{self, Blob, Manifest};
use bytes::Bytes;
use http::{Method, StatusCode};

use crate::Shop;

impl Shop {
    /// Pushes a manifest and all it points at with our own client.
    pub(crate) async fn push(&self, repository: &str, reference: &str, manifest: &Manifest) -> Result<()> {
        for blob in &manifest.blobs {
            self.client.push_blob(repository, &blob.digest, &blob.bytes).await?.expect(StatusCode::CREATED)?;
        }
        for entry in &manifest.entries {
            Box::pin(self.push(repository, entry.digest.as_ref(), entry)).await?;
        }
        self.client.put_manifest(repository, reference, manifest).await?.expect(StatusCode::CREATED).map(drop)
    }
}

const CHUNK: usize = 256 << 10;

fn four_chunks() -> Blob {
    let mut random = fastrand::Rng::with_seed(4);
    Blob::new("application/octet-stream", Bytes::from_iter(std::iter::repeat_with(|| random.u8(..)).take(4 * CHUNK)))
}

#[tokio::test]
async fn an_upload_goes_on_after_its_connection_was_cut_in_the_middle_of_a_chunk() -> Result<()> {
    let shop = Shop::open().await?;
    let blob = four_chunks();
    let location = shop.client.start_upload("team/app").await?;
    let first =
        shop.client.patch(&location, 0, CHUNK, whole(blob.bytes.slice(..CHUNK))).await?.expect(StatusCode::ACCEPTED)?;
    ensure!(first.received()? == CHUNK);
    let location = first.location()?;

    let half = cut_off_after(blob.bytes.slice(CHUNK..CHUNK + CHUNK / 2));
    ensure!(shop.client.patch(&location, CHUNK, CHUNK, half).await.is_err(), "a broken chunk was answered");
    // What arrived of the broken chunk may be kept or dropped; what was acknowledged must be there.
    let status = shop.client.get(&location).await?.expect(StatusCode::NO_CONTENT)?;
    let (mut stored, mut location) = (status.received()?, status.location()?);
    ensure!((CHUNK..=CHUNK + CHUNK / 2).contains(&stored), "{stored} bytes are stored");

    while stored < blob.bytes.len() {
        let length = CHUNK.min(blob.bytes.len() - stored);
        let answer =
            shop.client.patch(&location, stored, length, whole(blob.bytes.slice(stored..stored + length))).await?;
        // The registry may have stored more of the broken chunk after it was asked.
        ensure!(matches!(answer.status, StatusCode::ACCEPTED | StatusCode::RANGE_NOT_SATISFIABLE), "{answer:?}");
        (stored, location) = (answer.received()?, answer.location()?);
    }
    shop.client.finish(&location, &blob.digest, "").await?.expect(StatusCode::CREATED)?;
    let pulled = shop.client.get(&format!("/v2/team/app/blobs/{}", blob.digest)).await?;
    ensure!(pulled.body == blob.bytes, "it differs");
    Ok(())
}

#[tokio::test]
async fn an_upload_goes_on_after_the_registry_was_restarted() -> Result<()> {
    let mut shop = Shop::open().await?;
    let blob = four_chunks();
    let location = shop.client.start_upload("team/app").await?;
    let half = 2 * CHUNK;
    let answer =
        shop.client.patch(&location, 0, half, whole(blob.bytes.slice(..half))).await?.expect(StatusCode::ACCEPTED)?;
    ensure!(shop.registry.terminate().await?.success());
    shop.registry.restart().await?;

    let status = shop.client.get(&answer.location()?).await?.expect(StatusCode::NO_CONTENT)?;
    ensure!(status.received()? == half);
    let end = shop.client.finish(&status.location()?, &blob.digest, blob.bytes.slice(half..)).await?;
    end.expect(StatusCode::CREATED)?;
    let pulled = shop.client.get(&format!("/v2/team/app/blobs/{}", blob.digest)).await?;
    ensure!(pulled.body == blob.bytes, "it differs");
    Ok(())
}

#[tokio::test]
async fn a_blob_cut_off_while_it_was_pushed_whole_is_not_there() -> Result<()> {
    let shop = Shop::open().await?;
    let blob = four_chunks();
    let path = format!("/v2/team/app/blobs/uploads/?digest={}", blob.digest);
    let length = blob.bytes.len().to_string();
    let headers = [("content-type", "application/octet-stream"), ("content-length", length.as_str())];
    let cut = cut_off_after(blob.bytes.slice(..CHUNK));
    ensure!(shop.client.send(Method::POST, &path, &headers, cut).await.is_err());
    shop.is_gone(&format!("/v2/team/app/blobs/{}", blob.digest)).await
}

#[tokio::test]
async fn a_blob_is_mounted_from_another_repository_but_not_from_one_that_lacks_it() -> Result<()> {
    let shop = Shop::open().await?;
    let image = image::image("amd64", 1, 1);
    shop.push("team/app", "1", &image).await?;
    let mount = |repository: &str, from: &str| {
        let path = format!("/v2/{repository}/blobs/uploads/?mount={}&from={from}", image.blobs[0].digest);
        let client = shop.client.clone();
        async move { client.send(Method::POST, &path, &[], nothing()).await }
    };
    mount("other/app", "team/app").await?.expect(StatusCode::CREATED)?;
    mount("third/app", "nobody/app").await?.expect(StatusCode::ACCEPTED)?;
    let path = format!("/v2/other/app/blobs/{}", image.blobs[0].digest);
    ensure!(shop.client.get(&path).await?.body == image.blobs[0].bytes);
    shop.is_gone(&format!("/v2/third/app/blobs/{}", image.blobs[0].digest)).await
}

#[tokio::test]
async fn artifacts_are_listed_with_their_subject_even_when_it_came_after_them() -> Result<()> {
    let shop = Shop::open().await?;
    let image = image::image("amd64", 1, 1);
    let (note, signature) = (
        image::artifact("application/vnd.example.note", &image, "a note"),
        image::artifact("application/vnd.example.signature", &image, "signed"),
    );
    shop.push("team/app", "note", &note).await?;
    shop.push("team/app", "1", &image).await?;
    shop.push("team/app", signature.digest.as_ref(), &signature).await?;
    let path = format!("/v2/team/app/referrers/{}", image.digest);
    let all = shop.client.get(&path).await?.expect(StatusCode::OK)?;
    let all: serde_json::Value = serde_json::from_slice(&all.body)?;
    ensure!(all["manifests"].as_array().map(Vec::len) == Some(2), "{all}");
    let notes =
        shop.client.get(&format!("{path}?artifactType=application/vnd.example.note")).await?.expect(StatusCode::OK)?;
    ensure!(notes.header("oci-filters-applied") == Some("artifactType"));
    let notes: serde_json::Value = serde_json::from_slice(&notes.body)?;
    ensure!(notes["manifests"].as_array().map(Vec::len) == Some(1), "{notes}");
    ensure!(notes["manifests"][0]["digest"] == note.digest.to_string());
    Ok(())
}
