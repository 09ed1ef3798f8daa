//! `berth-registry check`

use std::io::Write as _;
use std::process::ExitCode;

use crate::config::Config;
use crate::store::{Finding, Severity, Store};

/// Prints what is not as it should be, and with `repair` mends what can be derived. The exit code is 1 when any of it is more than a
/// leftover, and stays.
pub(super) async fn run(config: &Config, repair: bool) -> anyhow::Result<ExitCode> {
    let store = if repair { super::open(config).await?.0 } else { Store::open_to_read(&config.storage)? };
    let mut clean = true;
    let mut report = |finding: Finding| {
        clean &= finding.severity == Severity::Leftover || finding.mended;
        // Whoever closes the pipe early has seen enough.
        let _ = writeln!(std::io::stdout(), "{finding}");
    };
    let checked = store.check(repair, &mut report).await?;
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
