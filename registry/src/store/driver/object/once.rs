//! Writes of which a first try must not arrive after a second one that was answered: by then a client may have deleted what was
//! written, or pointed the tag at something else, and the latecomer would undo that.

use std::time::Duration;

use object_store::path::Path;
use object_store::{Error as ObjectError, ObjectStore, PutOptions, PutPayload, PutResult};

use super::Object;
use super::error::was_not_done;
use crate::store::layout::Key;

/// How often a store may say that it is too busy, with growing pauses of random length between.
const TRIES: u32 = 6;
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
        let mut pause = FIRST_PAUSE;
        for _ in 1..TRIES {
            match self.once.put_opts(path, value.clone(), options.clone()).await {
                Err(error) if was_not_done(&error) => {
                    tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
                    pause *= 2;
                }
                done => return done,
            }
        }
        self.once.put_opts(path, value, options).await
    }
}
