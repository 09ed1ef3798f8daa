//! Pushing a blob in chunks, through kills and connections that are cut on purpose.

use anyhow::{Context as _, Result, ensure};
use berth_e2e::http::{Answer, cut_off_after, nothing, whole};
use berth_e2e::image::Blob;
use http::{Method, StatusCode};

use crate::history::Key;
use crate::worker::{Worker, has_code};

impl Worker {
    /// Pushes `blob` in chunks and goes on after each interruption from where the registry says it is. Returns whether it
    /// was pushed: not, if the registry died before the upload had begun or after the last round.
    ///
    /// # Errors
    /// When the registry has lost a byte that it acknowledged.
    pub(crate) async fn push_in_chunks(&mut self, repository: &'static str, blob: &Blob) -> Result<bool> {
        let boot = self.boot();
        let path = format!("/v2/{repository}/blobs/uploads/");
        let Some(answer) = self.settle(self.world.client.send(Method::POST, &path, &[], nothing()).await) else {
            self.wait_for_boot_after(boot).await;
            return Ok(false);
        };
        let mut location = answer.expect(StatusCode::ACCEPTED)?.location()?;
        let (mut stored, mut unsure) = (0, false);
        while stored < blob.bytes.len() {
            let length = self.random.usize(2_000..40_000).min(blob.bytes.len() - stored);
            let chunk = blob.bytes.slice(stored..stored + length);
            let body = if self.random.u8(..8) == 0 { cut_off_after(chunk.slice(..length / 2)) } else { whole(chunk) };
            let (boot, at) = (self.boot(), location.clone());
            match self.settle(self.world.client.patch(&at, stored, length, body).await) {
                // What was sent before a cut may have been stored after we asked.
                Some(answer) if answer.status == StatusCode::RANGE_NOT_SATISFIABLE && unsure => {
                    unsure = false;
                    (stored, location) = (answer.received()?, answer.location()?);
                }
                Some(answer) => {
                    let answer = answer.expect(StatusCode::ACCEPTED).with_context(|| format!("chunk at {stored}"))?;
                    let received = answer.received()?;
                    ensure!(received == stored + length, "acknowledged {received} bytes after {stored}+{length}");
                    (stored, location) = (received, answer.location()?);
                }
                None => {
                    let Some((received, newer)) = self.ask_for_progress(boot, &at).await? else { return Ok(false) };
                    ensure!(received >= stored, "{stored} bytes were acknowledged, {received} are left");
                    (stored, location, unsure) = (received, newer, true);
                }
            }
        }
        self.finish(repository, blob, &location).await
    }

    /// Where an upload is after something went wrong during the boot `boot`. `None`: the test is over.
    async fn ask_for_progress(&mut self, mut boot: u64, location: &str) -> Result<Option<(usize, String)>> {
        loop {
            if let Some(answer) = self.settle(self.world.client.get(location).await) {
                let answer = answer.expect(StatusCode::NO_CONTENT).context("asked where an upload is")?;
                return Ok(Some((answer.received()?, answer.location()?)));
            }
            if !self.wait_for_boot_after(boot).await {
                return Ok(None);
            }
            boot = self.boot();
        }
    }

    /// Ends the upload. To end it again, when the answer was lost, is no mistake.
    async fn finish(&mut self, repository: &'static str, blob: &Blob, location: &str) -> Result<bool> {
        let changes = [(Key::Blob { repository, digest: blob.digest.clone() }, Some(blob.digest.clone()))];
        let client = self.world.client.clone();
        let (power_cuts, mut tried) = (self.world.power_cuts, false);
        loop {
            let boot = self.boot();
            // It may have ended before the power was cut: the blob is there, and that it ended was the last thing to be written.
            let forgiven = |answer: &Answer| power_cuts && tried && has_code(answer, "BLOB_UPLOAD_UNKNOWN");
            let finish = client.finish(location, &blob.digest, "");
            if self.change_unless(forgiven, StatusCode::CREATED, &changes, finish).await? {
                return Ok(true);
            }
            tried = true;
            if self.boot() == boot {
                return Ok(false); // nobody starts it again
            }
        }
    }
}
