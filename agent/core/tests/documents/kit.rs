//! The golden documents, changed and signed by test keys.

use chrono::{DateTime, Utc};
use muster_core::document::{Acceptance, Documents, Refusal, Trust, namespace_of};
use muster_signing::{Digest, SignedDocument, SigningKey, Verified, sha256, sign_document, verify_document};
use serde_json::Value;

/// The seeds of the operators' keys in the golden files.
pub(crate) const ALICE: u8 = 1;
pub(crate) const CI: u8 = 2;
/// An operator of later fleet documents only.
pub(crate) const BOB: u8 = 3;

pub(crate) const FLEET: &str = include_str!("fleet.json");
pub(crate) const STABLE: &str = include_str!("stable.json");
pub(crate) const PAUSE: &str = include_str!("pause.json");
pub(crate) const CLEAR: &str = include_str!("clear.json");
pub(crate) const TRUST: &str = include_str!("trust.json");

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed([seed; 32])
}

pub(crate) fn line(seed: u8) -> String {
    key(seed).public().to_openssh()
}

pub(crate) fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Shortly after the golden documents were signed.
pub(crate) fn now() -> DateTime<Utc> {
    time("2026-11-21T10:10:00Z")
}

/// A document with some of its values changed, each `("/json/pointer", new value)`; null takes the key away.
pub(crate) fn with(golden: &str, changes: &[(&str, Value)]) -> Vec<u8> {
    let mut document: Value = serde_json::from_str(golden).unwrap();
    for (pointer, value) in changes {
        set(&mut document, pointer, value.clone());
    }
    serde_json::to_vec_pretty(&document).unwrap()
}

fn set(document: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap_or_else(|| panic!("nothing at {parent}"));
    match parent {
        Value::Object(object) if value.is_null() => {
            object.remove(name);
        }
        Value::Object(object) => {
            object.insert(name.to_owned(), value);
        }
        Value::Array(array) if name == "-" => array.push(value),
        Value::Array(array) => array[name.parse::<usize>().unwrap()] = value,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            panic!("nothing lies in {parent}")
        }
    }
}

/// Signs a document in the namespace of its kind.
pub(crate) fn sign(bytes: &[u8], seeds: &[u8]) -> Verified<SignedDocument> {
    let namespace = namespace_of(bytes).unwrap_or(muster_signing::Namespace::Fleet);
    let signatures = seeds.iter().map(|seed| sign_document(&key(*seed), namespace, bytes)).collect();
    verify_document(namespace, bytes.to_vec(), signatures)
}

pub(crate) fn empty() -> Documents {
    Documents::new(vec![Trust::parse(TRUST.as_bytes()).unwrap()]).unwrap()
}

/// Checks a document and takes it in; it has to be new.
pub(crate) fn accept(documents: &mut Documents, bytes: &[u8], seeds: &[u8]) -> Digest {
    match documents.check(&sign(bytes, seeds), now()).unwrap() {
        Acceptance::New(accepted) => documents.insert(accepted),
        other @ (Acceptance::Duplicate | Acceptance::Waits { .. }) => panic!("{other:?}"),
    }
    sha256(bytes)
}

/// Documents of which the golden fleet document is accepted.
pub(crate) fn with_fleet() -> Documents {
    let mut documents = empty();
    accept(&mut documents, FLEET.as_bytes(), &[ALICE, CI]);
    documents
}

/// A golden ref of another serial and name under a fleet document.
pub(crate) fn stable(fleet: &[u8], serial: u64, name: &str) -> Vec<u8> {
    let parsed: Value = serde_json::from_slice(fleet).unwrap();
    with(
        STABLE,
        &[
            ("/serial", serial.into()),
            ("/ref", name.into()),
            ("/fleetSerial", parsed["serial"].clone()),
            ("/fleetHash", sha256(fleet).to_string().into()),
        ],
    )
}

pub(crate) fn refused(documents: &Documents, bytes: &[u8], seeds: &[u8]) -> Refusal {
    match documents.check(&sign(bytes, seeds), now()) {
        Err(refusal) => refusal,
        Ok(acceptance) => panic!("accepted: {acceptance:?}"),
    }
}

/// Why an operator may not publish it.
pub(crate) fn unpublishable(documents: &Documents, bytes: &[u8], seeds: &[u8]) -> Refusal {
    documents.check_publish(&sign(bytes, seeds), now()).unwrap_err()
}

/// Asserts code and a part of the message.
pub(crate) fn assert_refusal(refusal: &Refusal, code: &str, fragment: &str) {
    let message = refusal.to_string();
    assert_eq!(refusal.code(), code, "{message}");
    assert!(message.contains(fragment), "{message:?} should contain {fragment:?}");
}
