//! `REGISTRY_*` variables, by distribution's rule.
//!
//! The name without its prefix is a path: underscores separate the keys, a number is an index into a list, and case does
//! not matter. The value is YAML. Variables are applied in the order of their names, so `REGISTRY_STORAGE` comes before
//! `REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY`.

use serde_yaml::{Mapping, Value};

use super::keys::{Effect, Place, nearest, place};
use super::load::{ConfigError, Warning};

const PREFIX: &str = "REGISTRY_";

/// What names the file itself and is read before it.
const CONFIGURATION_PATH: &str = "REGISTRY_CONFIGURATION_PATH";

/// Writes what the environment says over what the file says.
pub(super) fn apply(
    document: &mut Value,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Vec<Warning>, ConfigError> {
    let mut variables: Vec<_> = environment.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    variables.sort();
    let mut warnings = Vec::new();
    for (name, text) in variables {
        let path = name.strip_prefix(PREFIX).unwrap_or_default().to_lowercase().replace('_', ".");
        match place(&path) {
            _ if name == CONFIGURATION_PATH => {}
            // Before all else: a Service called registry-proxy must not reach the key `proxy`.
            _ if is_service_link(&path) => warnings.push(Warning::UnknownVariable { nearest: None, name }),
            Place::Unknown if opens_a_door(&path) => {
                return Err(ConfigError::UnknownVariable { nearest: nearest(&path).map(variable), name });
            }
            Place::Unknown => warnings.push(Warning::UnknownVariable { nearest: nearest(&path).map(variable), name }),
            place => {
                let value = value(place, &name, text)?;
                set(document, &path, value);
            }
        }
    }
    Ok(warnings)
}

/// The variable that overrides the key at `path`.
pub(super) fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.to_uppercase().replace('.', "_"))
}

/// Whether a mistyped variable for this path would leave something open that was meant to be shut.
fn opens_a_door(path: &str) -> bool {
    ["auth.", "http.tls."].iter().any(|section| path.starts_with(section))
}

/// Whether Kubernetes makes such a variable in every pod beside a Service called `registry`, or `registry-` and more.
fn is_service_link(path: &str) -> bool {
    path.contains("service.host") || path.contains("service.port") || path.split('.').any(|part| part == "port")
}

fn value(place: Place, name: &str, text: String) -> Result<Value, ConfigError> {
    let parsed: Value =
        serde_yaml::from_str(&text).map_err(|source| ConfigError::Variable { name: name.into(), source })?;
    Ok(match (place, parsed) {
        // What YAML takes for a number keeps the digits that were typed.
        (Place::Key(Effect::Text), Value::Number(_) | Value::Bool(_)) => Value::String(text),
        // `REGISTRY_STORAGE=inmemory` and `REGISTRY_AUTH=htpasswd`: a section that is one word names its only key.
        (Place::Section, Value::String(word)) => Value::Mapping(Mapping::from_iter([(word.into(), Value::Null)])),
        (_, parsed) => parsed,
    })
}

/// Puts `value` at `path`, making the sections on the way.
fn set(at: &mut Value, path: &str, value: Value) {
    let (key, rest) = path.split_once('.').map_or((path, None), |(key, rest)| (key, Some(rest)));
    if let (Value::Sequence(items), Ok(index)) = (&mut *at, key.parse::<usize>()) {
        if index == items.len() {
            items.push(Value::Null);
        }
        if let Some(item) = items.get_mut(index) {
            put(item, rest, value);
        }
        return;
    }
    if !at.is_mapping() {
        *at = Value::Mapping(Mapping::new());
    }
    if let Value::Mapping(section) = at {
        put(section.entry(key.into()).or_insert(Value::Null), rest, value);
    }
}

fn put(at: &mut Value, rest: Option<&str>, value: Value) {
    match rest {
        Some(rest) => set(at, rest, value),
        None => *at = value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(file: &str, environment: &[(&str, &str)]) -> (Value, Vec<Warning>) {
        let mut document = serde_yaml::from_str(file).unwrap();
        let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let warnings = apply(&mut document, environment).unwrap();
        (document, warnings)
    }

    #[test]
    fn sections_that_the_file_lacks_are_made() {
        let (document, warnings) = applied("{}", &[("REGISTRY_STORAGE_DELETE_ENABLED", "true")]);
        assert_eq!(document, serde_yaml::from_str::<Value>("storage: {delete: {enabled: true}}").unwrap());
        assert_eq!(warnings, []);
    }

    #[test]
    fn the_less_specific_variable_comes_first() {
        let environment = [("REGISTRY_AUTH_HTPASSWD_PATH", "/f"), ("REGISTRY_AUTH", "htpasswd")];
        let (document, _) = applied("auth: {silly: {realm: a}}", &environment);
        assert_eq!(document, serde_yaml::from_str::<Value>("auth: {htpasswd: {path: /f}}").unwrap());
    }

    #[test]
    fn a_number_is_an_index_into_a_list() {
        let (document, _) = applied(
            "log: {hooks: [{type: a}]}",
            &[("REGISTRY_LOG_HOOKS_0_TYPE", "b"), ("REGISTRY_LOG_HOOKS_1", "{type: c}")],
        );
        assert_eq!(document, serde_yaml::from_str::<Value>("log: {hooks: [{type: b}, {type: c}]}").unwrap());
    }

    #[test]
    fn text_that_looks_like_a_number_stays_as_it_was_typed() {
        let (document, _) = applied("{}", &[("REGISTRY_HTTP_SECRET", "0123e5")]);
        assert_eq!(document, serde_yaml::from_str::<Value>("http: {secret: '0123e5'}").unwrap());
    }

    #[test]
    fn what_kubernetes_injects_is_warned_of_and_changes_nothing() {
        let environment = [
            ("REGISTRY_PORT", "tcp://10.0.0.1:80"),
            ("REGISTRY_SERVICE_HOST", "10.0.0.1"),
            ("REGISTRY_AUTH_SERVICE_HOST", "10.0.0.1"),
            ("REGISTRY_HTTP_TLS_PORT_443_TCP_ADDR", "10.0.0.1"),
            ("OTHER", "x"),
        ];
        let (document, warnings) = applied("{}", &environment);
        assert_eq!(document, serde_yaml::from_str::<Value>("{}").unwrap());
        assert_eq!(warnings.len(), 4);
    }

    #[test]
    fn a_mistyped_variable_that_would_leave_a_door_open_is_an_error() {
        let environment = [("REGISTRY_AUTH_HTPASWD_PATH".to_owned(), "/f".to_owned())];
        let error = apply(&mut Value::Null, environment.into_iter()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "environment variable REGISTRY_AUTH_HTPASWD_PATH names no key; did you mean REGISTRY_AUTH_HTPASSWD_PATH?"
        );
    }
}
