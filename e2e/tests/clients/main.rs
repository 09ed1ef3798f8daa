//! Other people's clients against the registry, over TLS that they verify and with a password: what each can do, it does.

mod buildah;
mod crane;
mod ctr;
mod cut;
mod helm;
mod oras;
mod own_client;
mod regctl;
mod skopeo;
mod strangers;

use anyhow::{Context as _, Result, ensure};
use berth_e2e::http::Client;
use berth_e2e::image::Manifest;
use berth_e2e::registry_process::{RegistryProcess, Security, Storage};
use berth_e2e::tool::Bench;
use http::StatusCode;

/// A registry and a bench to run clients from. No client knows the registry yet.
struct Shop {
    registry: RegistryProcess,
    bench: Bench,
    client: Client,
    /// `HOST:PORT` of the registry.
    host: String,
    /// The file with the certificate authority to trust.
    authority: String,
}

impl Shop {
    async fn open() -> Result<Self> {
        let registry = RegistryProcess::start(Storage::Directory, Security::TlsAndPassword).await?;
        let (client, host) = (registry.client()?, registry.host());
        let authority = registry.authority_path().display().to_string();
        Ok(Self { registry, bench: Bench::new()?, client, host, authority })
    }

    /// The name of an image in the registry.
    fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }

    /// Writes an OCI image layout into the bench, in which `manifest` has the tag `1`.
    fn layout(&self, folder: &str, manifest: &Manifest) -> Result<String> {
        manifest.write_layout(&self.bench.home().join(folder), "1")?;
        Ok(self.bench.at(folder))
    }

    /// A layout that a client has made holds `manifest` and all it points at, byte for byte.
    fn layout_holds(&self, folder: &str, manifest: &Manifest) -> Result<()> {
        let read = |digest: &berth_oci::Digest| {
            std::fs::read(self.bench.home().join(folder).join("blobs/sha256").join(digest.hex()))
                .context(digest.to_string())
        };
        ensure!(read(&manifest.digest)? == manifest.bytes, "{} differs", manifest.digest);
        for blob in &manifest.blobs {
            ensure!(read(&blob.digest)? == blob.bytes, "{} differs", blob.digest);
        }
        manifest.entries.iter().try_for_each(|entry| self.layout_holds(folder, entry))
    }

    /// The registry holds `manifest` at `reference`, and all it points at, byte for byte.
    async fn holds(&self, repository: &str, reference: &str, manifest: &Manifest) -> Result<()> {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let answer = self.client.get(&path).await?.expect(StatusCode::OK)?;
        ensure!(answer.body == manifest.bytes, "{path} differs");
        ensure!(
            answer.header("content-type") == Some(manifest.media_type),
            "{path} is {:?}",
            answer.header("content-type")
        );
        for blob in &manifest.blobs {
            let path = format!("/v2/{repository}/blobs/{}", blob.digest);
            let answer = self.client.get(&path).await?.expect(StatusCode::OK)?;
            ensure!(answer.body == blob.bytes, "{path} differs");
        }
        for entry in &manifest.entries {
            Box::pin(self.holds(repository, entry.digest.as_ref(), entry)).await?;
        }
        Ok(())
    }

    async fn is_gone(&self, path: &str) -> Result<()> {
        self.client.head(path).await?.expect(StatusCode::NOT_FOUND).map(drop)
    }

    /// The layers of `repository` came by mounting: uploads were begun, but none of them was sent. (containers/image sends
    /// configs all the same.)
    fn layers_were_mounted(&self, repository: &str) -> Result<()> {
        const SMALLER_THAN_A_LAYER: u64 = 10_000;
        let log = self.registry.log();
        let of_it: Vec<&str> =
            log.lines().filter(|line| line.contains(&format!("repository=\"{repository}\""))).collect();
        let mount = |line: &&str| line.contains("endpoint=\"start_upload\"") && line.contains("status=201");
        ensure!(of_it.iter().any(mount), "nothing was mounted: {of_it:#?}");
        let received = |line: &str| line.split("received=").nth(1)?.split(' ').next()?.parse::<u64>().ok();
        let bodies: Option<Vec<u64>> = of_it.iter().map(|line| received(line)).collect();
        let largest =
            bodies.and_then(|bodies| bodies.into_iter().max()).context("the log does not say what was received")?;
        ensure!(largest < SMALLER_THAN_A_LAYER, "{largest} bytes were sent: {of_it:#?}");
        Ok(())
    }
}
