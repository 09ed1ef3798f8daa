//! `berth-registry gc`

use std::io::Write as _;
use std::process::ExitCode;

use crate::config::Config;
use crate::store::{Garbage, Store, Terms, Told};

/// Prints what a collection would delete and why; with `delete`, deletes it. Registries may go on serving meanwhile.
pub(super) async fn run(config: &Config, delete: bool) -> anyhow::Result<ExitCode> {
    let store = if delete { super::open(config).await? } else { Store::open_to_read(&config.storage)? };
    let untagged = config.storage.maintenance.garbagecollection.untagged;
    let mut tell = |told: Told| {
        if let Told::Garbage(Garbage { key, why, bytes }) = told {
            // Whoever closes the pipe early has seen enough.
            let _ = writeln!(std::io::stdout(), "{key}: {why} ({bytes} bytes)");
        }
    };
    let done = if delete {
        store.collect(Terms { untagged, dry_run: false }, &mut tell).await?
    } else {
        store.look_for_garbage(untagged, &mut tell).await?
    };
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
