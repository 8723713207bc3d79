//! A fleet of two hosts for the tests of the daemon's parts.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use chrono::{DateTime, Utc};
use muster_core::document::{Acceptance, Documents, Trust};
use muster_core::ledger::Ledger;
use muster_core::verify::{self, Roster};
use muster_core::wire::{Envelope, FeedBody, codec};
use muster_signing::{DocumentParts, Namespace, Purpose, SigningKey, seal, sign_document};

/// The operator's key.
pub(super) fn operator() -> SigningKey {
    SigningKey::from_seed([1; 32])
}

/// The key of the host `alpha`.
pub(super) fn alpha() -> SigningKey {
    SigningKey::from_seed([2; 32])
}

/// The key of the host `beta`.
pub(super) fn beta() -> SigningKey {
    SigningKey::from_seed([3; 32])
}

pub(super) fn trust() -> String {
    format!(
        r#"{{"fleet":"home","operators":{{"alice":"{}"}},"threshold":1}}"#,
        operator().public().to_openssh()
    )
}

/// The fleet document in its wire form.
pub(super) fn fleet_document() -> Vec<u8> {
    let (operator, alpha, beta) = (operator(), alpha(), beta());
    let [alice, first, second] = [&operator, &alpha, &beta].map(|key| key.public().to_openssh());
    let bytes = serde_json::json!({
        "kind": "muster/fleet/1", "fleet": "home", "serial": 1, "signedAt": "2026-01-01T10:00:00Z",
        "operators": { "alice": alice },
        "thresholds": { "fleet": 1, "channelRef": 1, "command": 1 },
        "hosts": {
            "alpha": { "key": first, "channel": "stable" },
            "beta": { "key": second, "channel": "stable" }
        },
        "channels": { "stable": { "rolloutPolicy": "all", "freshnessWindowMinutes": 60 } },
        "rolloutPolicies": { "all": { "waves": [{ "selector": { "all": true }, "soakMinutes": 0 }] } }
    });
    let bytes = bytes.to_string().into_bytes();
    let signatures = vec![sign_document(&operator, Namespace::Fleet, &bytes)];
    DocumentParts { bytes, signatures }.to_wire()
}

/// Who is in the fleet.
pub(super) fn roster() -> Arc<Roster> {
    let documents = Documents::new(vec![Trust::parse(trust().as_bytes()).unwrap()]).unwrap();
    let document = verify::document(&fleet_document()).unwrap();
    let Acceptance::New(accepted) = documents.check(&document, Utc::now()).unwrap() else {
        panic!("not new")
    };
    let mut ledger = Ledger::new("home".parse().unwrap(), "alpha".parse().unwrap(), documents);
    ledger.document(accepted);
    Arc::clone(ledger.roster())
}

/// An envelope of the host `beta`, signed by any key, with the hash that the next one names.
pub(super) fn envelope(
    key: &SigningKey,
    seq: u64,
    prev: muster_signing::Digest,
    at: DateTime<Utc>,
    body: FeedBody,
) -> (Vec<u8>, muster_signing::Digest) {
    let (fleet, host) = ("home".parse().unwrap(), "beta".parse().unwrap());
    let envelope = Envelope { fleet, host, incarnation: 7, seq, prev, at, body };
    let bytes = seal(key, Purpose::Envelope, "home", &codec::encode(&envelope));
    let hash = muster_signing::sha256(&bytes);
    (bytes, hash)
}
