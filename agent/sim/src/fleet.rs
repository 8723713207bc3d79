//! The documents and keys of a simulated fleet.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use muster_core::document::Trust;
use muster_core::id::HostId;
use muster_signing::{
    Namespace, SignedDocument, SigningKey, Verified, sha256, sign_document, verify_document,
};
use serde_json::{Value, json};

/// The name of every simulated fleet.
pub const FLEET: &str = "sim";
/// The channel that every simulated host is on.
pub const CHANNEL: &str = "stable";

/// The keys of a fleet, and what its operators signed last.
#[derive(Debug)]
pub struct Fleet {
    operator: SigningKey,
    hosts: BTreeMap<HostId, SigningKey>,
    /// The newest fleet document.
    document: Vec<u8>,
    serial: u64,
}

impl Fleet {
    /// Makes keys for hosts named `h1` to `hN`.
    pub fn new(hosts: usize) -> Self {
        let named = |n: usize| format!("h{n}").parse::<HostId>().ok();
        let keys = (1..=hosts).filter_map(|n| {
            let seed = sha256(format!("host {n}").as_bytes()).0;
            Some((named(n)?, SigningKey::from_seed(seed)))
        });
        Self {
            operator: SigningKey::from_seed(sha256(b"operator").0),
            hosts: keys.collect(),
            document: Vec::new(),
            serial: 0,
        }
    }

    /// The hosts and their keys.
    pub fn hosts(&self) -> &BTreeMap<HostId, SigningKey> {
        &self.hosts
    }

    /// What every host pins.
    pub fn trust(&self) -> Trust {
        let pin = json!({
            "fleet": FLEET, "operators": { "alice": self.operator.public().to_openssh() }, "threshold": 1,
        });
        Trust::parse(pin.to_string().as_bytes()).unwrap_or_else(|error| panic!("the pin is valid: {error}"))
    }

    /// Signs a fleet document: the first `coordinators` hosts coordinate, and the policy is given.
    pub fn publish_fleet(
        &mut self,
        at: DateTime<Utc>,
        coordinators: usize,
        policy: Value,
        budgets: Value,
    ) -> Verified<SignedDocument> {
        self.serial += 1;
        let hosts: serde_json::Map<String, Value> = (1..)
            .zip(&self.hosts)
            .map(|(n, (host, key))| {
                let mut tags = vec![host.as_str().to_owned()];
                if n <= coordinators {
                    tags.push("coordinator".to_owned());
                }
                let entry = json!({ "key": key.public().to_openssh(), "channel": CHANNEL, "tags": tags });
                (host.to_string(), entry)
            })
            .collect();
        let document = json!({
            "kind": "muster/fleet/1", "fleet": FLEET, "serial": self.serial, "signedAt": stamp(at),
            "operators": { "alice": self.operator.public().to_openssh() },
            "thresholds": { "fleet": 1, "channelRef": 1, "command": 1 },
            "coordinators": { "selector": { "tags": ["coordinator"] } },
            "hosts": hosts,
            "channels": { CHANNEL: { "rolloutPolicy": "policy", "freshnessWindowMinutes": 1440 } },
            "rolloutPolicies": { "policy": policy },
            "disruptionBudgets": budgets,
        });
        self.document = document.to_string().into_bytes();
        self.sign(Namespace::Fleet, self.document.clone())
    }

    /// Signs a channel ref that gives every host the same closure.
    pub fn publish_ref(&mut self, at: DateTime<Utc>, name: &str, closure: &str) -> Verified<SignedDocument> {
        let fleet_serial = self.serial;
        self.serial += 1;
        let targets: serde_json::Map<String, Value> =
            self.hosts.keys().map(|host| (host.to_string(), json!(closure))).collect();
        let document = json!({
            "kind": "muster/channel-ref/1", "fleet": FLEET, "channel": CHANNEL, "ref": name,
            "serial": self.serial, "signedAt": stamp(at), "fleetSerial": fleet_serial_of(&self.document, fleet_serial),
            "fleetHash": sha256(&self.document).to_string(), "targets": targets,
        });
        self.sign(Namespace::ChannelRef, document.to_string().into_bytes())
    }

    fn sign(&self, namespace: Namespace, bytes: Vec<u8>) -> Verified<SignedDocument> {
        let signature = sign_document(&self.operator, namespace, &bytes);
        verify_document(namespace, bytes, vec![signature])
    }
}

fn fleet_serial_of(document: &[u8], otherwise: u64) -> u64 {
    let document: Value = serde_json::from_slice(document).unwrap_or_default();
    document["serial"].as_u64().unwrap_or(otherwise)
}

fn stamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}
