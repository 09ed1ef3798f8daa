//! Images that run, made from what the machine has, and pushed with our own client.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow, ensure};
use http::StatusCode;
use serde_json::json;

use crate::http::Client;
use crate::image::{Blob, Manifest};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// What every image here shares: a static program.
const PROGRAM: &str = "/bin/busybox";

/// An image whose containers print `words` and end. Two with different words differ in everything but the program.
///
/// # Errors
/// When it cannot be made.
pub fn speaking(words: &str) -> Result<Manifest> {
    let layers = vec![program()?.clone(), layer("words", |path| std::fs::write(path, words))?];
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": ["/busybox", "cat", "/words"], "User": "65532:65532"},
        "rootfs": {
            "type": "layers",
            "diff_ids": layers.iter().map(|layer| layer.digest.to_string()).collect::<Vec<_>>(),
        },
    });
    Ok(Manifest::of_blobs(Blob::new(CONFIG, config.to_string()), layers))
}

/// Pushes an image; blobs that the repository has are not sent again.
///
/// # Errors
/// When anything is refused, or the registry does not answer.
pub async fn push(client: &Client, repository: &str, tag: &str, image: &Manifest) -> Result<()> {
    for blob in &image.blobs {
        if client.head(&format!("/v2/{repository}/blobs/{}", blob.digest)).await?.status == StatusCode::OK {
            continue;
        }
        client.push_blob(repository, &blob.digest, &blob.bytes).await?.expect(StatusCode::CREATED)?;
    }
    client.put_manifest(repository, tag, image).await?.expect(StatusCode::CREATED)?;
    Ok(())
}

fn program() -> Result<&'static Blob> {
    static LAYER: OnceLock<Result<Blob, String>> = OnceLock::new();
    let made = LAYER.get_or_init(|| {
        let copy = |path: &Path| std::fs::copy(PROGRAM, path).map(drop);
        layer("busybox", copy).map_err(|error| format!("{error:#}"))
    });
    made.as_ref().map_err(|error| anyhow!("{error}"))
}

/// A layer with one file, the same on every run.
fn layer(name: &str, write: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<Blob> {
    let folder = tempfile::tempdir()?;
    write(&folder.path().join(name)).with_context(|| name.to_owned())?;
    let mut tar = Command::new("tar");
    tar.args(["--create", "--format=ustar", "--mtime=@0", "--owner=0:0", "--numeric-owner", "--mode=0755"]);
    let output = tar.arg("--directory").arg(folder.path()).arg(name).output()?;
    ensure!(output.status.success(), "tar: {}", String::from_utf8_lossy(&output.stderr));
    Ok(Blob::new(LAYER, output.stdout))
}
