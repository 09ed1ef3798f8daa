//! Every name in a tree, while somebody works on those that came first.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;

use super::{Shared, names};
use crate::store::error::{Result, StoreError};

/// Names that are handed over at a time.
const BATCH: usize = 512;
/// Batches that wait for whoever takes them.
const AHEAD: usize = 4;

/// The names of all files below `root`, each as a path below it.
pub(super) fn names_below(shared: Arc<Shared>, root: PathBuf, doing: String) -> BoxStream<'static, Result<String>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut walk = Walk { shared: &shared, sender: &sender, batch: Vec::new() };
        let end = walk.directory(&root, "").and_then(|()| walk.hand_over()).map(|()| None);
        // Nobody listens any more: then nobody needs the rest.
        let _ = sender.blocking_send(end);
    });
    // The end is said and not taken from silence: a list that broke off would have others think the rest is gone.
    let batches = stream::unfold(Some(receiver), |receiver| async {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Ok(Some(batch))) => Some((Ok(batch), Some(receiver))),
            Some(Ok(None)) => None,
            Some(Err(error)) => Some((Err(error), None)),
            None => Some((Err(io::Error::other("the list broke off")), None)),
        }
    });
    batches
        .map_ok(|batch: Vec<String>| stream::iter(batch.into_iter().map(Ok)))
        .try_flatten()
        .map_err(move |error| StoreError::io(&doing, error))
        .boxed()
}

struct Walk<'a> {
    shared: &'a Shared,
    sender: &'a mpsc::Sender<io::Result<Option<Vec<String>>>>,
    batch: Vec<String>,
}

impl Walk<'_> {
    fn directory(&mut self, path: &Path, name: &str) -> io::Result<()> {
        // One that is gone by now had become empty.
        let Some(entries) = self.shared.entries(path)? else { return Ok(()) };
        for entry in entries {
            let entry = entry?;
            let below = names::name_of(&entry);
            let below = if name.is_empty() { below } else { format!("{name}/{below}") };
            if entry.file_type()?.is_dir() {
                self.directory(&entry.path(), &below)?;
            } else {
                self.batch.push(below);
                if self.batch.len() == BATCH {
                    self.hand_over()?;
                }
            }
        }
        Ok(())
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let batch = std::mem::take(&mut self.batch);
        self.sender.blocking_send(Ok(Some(batch))).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
