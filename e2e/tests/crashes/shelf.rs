//! What clients leave for each other: blobs and manifests that were acknowledged and that nobody deletes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use berth_e2e::image::{Blob, Manifest};
use fastrand::Rng;

/// For each repository and kind. More would only be memory.
const PLACES: usize = 40;

type Places<T> = Mutex<BTreeMap<&'static str, Vec<T>>>;

#[derive(Debug, Default)]
pub(crate) struct Shelf {
    blobs: Places<Blob>,
    manifests: Places<Manifest>,
}

impl Shelf {
    pub(crate) fn put_blob(&self, random: &mut Rng, repository: &'static str, blob: Blob) {
        put(&self.blobs, random, repository, blob);
    }

    pub(crate) fn put_manifest(&self, random: &mut Rng, repository: &'static str, manifest: Manifest) {
        put(&self.manifests, random, repository, manifest);
    }

    pub(crate) fn blob(&self, random: &mut Rng, repository: &str) -> Option<Blob> {
        take(&self.blobs, random, repository)
    }

    pub(crate) fn manifest(&self, random: &mut Rng, repository: &str) -> Option<Manifest> {
        take(&self.manifests, random, repository)
    }

    /// One of them is not there any more: nobody named it for too long.
    pub(crate) fn forget(&self, repository: &str, gone: &[Blob]) {
        if let Some(blobs) = lock(&self.blobs).get_mut(repository) {
            blobs.retain(|blob| gone.iter().all(|gone| gone.digest != blob.digest));
        }
    }

    pub(crate) fn has(&self, repository: &str, blob: &Blob) -> bool {
        lock(&self.blobs).get(repository).is_some_and(|blobs| blobs.iter().any(|known| known.digest == blob.digest))
    }
}

fn lock<T>(places: &Places<T>) -> MutexGuard<'_, BTreeMap<&'static str, Vec<T>>> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

fn put<T>(places: &Places<T>, random: &mut Rng, repository: &'static str, item: T) {
    let mut places = lock(places);
    let places = places.entry(repository).or_default();
    if places.len() < PLACES {
        places.push(item);
    } else {
        places[random.usize(..PLACES)] = item;
    }
}

fn take<T: Clone>(places: &Places<T>, random: &mut Rng, repository: &str) -> Option<T> {
    let places = lock(places);
    let items = places.get(repository).filter(|items| !items.is_empty())?;
    Some(items[random.usize(..items.len())].clone())
}
