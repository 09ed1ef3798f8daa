//! Files that are read again when they change.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use sha2::{Digest as _, Sha256};

/// How often files are looked at. They are small, so they are read instead of being asked for their times: Kubernetes swaps
/// whole directories under a mount, and editors write in place.
const INTERVAL: Duration = Duration::from_secs(2);

/// No file of users or certificates is longer.
const LONGEST: u64 = 4 << 20;

type BoxError = Box<dyn Error + Send + Sync>;
type Parse<T, const N: usize> = fn([&[u8]; N]) -> Result<T, BoxError>;

/// What `N` files say together. When they change and still make sense, the new meaning takes effect for whoever asks next;
/// when they do not, the last good one stays in force and the log says so once.
pub struct Watched<T, const N: usize = 1> {
    key: &'static str,
    paths: [PathBuf; N],
    parse: Parse<T, N>,
    current: ArcSwap<(Arc<T>, [String; N])>,
    refused: Mutex<Option<[String; N]>>,
}

/// A file that the configuration names cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("configuration key {key}: {paths}: {source}")]
pub struct FileError {
    key: &'static str,
    paths: String,
    source: BoxError,
}

impl<T: Send + Sync + 'static, const N: usize> Watched<T, N> {
    /// Reads `paths`, which the configuration names by `key`, with `parse`. Inside a tokio runtime they are read again every
    /// two seconds from then on, as long as the value is in use.
    ///
    /// # Errors
    /// When they cannot be read or `parse` refuses them.
    pub fn open<P: AsRef<Path>>(key: &'static str, paths: [P; N], parse: Parse<T, N>) -> Result<Arc<Self>, FileError> {
        let paths = paths.map(|path| path.as_ref().to_owned());
        let failed = |source| FileError { key, paths: listed(&paths), source };
        let contents = read(&paths).map_err(|error| failed(error.into()))?;
        let value = parse(contents.each_ref().map(Vec::as_slice)).map_err(failed)?;
        let current = ArcSwap::from_pointee((Arc::new(value), contents.map(|bytes| fingerprint(&bytes))));
        let watched = Arc::new(Self { key, paths, parse, current, refused: Mutex::default() });
        watched.spawn();
        Ok(watched)
    }

    fn spawn(self: &Arc<Self>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let watched = Arc::downgrade(self);
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(INTERVAL).await;
                let Some(watched) = watched.upgrade() else { return };
                // A panic in a parser must not end the watching; there is nobody to tell but the log, which has it.
                let _ = tokio::task::spawn_blocking(move || watched.refresh()).await;
            }
        });
    }

    /// What the files say.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.current.load().0)
    }

    /// The SHA-256 of the first file in use, in lower-case hexadecimal.
    pub fn fingerprint(&self) -> String {
        self.current.load().1.first().cloned().unwrap_or_default()
    }

    /// Reads the files again, if they have changed.
    pub fn refresh(&self) {
        let contents = match read(&self.paths) {
            Ok(contents) => contents,
            Err(error) => return self.keep([const { String::new() }; N], &error),
        };
        let fingerprints = contents.each_ref().map(|bytes| fingerprint(bytes));
        if self.current.load().1 == fingerprints {
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
            return;
        }
        match (self.parse)(contents.each_ref().map(Vec::as_slice)) {
            Ok(value) => {
                self.current.store(Arc::new((Arc::new(value), fingerprints)));
                tracing::info!(key = self.key, "read again, because it has changed");
            }
            Err(error) => self.keep(fingerprints, error.as_ref()),
        }
    }

    /// Stays with the last good files, and says so once for each state of the bad ones.
    fn keep(&self, refused: [String; N], error: &dyn Error) {
        let mut last = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref() != Some(&refused) {
            tracing::error!(key = self.key, paths = %listed(&self.paths), %error, "cannot be used; the last good version stays in force");
            *last = Some(refused);
        }
    }
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn read<const N: usize>(paths: &[PathBuf; N]) -> io::Result<[Vec<u8>; N]> {
    let mut contents = [const { Vec::new() }; N];
    for (path, bytes) in paths.iter().zip(&mut contents) {
        File::open(path)?.take(LONGEST).read_to_end(bytes)?;
    }
    Ok(contents)
}

fn fingerprint(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl<T, const N: usize> std::fmt::Debug for Watched<T, N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").field("key", &self.key).field("paths", &self.paths).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number([text]: [&[u8]; 1]) -> Result<u32, BoxError> {
        Ok(std::str::from_utf8(text)?.parse()?)
    }

    #[test]
    fn a_good_change_takes_effect_and_a_bad_one_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("number");
        std::fs::write(&path, "1").unwrap();
        let watched = Watched::open("key", [&path], number).unwrap();
        let first = watched.fingerprint();
        for (text, value) in [("2", 2), ("x", 2), ("", 2), ("3", 3)] {
            std::fs::write(&path, text).unwrap();
            watched.refresh();
            assert_eq!(*watched.get(), value);
        }
        std::fs::remove_file(&path).unwrap();
        watched.refresh();
        assert_eq!(*watched.get(), 3);
        assert_ne!(watched.fingerprint(), first);
    }

    #[test]
    fn a_bad_file_at_the_start_is_an_error_that_names_key_and_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("number");
        let error = Watched::open("key", [&path], number).unwrap_err().to_string();
        assert!(error.starts_with(&format!("configuration key key: {}: ", path.display())), "{error}");
        std::fs::write(&path, "x").unwrap();
        assert!(Watched::open("key", [&path], number).is_err());
    }
}
