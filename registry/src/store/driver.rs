//! What the store needs of a place where bytes are kept, and nothing about registries.
//!
//! A driver keeps values under [`Key`]s. All but tags are written once under a name that nobody had before, which is why so
//! little is asked of it: no transactions, no locks, no compare-and-swap, but atomic single writes, and lists that show
//! what is there. `conformance` holds every driver to this page.

use std::fmt;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use super::error::Result;
use super::layout::{Key, Prefix};

mod coalesced;
#[cfg(test)]
mod conformance;
mod content;
mod object;
mod posix;
#[cfg(test)]
mod watched;

pub(crate) use coalesced::Coalesced;
pub(crate) use content::Content;
pub use content::ContentStream;
pub(crate) use object::Object;
pub(crate) use object::OpenBucketError;
pub(crate) use posix::{OpenPosixError, Posix};
#[cfg(test)]
pub(crate) use watched::Watched;

#[async_trait]
pub(crate) trait Driver: fmt::Debug + Send + Sync {
    /// Writes new values. When it returns they are durable, and so is everything in `also`, by whoever it was written.
    ///
    /// An empty value may be there already, and stays. Each value is seen wholly or not at all, by readers now and after a power cut. Of several any may be there after a
    /// power cut before the return.
    async fn create(&self, values: Vec<(Key, Bytes)>, also: &[Key]) -> Result<()>;

    /// Writes new values that may be lost: whole for whoever reads them now, durable never.
    async fn leave(&self, values: Vec<(Key, Bytes)>) -> Result<()>;

    /// Begins a large new value. Nobody sees it before it is published.
    async fn stage(&self, key: Key) -> Result<Box<dyn Stage>>;

    /// Makes `to` a value of its own with `from`'s bytes, `size` of them, without passing them through this process where the
    /// place can do that. `false`: there is no `from`. Durable only after `create` with it in `also`.
    async fn duplicate(&self, from: &Key, to: &Key, size: u64) -> Result<bool>;

    /// Makes `to` a value of the bytes of `parts`, one after another. `false`: a part is gone. Durable as in `duplicate`.
    async fn join(&self, parts: &[Key], to: &Key) -> Result<bool>;

    /// A small value, whole.
    async fn read(&self, key: &Key) -> Result<Option<Bytes>>;

    /// The size of a value, in bytes.
    async fn size(&self, key: &Key) -> Result<Option<u64>>;

    /// A range of a large value, to be read in pieces; the range must lie within it. It stays readable to its end even if the key
    /// is removed meanwhile.
    async fn open(&self, key: &Key, range: Range<u64>) -> Result<Option<Content>>;

    /// Up to `limit` of the names below a prefix, in no order.
    async fn list(&self, prefix: &Prefix, limit: usize) -> Result<Vec<String>>;

    /// Every name below a prefix with the size of its value, in bytes, in no order.
    async fn sizes(&self, prefix: &Prefix) -> Result<Vec<(String, u64)>>;

    /// Up to `limit` of the names below a prefix that come after `after`, in the bytewise order of keys: a name that has others
    /// below it counts with its slash. The names are as they stand in keys (repositories
    /// [`encode`](super::layout::encode)d).
    async fn page(&self, prefix: &Prefix, after: Option<&str>, limit: usize) -> Result<Page<String>>;

    /// Every name below a prefix, however deep, as it goes on after the prefix; names of one directory follow each other.
    /// What was there before it began, and was not removed, is in it: a list that breaks off ends in an error.
    fn scan(&self, prefix: &Prefix) -> BoxStream<'static, Result<String>>;

    /// When a value was last given a name, by the clock of the place, which is not this machine's.
    async fn changed(&self, key: &Key) -> Result<Option<SystemTime>>;

    /// Removes values; those that are not there are no error. Durable when it returns.
    async fn remove(&self, keys: &[Key]) -> Result<()>;

    /// Writes a tag, over the one that was there or not. Durable when it returns; after a crash before that, the old value
    /// or the new one is there, whole.
    async fn replace(&self, tag: &Key, value: Bytes) -> Result<()>;

    /// Removes a tag if its value is still `expected`, and says whether it did. No concurrent `replace` is lost.
    async fn remove_tag_if(&self, tag: &Key, expected: &Bytes) -> Result<bool>;

    /// Every name that is there, ours or not, in no order: for checking, not for serving.
    async fn walk(&self) -> Result<Vec<String>>;

    /// Removes what staging left behind when a process died. Nothing is staged for longer than `age`.
    async fn sweep(&self, age: Duration) -> Result<()>;

    /// How long a list may miss what another process has written, or show what it has removed. Asked for anew, [`Driver::list`] and
    /// [`Driver::sizes`] show what is there all the same, for deletions; the waits of collectors do not trust that.
    fn staleness(&self) -> Duration {
        Duration::ZERO
    }

    /// Where a client can read a large value itself, for a while, with a GET of its own. `None`: only here.
    async fn location(&self, _key: &Key) -> Result<Option<String>> {
        Ok(None)
    }

    /// Finds out by trying, once at start-up, whether the place keeps what this page asks for, and adapts to what it does not
    /// honour where that can be done without.
    async fn probe(&self) -> std::result::Result<Honoured, UnfitError> {
        Ok(Honoured { conditional_create: true, conditional_overwrite: true })
    }
}

/// What a place was seen to honour beyond what it must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Honoured {
    /// A write on the condition that nobody else wrote before. Nothing relies on it.
    pub conditional_create: bool,
    /// A write on the condition that nobody else wrote since. Without it a tag that is written in the moment in which the image
    /// is deleted that it named before may be lost.
    pub conditional_overwrite: bool,
}

/// The place does not keep what it must, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnfitError(pub(crate) String);

/// A value under construction. Dropped, it leaves nothing behind.
#[async_trait]
pub(crate) trait Stage: Send {
    /// Appends.
    async fn write(&mut self, pieces: Vec<Bytes>) -> Result<()>;

    /// Makes the value visible, whole, also after a power cut. The name is durable only after `create` with it in `also`.
    async fn publish(self: Box<Self>) -> Result<()>;
}

/// Some items of a longer list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, in order.
    pub items: Vec<T>,
    /// Whether there are more after them.
    pub more: bool,
}

/// A directory's place in a list: its name counts with the slash behind it, as in the keys.
fn in_order(name: &str) -> String {
    format!("{name}/")
}
