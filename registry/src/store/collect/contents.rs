//! What manifests name, as far as the collector asks.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use berth_oci::{Digest, Manifest, RepositoryName};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use ulid::Ulid;

use super::PARALLEL;
use crate::store::Store;
use crate::store::error::Result;
use crate::store::layout::{Key, LinkName, Prefix, RecordName};
use crate::store::manifest::record_key;

/// Digests, as fingerprints. Two digests with the same one keep each other's garbage, until the next collection at most: each
/// set has fingerprints of its own.
#[derive(Default)]
pub(super) struct Digests {
    hasher: RandomState,
    fingerprints: HashSet<u64>,
}

impl Digests {
    pub(super) fn insert(&mut self, digest: &Digest) {
        self.fingerprints.insert(self.hasher.hash_one(digest));
    }

    pub(super) fn contains(&self, digest: &Digest) -> bool {
        self.fingerprints.contains(&self.hasher.hash_one(digest))
    }
}

/// What a manifest names.
pub(super) struct Contents {
    pub(super) children: Vec<Digest>,
    pub(super) subject: Option<Digest>,
}

/// What could be read of a manifest.
pub(super) enum Readable {
    Whole(Contents),
    Gone,
    /// Nobody knows what it names.
    Damaged,
}

/// A name below a digest.
pub(super) type Named<N> = (Digest, N);

impl Store {
    /// Every record of a repository, those of one digest together.
    pub(super) fn scan_records(&self, repository: &RepositoryName) -> BoxStream<'static, Result<Named<RecordName>>> {
        self.scan(&Prefix::RecordedDigests(repository.clone()), |key| match key {
            Key::Record { digest, name, .. } => Some((digest, name)),
            _ => None,
        })
    }

    /// Every intent of a repository.
    pub(super) fn scan_intents(&self, repository: &RepositoryName) -> BoxStream<'static, Result<Named<RecordName>>> {
        self.scan(&Prefix::IntendedDigests(repository.clone()), |key| match key {
            Key::Intent { digest, name, .. } => Some((digest, name)),
            _ => None,
        })
    }

    /// Every link of a repository, those of one digest together.
    pub(super) fn scan_links(&self, repository: &RepositoryName) -> BoxStream<'static, Result<Named<LinkName>>> {
        self.scan(&Prefix::LinkedDigests(repository.clone()), |key| match key {
            Key::Link { digest, name, .. } => Some((digest, name)),
            _ => None,
        })
    }

    /// Every key below a prefix that `pick` takes. Names that are not ours are passed over.
    pub(super) fn scan<T: Send + 'static>(
        &self,
        prefix: &Prefix,
        pick: impl Fn(Key) -> Option<T> + Send + 'static,
    ) -> BoxStream<'static, Result<T>> {
        let above = prefix.to_string();
        self.driver
            .scan(prefix)
            .try_filter_map(move |name| {
                let picked = format!("{above}/{name}").parse().ok().and_then(&pick);
                futures::future::ready(Ok(picked))
            })
            .boxed()
    }

    /// What each of these records names, in the same order.
    pub(super) fn contents_of<'a>(
        &'a self,
        repository: &'a RepositoryName,
        records: impl Stream<Item = Result<Named<RecordName>>> + 'a,
    ) -> impl Stream<Item = Result<(Named<RecordName>, Readable)>> + 'a {
        let key = move |(digest, name): &Named<RecordName>| record_key(repository, digest, *name);
        self.contents_under(key, records)
    }

    /// The record that each intent of a repository is about to become, and what that will name. One that is damaged names
    /// nothing: it was torn by a power cut, and its request with it.
    pub(super) fn contents_of_intents<'a>(
        &'a self,
        repository: &'a RepositoryName,
    ) -> impl Stream<Item = Result<(Ulid, Vec<Digest>)>> + 'a {
        let key = move |(digest, name): &Named<RecordName>| Key::Intent {
            repository: repository.clone(),
            digest: digest.clone(),
            name: *name,
        };
        self.contents_under(key, self.scan_intents(repository)).map_ok(|((_, name), readable)| match readable {
            Readable::Whole(contents) => (name.record, contents.children),
            Readable::Gone | Readable::Damaged => (name.record, Vec::new()),
        })
    }

    fn contents_under<'a>(
        &'a self,
        key: impl Fn(&Named<RecordName>) -> Key + Copy + 'a,
        names: impl Stream<Item = Result<Named<RecordName>>> + 'a,
    ) -> impl Stream<Item = Result<(Named<RecordName>, Readable)>> + 'a {
        let read = move |named: Named<RecordName>| async move {
            let readable = self.readable(&key(&named), &named.0, named.1).await?;
            Ok((named, readable))
        };
        names.map_ok(read).try_buffered(PARALLEL)
    }

    async fn readable(&self, key: &Key, digest: &Digest, name: RecordName) -> Result<Readable> {
        let Some(bytes) = self.driver.read(key).await? else { return Ok(Readable::Gone) };
        let manifest = digest.names(&bytes).then(|| Manifest::parse(name.kind, &bytes).ok()).flatten();
        Ok(manifest.map_or(Readable::Damaged, |manifest| {
            let children = manifest.children().iter().map(|child| child.descriptor().digest.clone()).collect();
            Readable::Whole(Contents { children, subject: manifest.subject().map(|subject| subject.digest.clone()) })
        }))
    }
}

/// The names of one digest after another.
pub(super) struct Groups<S: Stream> {
    names: std::pin::Pin<Box<futures::stream::Peekable<S>>>,
}

impl<S: Stream<Item = Result<Named<N>>>, N> Groups<S> {
    pub(super) fn of(names: S) -> Self {
        Self { names: Box::pin(names.peekable()) }
    }

    pub(super) async fn next(&mut self) -> Result<Option<(Digest, Vec<N>)>> {
        let Some((digest, first)) = self.names.as_mut().try_next().await? else { return Ok(None) };
        let mut names = vec![first];
        let same = |next: &Result<Named<N>>| next.as_ref().is_ok_and(|(other, _)| *other == digest);
        while let Some(next) = self.names.as_mut().next_if(same).await {
            names.push(next?.1);
        }
        Ok(Some((digest, names)))
    }
}
