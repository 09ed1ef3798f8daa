//! From text and environment to a [`Config`] that can be acted on.

use std::fmt;

use serde_yaml::{Mapping, Value};

use super::keys::{Effect, Place, REQUIRED, nearest, place};
use super::{Azure, Config, Filesystem, Gcs, S3, environment};

/// Something in the configuration that nothing comes of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// A key of distribution's that has no effect here.
    NoEffect(String),
    /// A `REGISTRY_*` variable that names no key. Kubernetes makes some for a Service called `registry`.
    UnknownVariable {
        /// The variable.
        name: String,
        /// The one it may have been meant to be.
        nearest: Option<String>,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEffect(path) => write!(f, "configuration key {path} has no effect in this registry"),
            Self::UnknownVariable { name, nearest } => {
                write!(f, "environment variable {name} names no key{}", DidYouMean(nearest.as_deref()))
            }
        }
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The text is not YAML.
    #[error("the configuration is not YAML: {0}")]
    Yaml(#[source] serde_yaml::Error),
    /// The value of a variable is not YAML.
    #[error("the value of environment variable {name} is not YAML: {source}")]
    Variable {
        /// The variable.
        name: String,
        /// What is wrong with its value.
        source: serde_yaml::Error,
    },
    /// A variable for access or TLS that names no key.
    #[error("environment variable {name} names no key{}", DidYouMean(nearest.as_deref()))]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The one it was probably meant to be.
        nearest: Option<String>,
    },
    /// A key that nobody knows.
    #[error("unknown configuration key {path}{}", DidYouMean(*nearest))]
    UnknownKey {
        /// The full path of the key.
        path: String,
        /// The known key it was probably meant to be.
        nearest: Option<&'static str>,
    },
    /// A key of distribution's whose being ignored would do harm.
    #[error("configuration key {path} is not supported: {reason}")]
    Refused {
        /// The full path of the key.
        path: String,
        /// What ignoring it would mean.
        reason: &'static str,
    },
    /// A section without a key that it needs.
    #[error("configuration key {0} is missing")]
    Missing(String),
    /// A section that must have keys below it.
    #[error("configuration key {0} must be a section with keys of its own")]
    NotASection(String),
    /// A value of the wrong type or out of range.
    #[error("configuration key {path}: {source}")]
    Value {
        /// The full path of the key, as far as it could be told.
        path: String,
        /// What is wrong.
        source: serde_yaml::Error,
    },
    /// Keys that contradict each other.
    #[error("{0}")]
    Contradiction(&'static str),
    /// The API and the port for health and metrics are to be one.
    #[error(
        "http.addr ({api}) and http.debug.addr ({debug}) are the same port: health and metrics need one of their own. Set \
         http.debug.addr (REGISTRY_HTTP_DEBUG_ADDR) to another, for example 127.0.0.1:5002"
    )]
    SamePort {
        /// `http.addr`
        api: String,
        /// `http.debug.addr`
        debug: String,
    },
}

struct DidYouMean<'a>(Option<&'a str>);

impl fmt::Display for DidYouMean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |nearest| write!(f, "; did you mean {nearest}?"))
    }
}

/// Reads a configuration file, if there is one, and the `REGISTRY_*` variables over it.
///
/// # Errors
/// When a key is unknown, contradicts another, has a value it cannot have, or is one of distribution's whose being ignored
/// would let someone in or leave undone what was asked for.
pub fn load(
    text: Option<&str>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<(Config, Vec<Warning>), ConfigError> {
    let mut document: Value = serde_yaml::from_str(text.unwrap_or_default()).map_err(ConfigError::Yaml)?;
    let mut warnings = environment::apply(&mut document, environment)?;
    let mut read = Mapping::new();
    if !document.is_null() {
        read_section("", document, &mut read, &mut warnings)?;
    }
    let mut config = deserialize(read)?;
    refuse_contradictions(&config)?;
    if config.storage.places() == 0 {
        config.storage.filesystem = Some(Filesystem::default());
    }
    Ok((config, warnings))
}

/// Moves what takes effect from `section` to `read`.
fn read_section(
    path: &str,
    section: Value,
    read: &mut Mapping,
    warnings: &mut Vec<Warning>,
) -> Result<(), ConfigError> {
    let section = match section {
        // The short form of distribution: `storage: inmemory`.
        Value::String(word) => Mapping::from_iter([(word.into(), Value::Null)]),
        Value::Mapping(section) => section,
        _ => return Err(ConfigError::NotASection(path.into())),
    };
    if let Some((_, key)) = REQUIRED.iter().find(|(of, key)| *of == path && !section.contains_key(*key)) {
        return Err(ConfigError::Missing(format!("{path}.{key}")));
    }
    for (key, value) in section {
        let name = name_of(&key);
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        read_value(&path, key, value, read, warnings)?;
    }
    Ok(())
}

fn read_value(
    path: &str,
    key: Value,
    value: Value,
    read: &mut Mapping,
    warnings: &mut Vec<Warning>,
) -> Result<(), ConfigError> {
    match place(path) {
        Place::Unknown => return Err(ConfigError::UnknownKey { nearest: nearest(path), path: path.into() }),
        Place::Section if value.is_null() && !means_something_when_empty(path) => {}
        Place::Section => {
            let mut below = Mapping::new();
            let value = if value.is_null() { Value::Mapping(Mapping::new()) } else { value };
            read_section(path, value, &mut below, warnings)?;
            read.insert(key, Value::Mapping(below));
        }
        Place::Key(Effect::Refused(reason)) if !is_empty(&value) => {
            return Err(ConfigError::Refused { path: path.into(), reason });
        }
        Place::Key(Effect::RefusedUnless(only, reason)) if !is_empty(&value) && as_text(value.clone()) != *only => {
            return Err(ConfigError::Refused { path: path.into(), reason });
        }
        Place::Key(Effect::Refused(_) | Effect::RefusedUnless(..)) => {}
        Place::Key(Effect::None) => warnings.push(Warning::NoEffect(path.into())),
        Place::Key(Effect::Read) if path == "storage.inmemory" => {
            // distribution's way to choose it is the key with nothing behind it.
            read.insert(key, if value.is_null() { Value::Mapping(Mapping::new()) } else { value });
        }
        Place::Key(Effect::Read | Effect::Text) if value.is_null() => {}
        Place::Key(Effect::Read) => {
            read.insert(key, value);
        }
        Place::Key(Effect::Text) => {
            read.insert(key, as_text(value));
        }
    }
    Ok(())
}

/// `storage.filesystem:` chooses a driver, and an `auth:` with nothing below it must not pass for no `auth` at all.
fn means_something_when_empty(path: &str) -> bool {
    path == "storage.filesystem" || path.starts_with("auth") || path == "http.tls"
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Sequence(items) => items.is_empty(),
        Value::Mapping(section) => section.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) | Value::Tagged(_) => false,
    }
}

fn as_text(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::String(number.to_string()),
        Value::Bool(truth) => Value::String(truth.to_string()),
        other => other,
    }
}

fn name_of(key: &Value) -> String {
    match key {
        Value::String(name) => name.clone(),
        other => serde_yaml::to_string(other).unwrap_or_default().trim().to_owned(),
    }
}

fn deserialize(read: Mapping) -> Result<Config, ConfigError> {
    let document = Value::Mapping(read);
    serde_yaml::from_value(document.clone()).map_err(|source| ConfigError::Value { path: culprit(&document), source })
}

/// The key without which the rest could be read. serde does not say where it stumbled.
fn culprit(document: &Value) -> String {
    let mut paths = Vec::new();
    leaves(document, &mut Vec::new(), &mut paths);
    let reads_without = |path: &Vec<String>| serde_yaml::from_value::<Config>(without(document.clone(), path)).is_ok();
    paths.iter().find(|path| reads_without(path)).map_or_else(|| "somewhere".into(), |path| path.join("."))
}

fn leaves(at: &Value, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    let Value::Mapping(section) = at else { return found.push(path.clone()) };
    for (key, value) in section {
        path.push(name_of(key));
        leaves(value, path, found);
        path.pop();
    }
}

fn without(mut document: Value, path: &[String]) -> Value {
    if let Some((last, sections)) = path.split_last() {
        let section = sections.iter().try_fold(&mut document, |at, key| at.get_mut(key));
        if let Some(Value::Mapping(section)) = section {
            section.remove(last.as_str());
        }
    }
    document
}

fn refuse_contradictions(config: &Config) -> Result<(), ConfigError> {
    if config.storage.places() > 1 {
        return Err(ConfigError::Contradiction(
            "storage.filesystem, storage.s3, storage.gcs, storage.azure and storage.inmemory exclude each other",
        ));
    }
    let storage = &config.storage;
    let s3 = storage.s3.as_ref().and_then(S3::contradiction);
    let gcs = || storage.gcs.as_ref().and_then(Gcs::contradiction);
    let azure = || storage.azure.as_ref().and_then(Azure::contradiction);
    if let Some(contradiction) = s3.or_else(gcs).or_else(azure) {
        return Err(ConfigError::Contradiction(contradiction));
    }
    if config.http.secret.is_some() && config.http.secretfile.is_some() {
        return Err(ConfigError::Contradiction("http.secret and http.secretfile exclude each other"));
    }
    if config.http.secret.as_ref().is_some_and(String::is_empty) {
        return Err(ConfigError::Contradiction("http.secret is empty: leave it out for a random one"));
    }
    let (api, debug) = (&config.http.addr, &config.http.debug.addr);
    if api.overlaps(debug) {
        return Err(ConfigError::SamePort { api: api.0.clone(), debug: debug.0.clone() });
    }
    match &config.auth {
        Some(auth) if auth.htpasswd.is_none() && auth.nodes.is_none() => {
            Err(ConfigError::Contradiction("auth is there but names nobody: leave it out for an open registry"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
