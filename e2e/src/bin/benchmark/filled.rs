//! Stores that were filled before their server starts: by files, because a million requests would take longer than the rest.
//! Each of the two rooms knows one registry's layout from its documentation.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use berth_e2e::image::{Blob, IMAGE, Manifest};
use serde_json::json;

use crate::client::REPOSITORY;
use crate::server::Kind;

mod berth;
mod distribution;

/// Where a store of this kind lies.
pub(crate) struct Shelf {
    pub(crate) kind: Kind,
    pub(crate) root: PathBuf,
}

/// So many tags name each image.
const TAGS_EACH: usize = 10;

/// The image that tag number `tag` names.
pub(crate) fn tagged(tag: usize) -> Manifest {
    image(tag / TAGS_EACH)
}

/// The name of tag number `tag`. Names are in the order of their numbers.
pub(crate) fn name(tag: usize) -> String {
    format!("t{tag:07}")
}

/// One of many images, whose blobs are all the same.
fn image(number: usize) -> Manifest {
    let config = Blob::new("application/vnd.oci.image.config.v1+json", "{}");
    let document = json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": {"mediaType": config.media_type, "digest": config.digest.to_string(), "size": config.bytes.len()},
        "layers": [],
        "annotations": {"number": number.to_string()},
    });
    let Blob { digest, bytes, .. } = Blob::new(IMAGE, document.to_string());
    Manifest { media_type: IMAGE, digest, bytes, blobs: vec![config], entries: Vec::new() }
}

impl Shelf {
    /// One repository with so many tags.
    pub(crate) fn tags(&self, tags: usize) -> Result<()> {
        for first in (0..tags).step_by(TAGS_EACH) {
            let names: Vec<String> = (first..(first + TAGS_EACH).min(tags)).map(name).collect();
            self.image(REPOSITORY, &tagged(first), &names, first == 0)?;
        }
        Ok(())
    }

    /// One repository with so many images of one tag each.
    pub(crate) fn images(&self, images: usize) -> Result<()> {
        (0..images).try_for_each(|number| self.image(REPOSITORY, &image(number), &[name(number)], number == 0))
    }

    /// So many repositories with one tag each.
    pub(crate) fn repositories(&self, repositories: usize) -> Result<()> {
        let image = image(0);
        (0..repositories).try_for_each(|number| self.image(&repository(number), &image, &["latest".into()], true))
    }

    /// A blob by itself.
    pub(crate) fn blob(&self, repository: &str, blob: &Blob) -> Result<()> {
        match self.kind {
            Kind::Berth => berth::blob(&self.root, repository, blob),
            Kind::Distribution => distribution::blob(&self.root, repository, blob),
            Kind::Nginx => write(&self.root.join(format!("v2/{repository}/blobs/{}", blob.digest)), &blob.bytes),
            Kind::Dd => Ok(()),
        }
    }

    /// An image, with its blobs if the repository does not have them yet.
    fn image(&self, repository: &str, image: &Manifest, tags: &[String], with_blobs: bool) -> Result<()> {
        for blob in image.blobs.iter().filter(|_| with_blobs) {
            self.blob(repository, blob)?;
        }
        match self.kind {
            Kind::Berth => berth::manifest(&self.root, repository, image, tags),
            Kind::Distribution => distribution::manifest(&self.root, repository, image, tags),
            Kind::Nginx | Kind::Dd => bail!("{} has no images", self.kind.name()),
        }
    }
}

/// The name of repository number `number`. These are in order, too.
pub(crate) fn repository(number: usize) -> String {
    format!("team{:04}/app{number:07}", number / 100)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    Ok(fs::write(path, bytes)?)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use anyhow::ensure;
    use berth_e2e::registry_process;

    use super::*;

    #[test]
    fn berth_finds_nothing_wrong_with_a_store_that_was_filled() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let shelf = Shelf { kind: Kind::Berth, root: folder.path().join("root") };
        shelf.tags(3 * TAGS_EACH + 1)?;
        shelf.repositories(3)?;
        let mut check = Command::new(registry_process::binary()?);
        check.arg("check").env("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", &shelf.root);
        let output = check.output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        // 31 tags in one, and one in each of three.
        ensure!(said.contains("34 tags"), "{said}");
        Ok(())
    }
}
