//! The JSON of every screen against the types that document it: no key that they do not name, none of theirs missing.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::golden;
use crate::control::wire;

/// Reads a body as its documented type and writes it again.
type Again = fn(&Value) -> Result<Value, serde_json::Error>;

fn again<T: Serialize + DeserializeOwned>(body: &Value) -> Result<Value, serde_json::Error> {
    serde_json::to_value(T::deserialize(body)?)
}

/// What documents a body.
struct Documented {
    /// How the names of its screens begin.
    begins: &'static str,
    /// The type's name.
    form: fn() -> &'static str,
    again: Again,
}

const fn by<T: Serialize + DeserializeOwned>(begins: &'static str) -> Documented {
    Documented { begins, form: std::any::type_name::<T>, again: again::<T> }
}

/// Which type documents the JSON of screens whose names begin so.
const DOCUMENTED: [Documented; 14] = [
    by::<wire::Status>("status"),
    by::<wire::Peers>("peers"),
    by::<wire::Rollouts>("rollout-list"),
    by::<wire::RolloutShow>("rollout-show"),
    by::<wire::RolloutShow>("rollout-watch"),
    by::<wire::Explain>("explain"),
    by::<wire::Events>("events"),
    by::<wire::Quarantines>("quarantine-list"),
    by::<wire::Status>("hook-list"),
    by::<wire::HookDone>("hook"),
    by::<wire::DocumentInfo>("publish-wait"),
    by::<wire::DocumentReceipt>("publish"),
    by::<wire::Plan>("plan"),
    by::<wire::StoreInfo>("store-stats"),
];

/// The paths of all values, and whether each is something.
fn paths(value: &Value, path: &str, found: &mut BTreeMap<String, bool>) {
    match value {
        Value::Object(fields) => {
            found.insert(path.to_owned(), true);
            fields.iter().for_each(|(key, value)| paths(value, &format!("{path}.{key}"), found));
        }
        Value::Array(items) => items.iter().for_each(|item| paths(item, &format!("{path}[]"), found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            *found.entry(path.to_owned()).or_default() |= !value.is_null();
        }
    }
}

fn bodies() -> Vec<(String, Value)> {
    let files = golden().into_iter().filter(|(name, _)| name.ends_with(".json"));
    files.map(|(name, text)| (name, serde_json::from_str(&text).unwrap())).collect()
}

#[test]
fn every_body_names_the_version_of_its_form() {
    for (name, body) in bodies().iter().filter(|(name, _)| !name.contains("-dry-run")) {
        assert_eq!(body["schema"], 1, "{name}");
    }
}

#[test]
fn what_a_body_holds_is_what_its_type_documents() {
    let mut seen = BTreeSet::new();
    let mut something: BTreeMap<String, bool> = BTreeMap::new();
    for (name, body) in bodies() {
        let documented = DOCUMENTED.iter().find(|it| name.starts_with(it.begins));
        let Some(Documented { begins, form, again }) = documented else { continue };
        seen.insert(*begins);
        assert_eq!(again(&body).unwrap_or_else(|error| panic!("{name}: {error}")), body, "{name}");
        paths(&body, form(), &mut something);
    }
    assert_eq!(seen.len(), DOCUMENTED.len(), "only these have golden bodies: {seen:?}");
    let never: Vec<&String> = something.iter().filter(|(_, is)| !**is).map(|(path, _)| path).collect();
    assert!(never.is_empty(), "no golden body shows what these look like: {never:?}");
}
