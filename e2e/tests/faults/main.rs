//! A registry whose storage fails refuses what it cannot keep, says why, shows nothing of it, goes on with what it can, and is
//! itself again when the storage is: without a restart, and with nothing lost.

mod bucket;
mod disk;
mod files;

use anyhow::{Context as _, Result, ensure};
use berth_e2e::http::{Client, whole};
use berth_e2e::image::{Manifest, image};
use berth_e2e::push::push;
use berth_e2e::registry_process::RegistryProcess;
use http::StatusCode;

/// What a registry does while its storage is at fault.
#[derive(Clone, Copy, Debug)]
struct Expected {
    /// How a push is answered.
    push: StatusCode,
    /// How a deletion is.
    delete: StatusCode,
    /// Whether what is there can be pulled. Otherwise no pull is answered with it, or with anything else.
    pulls: bool,
}

const REPOSITORY: &str = "app";
/// The bytes of an upload that is under way when the fault begins.
const FIRST: &[u8] = b"what came before the fault, ";
const SECOND: &[u8] = b"and what came after it";

/// What is there before the fault.
struct Before {
    /// Under the tags `kept` and `old`.
    kept: Manifest,
    /// Only its blobs.
    next: Manifest,
    /// Where an upload goes on that has its first chunk.
    upload: String,
}

/// Shows what a registry does while its storage fails and afterwards. `fail` begins it, and ends it.
async fn endures(registry: &RegistryProcess, expected: Expected, fail: impl AsyncFn(bool) -> Result<()>) -> Result<()> {
    let client = registry.client()?;
    let before = prepare(&client).await?;
    fail(true).await?;
    let shown = during(&client, &before, expected).await;
    fail(false).await?;
    shown.context("while storage fails")?;
    after(&client, &before, expected).await.context("when storage is well again")?;
    let check = registry.check()?;
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    ensure!(check.status.success(), "{said}");
    Ok(())
}

async fn prepare(client: &Client) -> Result<Before> {
    let (kept, next) = (image("amd64", 1, 2), image("amd64", 2, 2));
    push(client, REPOSITORY, "kept", &kept).await?;
    client.put_manifest(REPOSITORY, "old", &kept).await?.expect(StatusCode::CREATED)?;
    for blob in &next.blobs {
        client.push_blob(REPOSITORY, &blob.digest, &blob.bytes).await?.expect(StatusCode::CREATED)?;
    }
    let location = client.start_upload(REPOSITORY).await?;
    let patched = client.patch(&location, 0, FIRST.len(), whole(FIRST)).await?;
    Ok(Before { kept, next, upload: patched.expect(StatusCode::ACCEPTED)?.location()? })
}

async fn during(client: &Client, before: &Before, expected: Expected) -> Result<()> {
    let other = image("arm64", 3, 1);
    let blob = &other.blobs[1];
    let pushes = [
        ("a blob", client.push_blob(REPOSITORY, &blob.digest, &blob.bytes).await?),
        ("a chunk", client.patch(&before.upload, FIRST.len(), SECOND.len(), whole(SECOND)).await?),
        ("a manifest, over a tag", client.put_manifest(REPOSITORY, "kept", &before.next).await?),
    ];
    for (what, answer) in pushes {
        if answer.status == StatusCode::SERVICE_UNAVAILABLE {
            answer.header("retry-after").with_context(|| format!("{what}: no Retry-After"))?;
        }
        answer.expect(expected.push).with_context(|| what.to_owned())?;
    }
    if expected.pulls {
        ensure!(is_there(client, &before.kept).await?, "it cannot be pulled");
        let blob = client.head(&format!("/v2/{REPOSITORY}/blobs/{}", blob.digest)).await?;
        blob.expect(StatusCode::NOT_FOUND).context("a blob that was refused")?;
        let manifest = client.get(&format!("/v2/{REPOSITORY}/manifests/{}", before.next.digest)).await?;
        manifest.expect(StatusCode::NOT_FOUND).context("a manifest that was refused")?;
    } else {
        ensure!(!is_there(client, &before.kept).await?, "it was pulled from storage that cannot be read");
    }
    let deleted = client.delete(&format!("/v2/{REPOSITORY}/manifests/old")).await?;
    deleted.expect(expected.delete).context("the deletion of a tag")?;
    Ok(())
}

/// Whether the image can be pulled, whole. What is answered with 200 is what it says it is, or breaks off.
async fn is_there(client: &Client, image: &Manifest) -> Result<bool> {
    let tagged = client.get(&format!("/v2/{REPOSITORY}/manifests/kept")).await?;
    if tagged.status != StatusCode::OK {
        return Ok(false);
    }
    ensure!(tagged.body == image.bytes, "another manifest: {}", String::from_utf8_lossy(&tagged.body));
    for blob in &image.blobs {
        match client.get(&format!("/v2/{REPOSITORY}/blobs/{}", blob.digest)).await {
            Ok(answer) if answer.status == StatusCode::OK => ensure!(answer.body == blob.bytes, "other bytes"),
            Ok(_) | Err(_) => return Ok(false),
        }
    }
    Ok(true)
}

async fn after(client: &Client, before: &Before, expected: Expected) -> Result<()> {
    let refused = &image("arm64", 3, 1).blobs[1];
    for (path, bytes) in [
        (format!("blobs/{}", refused.digest), &refused.bytes),
        (format!("manifests/{}", before.next.digest), &before.next.bytes),
    ] {
        let answer = client.get(&format!("/v2/{REPOSITORY}/{path}")).await?;
        // 500 says that nobody knows what came of it; what is there must be whole all the same.
        let may_be_there = expected.push == StatusCode::INTERNAL_SERVER_ERROR && answer.body == bytes;
        if !may_be_there {
            answer.expect(StatusCode::NOT_FOUND).context("what was refused")?;
        }
    }
    ensure!(is_there(client, &before.kept).await?, "it cannot be pulled");
    if expected.delete == StatusCode::ACCEPTED {
        client.get(&format!("/v2/{REPOSITORY}/manifests/old")).await?.expect(StatusCode::NOT_FOUND)?;
    }

    let bytes = [FIRST, SECOND].concat();
    let status = client.get(&before.upload).await?.expect(StatusCode::NO_CONTENT)?;
    ensure!(status.received()? == FIRST.len(), "the upload has {} bytes", status.received()?);
    let patched = client.patch(&before.upload, FIRST.len(), SECOND.len(), whole(SECOND)).await?;
    let location = patched.expect(StatusCode::ACCEPTED)?.location()?;
    let blob = berth_e2e::image::Blob::new("application/octet-stream", bytes);
    client.finish(&location, &blob.digest, "").await?.expect(StatusCode::CREATED)?;
    let read = client.get(&format!("/v2/{REPOSITORY}/blobs/{}", blob.digest)).await?.expect(StatusCode::OK)?;
    ensure!(read.body == blob.bytes, "other bytes than were sent");

    client.put_manifest(REPOSITORY, "kept", &before.next).await?.expect(StatusCode::CREATED)?;
    let moved = client.get(&format!("/v2/{REPOSITORY}/manifests/kept")).await?.expect(StatusCode::OK)?;
    ensure!(moved.body == before.next.bytes, "the tag was not moved");
    Ok(())
}
