//! `berth-registry check`

use std::io::Write as _;
use std::process::ExitCode;

use crate::config::Config;
use crate::store::{Finding, Severity, Store};

/// Prints what is not as it should be. The exit code is 1 when any of it is more than a leftover.
pub(super) async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let store = Store::open_to_read(&config.storage)?;
    let mut clean = true;
    let mut report = |finding: Finding| {
        clean &= finding.severity == Severity::Leftover;
        // Whoever closes the pipe early has seen enough.
        let _ = writeln!(std::io::stdout(), "{finding}");
    };
    let checked = store.check(&mut report).await?;
    let verdict = if clean { "clean" } else { "NOT CLEAN" };
    let (repositories, manifests, tags) = (checked.repositories, checked.manifests, checked.tags);
    let _ = writeln!(
        std::io::stdout(),
        "{verdict}: {repositories} repositories, {manifests} manifests, {tags} tags, {} blobs with {} bytes",
        checked.blobs,
        checked.bytes
    );
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
