//! `berth-registry gc --delete` without a rest, beside the registry, with next to no grace, and killed again and again.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use berth_e2e::registry_process::RegistryProcess;
use fastrand::Rng;
use serde_json::{Value, json};

/// A request may take half of it, also on a busy machine.
const GRACE: Duration = Duration::from_secs(12);

/// `storage.maintenance.garbagecollection` of the registry, and of the collector.
pub(crate) fn settings() -> Value {
    json!({"grace": format!("{}s", GRACE.as_secs())})
}

/// The process that collects now, and what came of those before it.
#[derive(Debug)]
pub(crate) struct Collector {
    process: Option<(Child, File)>,
    /// Whether storage may fail it.
    may_fail: bool,
    ended: u64,
    killed: u64,
    failed: u64,
    blobs: u64,
}

impl Collector {
    /// One whose storage may fail, or not.
    pub(crate) const fn beside(may_fail: bool) -> Self {
        Self { process: None, may_fail, ended: 0, killed: 0, failed: 0, blobs: 0 }
    }

    fn has_ended(&mut self, process: (Child, File)) -> Result<()> {
        match deleted(process) {
            Ok(blobs) => {
                self.blobs += blobs;
                self.ended += 1;
            }
            Err(_) if self.may_fail => self.failed += 1,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Begins the next one when one has ended, and kills it now and then.
    pub(crate) fn goes_on(&mut self, registry: &RegistryProcess, random: &mut Rng) -> Result<()> {
        if let Some((mut process, said)) = self.process.take() {
            if process.try_wait()?.is_none() {
                if random.bool() {
                    self.process = Some((process, said));
                    return Ok(());
                }
                process.kill()?;
                process.wait()?;
                self.killed += 1;
            } else {
                self.has_ended((process, said))?;
            }
        }
        self.process = Some(registry.collect(true)?);
        Ok(())
    }

    /// Waits until the one that runs has ended, but not for ever.
    pub(crate) async fn has_time(&mut self) -> Result<()> {
        for _ in 0..100 {
            let Some((process, _)) = &mut self.process else { return Ok(()) };
            if process.try_wait()?.is_some() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Ends the one that runs.
    pub(crate) fn is_killed(&mut self) -> Result<()> {
        let Some((mut process, said)) = self.process.take() else { return Ok(()) };
        if process.try_wait()?.is_some() {
            return self.has_ended((process, said));
        }
        process.kill()?;
        process.wait()?;
        self.killed += 1;
        Ok(())
    }

    /// Collects all that is left, and says what was done. Afterwards there is no garbage.
    pub(crate) async fn ends(mut self, registry: &RegistryProcess) -> Result<String> {
        self.is_killed()?;
        let Self { ended, killed, failed, blobs, .. } = self;
        ensure!(killed > 10, "{killed} collections were killed: no teeth");
        tokio::time::sleep(GRACE * 2).await;
        let rest = deleted(registry.collect(true)?)?;
        let left = output(registry.collect(false)?)?;
        ensure!(left.starts_with("would be deleted: 0 manifests, 0 blobs, 0 bytes"), "garbage is left:\n{left}");
        Ok(format!(
            "; {ended} collections ended, {failed} failed and {killed} were killed, {blobs} blobs deleted by those that ended and {rest} in the end, no garbage left"
        ))
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some((mut process, _)) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// How many blobs it says that it deleted.
fn deleted(process: (Child, File)) -> Result<u64> {
    let output = output(process)?;
    let line = output.lines().next_back().context("it said nothing")?;
    let words: Vec<&str> = line.split(' ').collect();
    let number = words.iter().position(|word| *word == "blobs,").and_then(|at| words.get(at.checked_sub(1)?));
    Ok(number.with_context(|| line.to_owned())?.parse()?)
}

fn output((mut process, mut said): (Child, File)) -> Result<String> {
    let status = process.wait()?;
    let mut output = String::new();
    said.rewind()?;
    said.read_to_string(&mut output)?;
    ensure!(status.success(), "berth-registry gc: {status}\n{output}");
    Ok(output)
}
