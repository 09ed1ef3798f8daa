//! distribution's layout: the comment at the head of its `registry/storage/paths.go`.

use std::path::Path;

use anyhow::Result;
use berth_e2e::image::{Blob, Manifest};
use berth_oci::Digest;

use super::write;

pub(super) fn blob(root: &Path, repository: &str, blob: &Blob) -> Result<()> {
    data(root, &blob.digest, &blob.bytes)?;
    link(root, repository, &format!("_layers/sha256/{}", blob.digest.hex()), &blob.digest)
}

pub(super) fn manifest(root: &Path, repository: &str, image: &Manifest, tags: &[String]) -> Result<()> {
    let (digest, hex) = (&image.digest, image.digest.hex());
    data(root, digest, &image.bytes)?;
    link(root, repository, &format!("_manifests/revisions/sha256/{hex}"), digest)?;
    for tag in tags {
        link(root, repository, &format!("_manifests/tags/{tag}/current"), digest)?;
        link(root, repository, &format!("_manifests/tags/{tag}/index/sha256/{hex}"), digest)?;
    }
    Ok(())
}

fn data(root: &Path, digest: &Digest, bytes: &[u8]) -> Result<()> {
    let hex = digest.hex();
    write(&root.join(format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2])), bytes)
}

fn link(root: &Path, repository: &str, name: &str, digest: &Digest) -> Result<()> {
    let link = format!("docker/registry/v2/repositories/{repository}/{name}/link");
    write(&root.join(link), digest.to_string().as_bytes())
}
