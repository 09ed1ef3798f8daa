//! `berth-registry gc`

use std::io::Write as _;
use std::process::ExitCode;

use crate::config::Config;
use crate::store::{Garbage, Store, Terms};

/// Prints what a collection would delete and why; with `delete`, deletes it. Registries may go on serving meanwhile.
pub(super) async fn run(config: &Config, delete: bool) -> anyhow::Result<ExitCode> {
    let store = if delete { Store::open(&config.storage)? } else { Store::open_to_read(&config.storage)? };
    let terms = Terms { untagged: config.storage.maintenance.garbagecollection.untagged, dry_run: !delete };
    let mut report = |Garbage { key, why, bytes }: Garbage| {
        // Whoever closes the pipe early has seen enough.
        let _ = writeln!(std::io::stdout(), "{key}: {why} ({bytes} bytes)");
    };
    let done = store.collect(terms, &mut report).await?;
    for repository in &done.left_alone {
        let _ = writeln!(
            std::io::stdout(),
            "{repository} is left alone: it holds a damaged manifest, and nobody knows what that names; see `berth-registry check`"
        );
    }
    let _ = writeln!(
        std::io::stdout(),
        "{}: {} manifests, {} blobs, {} bytes, from {} repositories",
        if delete { "deleted" } else { "would be deleted" },
        done.manifests,
        done.blobs,
        done.bytes,
        done.repositories
    );
    Ok(ExitCode::SUCCESS)
}
