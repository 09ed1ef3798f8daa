//! Whether an object is what we want, in what we want of it. Pure.
//!
//! The API server adds defaults, and others add fields of their own; neither is drift. So the live object is reduced to what
//! the wanted one mentions, and the two are compared.

use serde_json::{Map, Value};

/// The keys by which elements of a Kubernetes list are told apart, in the order they are tried.
const ELEMENT_KEYS: [&str; 6] = ["uid", "name", "mountPath", "containerPort", "topologyKey", "key"];

/// What `wanted` mentions, as it is in `live`.
pub fn projection(live: &Value, wanted: &Value) -> Value {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => Value::Object(object(live, wanted)),
        (Value::Array(live), Value::Array(wanted)) => Value::Array(array(live, wanted)),
        // What is empty is not stored.
        (Value::Null, Value::Object(wanted)) if wanted.is_empty() => Value::Object(Map::new()),
        (live, _) => live.clone(),
    }
}

fn object(live: &Map<String, Value>, wanted: &Map<String, Value>) -> Map<String, Value> {
    wanted.iter().map(|(key, value)| (key.clone(), projection(live.get(key).unwrap_or(&Value::Null), value))).collect()
}

fn array(live: &[Value], wanted: &[Value]) -> Vec<Value> {
    let Some(key) = element_key(wanted) else {
        // A list of plain values, or of elements that nothing tells apart, is one value.
        let pairs = live.iter().enumerate().map(|(index, live)| match wanted.get(index) {
            Some(wanted) => projection(live, wanted),
            None => live.clone(),
        });
        return pairs.collect();
    };
    wanted
        .iter()
        .filter_map(|wanted| {
            let same = live.iter().find(|live| live.get(key) == wanted.get(key))?;
            Some(projection(same, wanted))
        })
        .collect()
}

fn element_key(wanted: &[Value]) -> Option<&'static str> {
    ELEMENT_KEYS.into_iter().find(|key| {
        let mut values: Vec<String> =
            wanted.iter().filter_map(|element| element.get(key)).map(Value::to_string).collect();
        values.sort();
        values.dedup();
        !wanted.is_empty() && values.len() == wanted.len()
    })
}

/// Makes `live` what `wanted` says, with lists as long as ours and everything else left as it is.
pub fn overlay(live: &mut Value, wanted: &Value) {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            for (key, wanted) in wanted {
                overlay(live.entry(key.clone()).or_insert(Value::Null), wanted);
            }
        }
        (Value::Array(live), Value::Array(wanted)) => {
            let key = element_key(wanted);
            let merged = wanted.iter().map(|wanted| {
                let same = key.and_then(|key| live.iter().find(|live| live.get(key) == wanted.get(key)));
                let mut element = same.cloned().unwrap_or(Value::Null);
                overlay(&mut element, wanted);
                element
            });
            *live = merged.collect();
        }
        (live, wanted) => *live = wanted.clone(),
    }
}

/// Where the two differ first, for the log. It names no value: one may be private.
pub fn first_difference(seen: &Value, wanted: &Value) -> Option<String> {
    match (seen, wanted) {
        (Value::Object(seen), Value::Object(wanted)) => wanted.iter().find_map(|(key, value)| {
            let rest = first_difference(seen.get(key).unwrap_or(&Value::Null), value)?;
            Some(format!(".{key}{rest}"))
        }),
        (Value::Array(seen), Value::Array(wanted)) if seen.len() == wanted.len() => {
            seen.iter().zip(wanted).enumerate().find_map(|(index, (seen, wanted))| {
                first_difference(seen, wanted).map(|rest| format!("[{index}]{rest}"))
            })
        }
        (seen, wanted) => (seen != wanted).then(String::new),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_add_is_no_drift() {
        let wanted = json!({"spec": {"selector": {}, "ports": [{"name": "https", "port": 443}], "list": ["a"]}});
        for live in [
            json!({"spec": {"selector": {}, "ports": [{"name": "https", "port": 443, "nodePort": 3}], "list": ["a"]}, "status": {}}),
            json!({"spec": {"ports": [{"name": "more"}, {"name": "https", "port": 443}], "list": ["a"], "x": 1}}),
        ] {
            assert_eq!(projection(&live, &wanted), wanted);
        }
    }

    #[test]
    fn an_overlay_has_our_elements_only_and_keeps_what_the_server_added_to_them() {
        let wanted = json!({"spec": {"ports": [{"name": "https", "port": 443}]}});
        let mut live =
            json!({"spec": {"ip": "1", "ports": [{"name": "x"}, {"name": "https", "port": 444, "nodePort": 3}]}});
        overlay(&mut live, &wanted);
        assert_eq!(live, json!({"spec": {"ip": "1", "ports": [{"name": "https", "port": 443, "nodePort": 3}]}}));
        assert_eq!(projection(&live, &wanted), wanted);
    }

    #[test]
    fn what_others_change_or_remove_is_drift() {
        let wanted = json!({"spec": {"ports": [{"name": "https", "port": 443}], "list": ["a"]}});
        for (live, place) in [
            (json!({"spec": {"ports": [{"name": "https", "port": 444}], "list": ["a"]}}), ".spec.ports[0].port"),
            (json!({"spec": {"ports": [], "list": ["a"]}}), ".spec.ports"),
            (json!({"spec": {"ports": [{"name": "https", "port": 443}], "list": ["a", "b"]}}), ".spec.list"),
            (json!({"spec": {"ports": [{"name": "https", "port": 443}]}}), ".spec.list"),
            (json!({}), ".spec"),
        ] {
            let seen = projection(&live, &wanted);
            assert_ne!(seen, wanted);
            assert_eq!(first_difference(&seen, &wanted).as_deref(), Some(place));
        }
    }
}
