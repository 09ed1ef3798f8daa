//! What is asked again, and what is not.
//!
//! `object_store` sends a request again whose answer does not come. That is too little where a body breaks off, and too much for
//! writes of which a first try must not arrive after a second one that was answered: by then a client may have deleted what was
//! written, or pointed the tag at something else, and the latecomer would undo that.

use std::time::Duration;

use object_store::path::Path;
use object_store::{Error as ObjectError, ObjectStore, PutOptions, PutPayload, PutResult};

use super::Object;
use super::error::{broke_off, was_not_done};
use crate::store::layout::Key;

/// How often a store may say that it is too busy, with growing pauses of random length between.
const TRIES: u32 = 6;
/// How often an answer may break off.
const READ_TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Whether the key would be seen again if it were written after its deletion. Data, intents and entries would not: they mean
/// nothing without a link or a record, and the collector finds them.
pub(super) const fn is_only_written_once(key: &Key) -> bool {
    matches!(key, Key::Record { .. } | Key::Link { .. } | Key::Tag { .. })
}

impl Object {
    /// Writes once. Only a request of which the store has said that it did nothing is sent again; an unknown outcome is an error.
    pub(super) async fn put_once(
        &self,
        path: &Path,
        value: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult, ObjectError> {
        let put = || self.once.put_opts(path, value.clone(), options.clone());
        while_it_fails(TRIES, was_not_done, put).await
    }
}

/// Reads a whole answer, again where it breaks off.
pub(super) async fn whole<T, F>(read: impl Fn() -> F + Send) -> Result<T, ObjectError>
where
    F: Future<Output = Result<T, ObjectError>> + Send,
{
    while_it_fails(READ_TRIES, broke_off, read).await
}

/// Does something again, after a pause, while it fails in a way after which it may be.
pub(super) async fn while_it_fails<T, E, F>(
    tries: u32,
    may_try_again: fn(&E) -> bool,
    operation: impl Fn() -> F,
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut pause = FIRST_PAUSE;
    for _ in 1..tries {
        match operation().await {
            Err(error) if may_try_again(&error) => {
                tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
                pause *= 2;
            }
            done => return done,
        }
    }
    operation().await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_an_operation_that_may_be_tried_again_is_and_not_for_ever() {
        let error = || ObjectError::Generic { store: "S3", source: "no".into() };
        let times = AtomicU32::new(0);
        let operation = || {
            let time = times.fetch_add(1, Ordering::Relaxed) + 1;
            async move { if time == 3 { Ok(time) } else { Err(error()) } }
        };
        assert_eq!(while_it_fails(6, |_| true, operation).await.unwrap(), 3);
        times.store(0, Ordering::Relaxed);
        while_it_fails(6, |_| false, operation).await.unwrap_err();
        assert_eq!(times.load(Ordering::Relaxed), 1);
        times.store(10, Ordering::Relaxed);
        while_it_fails(6, |_| true, operation).await.unwrap_err();
        assert_eq!(times.load(Ordering::Relaxed), 16);
    }
}
