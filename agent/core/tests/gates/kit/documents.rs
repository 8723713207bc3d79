//! The documents that operators write and sign.

use muster_core::document::Trust;
use muster_signing::{Namespace, SignedDocument, Verified, sign_document, verify_document};
use serde_json::{Value, json};

use super::{FLEET, key_of, stamp, start};

/// A fleet document over hosts; `h1` to `h3` coordinate, and everything else is up to the test.
pub(crate) fn fleet_of(hosts: &[&str], policy: Value) -> Value {
    let entry = |name: &&str| {
        let mut tags = vec![(*name).to_owned()];
        if ["h1", "h2", "h3"].contains(name) {
            tags.push("coordinator".to_owned());
        }
        let host = json!({ "key": key_of(name).public().to_openssh(), "channel": "stable", "tags": tags });
        ((*name).to_owned(), host)
    };
    let hosts: serde_json::Map<String, Value> = hosts.iter().map(entry).collect();
    json!({
        "kind": "muster/fleet/1", "fleet": FLEET, "serial": 1, "signedAt": stamp(start()),
        "operators": { "alice": key_of("alice").public().to_openssh() },
        "thresholds": { "fleet": 1, "channelRef": 1, "command": 1 },
        "coordinators": { "selector": { "tags": ["coordinator"] } },
        "hosts": hosts,
        "channels": { "stable": { "rolloutPolicy": "policy", "freshnessWindowMinutes": 1440 } },
        "rolloutPolicies": { "policy": policy },
    })
}

/// One wave of one host after another, without a soak.
pub(crate) fn one_by_one(hosts: &[&str]) -> Value {
    let waves: Vec<Value> =
        hosts.iter().map(|name| json!({ "selector": { "hosts": [name] }, "soakSeconds": 0 })).collect();
    json!({ "waves": waves })
}

/// Everybody in one wave, without a soak.
pub(crate) fn all_at_once() -> Value {
    json!({ "waves": [{ "selector": { "all": true }, "soakSeconds": 0 }] })
}

pub(crate) fn trust() -> Trust {
    let pin = json!({ "fleet": FLEET, "operators": { "alice": key_of("alice").public().to_openssh() }, "threshold": 1 });
    Trust::parse(pin.to_string().as_bytes()).unwrap()
}

pub(crate) fn signed(namespace: Namespace, document: &Value) -> Verified<SignedDocument> {
    signed_by(&["alice"], namespace, document)
}

pub(crate) fn signed_by(
    operators: &[&str],
    namespace: Namespace,
    document: &Value,
) -> Verified<SignedDocument> {
    let bytes = document.to_string().into_bytes();
    let signatures = operators.iter().map(|name| sign_document(&key_of(name), namespace, &bytes)).collect();
    verify_document(namespace, bytes, signatures)
}

/// Changes values by JSON pointer; null takes the key away.
pub(crate) fn with(mut document: Value, changes: &[(&str, Value)]) -> Value {
    for (pointer, value) in changes {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = document.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        if value.is_null() {
            parent.remove(name);
        } else {
            parent.insert(name.to_owned(), value.clone());
        }
    }
    document
}
