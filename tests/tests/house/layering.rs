//! Who may know whom: the members of the workspace depend on each other only as the table says.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{cargo, none};

/// A member, and the members that it may name in its manifest, for building or for testing.
const MAY_KNOW: [(&str, &[&str]); 8] = [
    ("muster-signing", &[]),
    ("muster-core", &["muster-signing"]),
    ("muster-sim", &["muster-core", "muster-signing"]),
    ("muster-store", &["muster-signing"]),
    ("muster-gossip", &["muster-signing"]),
    ("muster", &["muster-core", "muster-gossip", "muster-signing", "muster-sim", "muster-store"]),
    ("muster-tests", &["muster", "muster-core", "muster-gossip", "muster-signing"]),
    (
        "muster-bench",
        &[
            "muster",
            "muster-core",
            "muster-gossip",
            "muster-signing",
            "muster-sim",
            "muster-store",
            "muster-tests",
        ],
    ),
];

/// What `cargo metadata` says against the table.
fn breaches(metadata: &Value) -> Vec<String> {
    let table = BTreeMap::from(MAY_KNOW);
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let Some(allowed) = table.get(name) else {
            found.push(format!("{name} is a member of the workspace that the table does not place"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let known = dependency["name"].as_str().unwrap();
            let inside = known == "muster" || known.starts_with("muster-") || !dependency["path"].is_null();
            if inside && known != name && !allowed.contains(&known) {
                found.push(format!("{name} knows {known}"));
            }
        }
    }
    found
}

#[test]
fn members_know_only_whom_they_may() {
    let metadata = serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"])).unwrap();
    none("a member knows one that it must not know", &breaches(&metadata));
}

#[test]
fn a_member_that_knows_too_much_is_found() {
    let dependency = |name: &str, path: Option<&str>| serde_json::json!({ "name": name, "path": path });
    let metadata = |name: &str, dependencies: Vec<Value>| serde_json::json!({ "packages": [{ "name": name, "dependencies": dependencies }] });
    for (name, dependencies, expected) in [
        (
            "muster-core",
            vec![dependency("muster-signing", Some("/signing")), dependency("serde", None)],
            None,
        ),
        (
            "muster-core",
            vec![dependency("muster-store", Some("/store"))],
            Some("muster-core knows muster-store"),
        ),
        ("muster-signing", vec![dependency("helper", Some("/helper"))], Some("muster-signing knows helper")),
        (
            "muster-extra",
            vec![],
            Some("muster-extra is a member of the workspace that the table does not place"),
        ),
    ] {
        let found = breaches(&metadata(name, dependencies));
        assert_eq!(found.first().map(String::as_str), expected, "{name}");
    }
}
