//! Berth's layout: `docs/storage.md`, Keys.

use std::path::{Path, PathBuf};

use anyhow::Result;
use berth_e2e::image::{Blob, Manifest};
use serde_json::json;
use ulid::Ulid;

use super::write;

pub(super) fn blob(root: &Path, repository: &str, blob: &Blob) -> Result<()> {
    let (link, data) = (Ulid::generate(), Ulid::generate());
    let [.., shard] = data.to_bytes();
    write(&root.join(format!("d/{shard:02x}/{data}")), &blob.bytes)?;
    // Its hint may be lost, so there need be none.
    let link = format!("_b/{}/{link}.{data}.{}", blob.digest, blob.bytes.len());
    write(&folder(root, repository).join(link), &[])
}

pub(super) fn manifest(root: &Path, repository: &str, image: &Manifest, tags: &[String]) -> Result<()> {
    let (folder, digest, record) = (folder(root, repository), &image.digest, Ulid::generate());
    write(&folder.join(format!("_m/{digest}/{record}.oci-manifest")), &image.bytes)?;
    for tag in tags {
        write(&folder.join(format!("_x/{digest}/{tag}.{record}")), &[])?;
        let value = json!({
            "digest": digest.to_string(),
            "mediaType": image.media_type,
            "record": record.to_string(),
            "write": Ulid::generate().to_string(),
        });
        write(&folder.join(format!("_t/{tag}")), value.to_string().as_bytes())?;
    }
    Ok(())
}

fn folder(root: &Path, repository: &str) -> PathBuf {
    root.join("r").join(repository.replace('/', "~"))
}
