//! Small images, indexes and artifacts, byte for byte the same on every run.

use std::path::Path;

use anyhow::Result;
use berth_oci::{Algorithm, Digest};
use bytes::Bytes;
use serde_json::{Value, json};

/// The media type of an image's or artifact's manifest.
pub const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Some bytes, and what they are called.
#[derive(Clone, Debug)]
pub struct Blob {
    /// What they are.
    pub media_type: &'static str,
    /// Their name.
    pub digest: Digest,
    /// The bytes.
    pub bytes: Bytes,
}

impl Blob {
    /// These bytes.
    pub fn new(media_type: &'static str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { media_type, digest: Digest::of(Algorithm::Sha256, &bytes), bytes }
    }

    fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest.to_string(), "size": self.bytes.len()})
    }
}

/// An image, an index or an artifact, with all it points at.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// What it is.
    pub media_type: &'static str,
    /// Its name.
    pub digest: Digest,
    /// Its bytes.
    pub bytes: Bytes,
    /// Configs and layers.
    pub blobs: Vec<Blob>,
    /// The entries of an index.
    pub entries: Vec<Manifest>,
}

impl Manifest {
    fn new(document: &Value, media_type: &'static str, blobs: Vec<Blob>, entries: Vec<Self>) -> Self {
        let Blob { digest, bytes, .. } = Blob::new(media_type, document.to_string());
        Self { media_type, digest, bytes, blobs, entries }
    }

    /// A manifest of these blobs, the first of which is its config.
    pub fn of_blobs(config: Blob, layers: Vec<Blob>) -> Self {
        let document = json!({
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        Self::new(&document, IMAGE, [vec![config], layers].concat(), Vec::new())
    }

    /// What points at it from elsewhere.
    pub fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest.to_string(), "size": self.bytes.len()})
    }

    /// Writes it and all it points at into `folder` as an OCI image layout that calls it `tag`.
    ///
    /// # Errors
    /// When files cannot be written.
    pub fn write_layout(&self, folder: &Path, tag: &str) -> Result<()> {
        std::fs::create_dir_all(folder.join("blobs/sha256"))?;
        std::fs::write(folder.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())?;
        let mut descriptor = self.descriptor();
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor]});
        std::fs::write(folder.join("index.json"), index.to_string())?;
        self.write_blobs(&folder.join("blobs/sha256"))
    }

    fn write_blobs(&self, folder: &Path) -> Result<()> {
        std::fs::write(folder.join(self.digest.hex()), &self.bytes)?;
        for blob in &self.blobs {
            std::fs::write(folder.join(blob.digest.hex()), &blob.bytes)?;
        }
        self.entries.iter().try_for_each(|entry| entry.write_blobs(folder))
    }
}

/// An image for `architecture` with one file in each layer, whose bytes follow from `seed`.
pub fn image(architecture: &str, seed: u64, layers: usize) -> Manifest {
    let mut random = fastrand::Rng::with_seed(seed);
    let archive = |number: usize| {
        let content: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(20_000).collect();
        tar(&format!("file{number}"), &content)
    };
    let archives: Vec<Vec<u8>> = (0..layers).map(archive).collect();
    let layers = archives.iter().map(|archive| Blob::new(LAYER, gzip(archive))).collect();
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Cmd": ["/file0"]},
        "rootfs": {
            "type": "layers",
            "diff_ids": archives.iter().map(|archive| Digest::of(Algorithm::Sha256, archive).to_string()).collect::<Vec<_>>(),
        },
    });
    Manifest::of_blobs(Blob::new(CONFIG, config.to_string()), layers)
}

/// An index of one image for each architecture.
pub fn index(architectures: &[&str], seed: u64) -> Manifest {
    let image_for = |(number, architecture): (usize, &&str)| image(architecture, seed + number as u64, 2);
    let entries: Vec<Manifest> = architectures.iter().enumerate().map(image_for).collect();
    let describe = |(entry, architecture): (&Manifest, &&str)| {
        let mut descriptor = entry.descriptor();
        descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        descriptor
    };
    let manifests: Vec<Value> = entries.iter().zip(architectures).map(describe).collect();
    let document = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    Manifest::new(&document, INDEX, Vec::new(), entries)
}

/// An artifact that says something about `subject`.
pub fn artifact(artifact_type: &str, subject: &Manifest, content: impl Into<Bytes>) -> Manifest {
    let (config, layer) = (Blob::new(EMPTY, "{}"), Blob::new("text/plain", content));
    let document = json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "artifactType": artifact_type,
        "config": config.descriptor(),
        "layers": [layer.descriptor()],
        "subject": subject.descriptor(),
    });
    Manifest::new(&document, IMAGE, vec![config, layer], Vec::new())
}

/// A tar archive with one file, made by nobody at no time (POSIX.1-1988 `ustar`).
fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 512;
    let mut header = [0u8; BLOCK];
    let mut field = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    field(0, name);
    field(100, "0000755");
    field(108, "0000000");
    field(116, "0000000");
    field(124, &format!("{:011o}", content.len()));
    field(136, "00000000000");
    field(148, "        "); // the checksum counts itself as spaces
    field(156, "0");
    field(257, "ustar\x0000");
    let checksum: u32 = header.iter().copied().map(u32::from).sum();
    header[148..155].copy_from_slice(format!("{checksum:06o}\0").as_bytes());

    let mut archive = header.to_vec();
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
    archive
}

/// `bytes` in gzip's format, not made any smaller (RFC 1952, with the stored blocks of RFC 1951).
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut blocks = bytes.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        file.push(u8::from(blocks.peek().is_none()));
        file.extend(length.to_le_bytes());
        file.extend((!length).to_le_bytes());
        file.extend(block);
    }
    file.extend(crc32(bytes).to_le_bytes());
    file.extend((bytes.len() as u32).to_le_bytes());
    file
}

fn crc32(bytes: &[u8]) -> u32 {
    let shift = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_the_same_on_every_run_and_differ_by_their_seed() {
        assert_eq!(image("amd64", 7, 2).digest, image("amd64", 7, 2).digest);
        assert_ne!(image("amd64", 7, 2).digest, image("amd64", 8, 2).digest);
    }

    #[test]
    fn the_checksum_is_that_of_gzip() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn the_index_names_every_image() {
        let index = index(&["amd64", "arm64"], 1);
        let document: Value = serde_json::from_slice(&index.bytes).unwrap();
        assert_eq!(document["manifests"][1]["digest"], index.entries[1].digest.to_string());
        assert_eq!(document["manifests"][1]["platform"]["architecture"], "arm64");
    }
}
