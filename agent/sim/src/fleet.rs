//! The keys of a simulated fleet, and the documents that its operators sign.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use muster_core::document::Trust;
use muster_core::id::{FleetName, HostId};
use muster_signing::{
    Namespace, PublicKey, SignedDocument, SigningKey, Verified, sha256, sign_document, verify_document,
};
use serde_json::{Value, json};

/// The name of every simulated fleet.
pub const FLEET: &str = "sim";
/// The channel that every host of a story is on.
pub const CHANNEL: &str = "stable";

/// The keys of a fleet, and what its operators signed last.
#[derive(Debug)]
pub struct Fleet {
    name: FleetName,
    operator: SigningKey,
    /// Who signed before, the latest last.
    revoked: Vec<SigningKey>,
    /// Whether the next fleet document has to be signed by the operator before as well.
    hands_over: bool,
    real_signatures: bool,
    stranger: SigningKey,
    hosts: BTreeMap<HostId, SigningKey>,
    names: Vec<HostId>,
    keys: Vec<PublicKey>,
    by_name: BTreeMap<HostId, usize>,
    by_key: BTreeMap<PublicKey, usize>,
    /// The newest fleet document.
    document: Vec<u8>,
    fleet_serial: u64,
    serial: u64,
    /// Hosts that no document of a story names any more.
    gone: Vec<String>,
}

impl Fleet {
    /// Makes keys for hosts named `h1` to `hN`: real ones, or stand-ins that cost less.
    pub fn new(hosts: usize, real_signatures: bool) -> Self {
        let make = |seed: &str| key(sha256(seed.as_bytes()).0, real_signatures);
        let names: Vec<HostId> = (1..=hosts).filter_map(|number| format!("h{number}").parse().ok()).collect();
        let name = FLEET.parse().unwrap_or_else(|error| panic!("a fleet's name: {error}"));
        Self::of(name, names, real_signatures, make)
    }

    /// Makes real keys, of a seed, for a fleet and hosts of these names.
    pub(crate) fn stand_in(name: FleetName, names: Vec<HostId>, seed: u64) -> Self {
        Self::of(name, names, true, |of| SigningKey::from_seed(sha256(format!("{seed} {of}").as_bytes()).0))
    }

    fn of(
        name: FleetName,
        names: Vec<HostId>,
        real_signatures: bool,
        make: impl Fn(&str) -> SigningKey,
    ) -> Self {
        let hosts: BTreeMap<HostId, SigningKey> =
            names.iter().map(|name| (name.clone(), make(&format!("host {name}")))).collect();
        let keys: Vec<PublicKey> =
            names.iter().filter_map(|name| hosts.get(name)).map(SigningKey::public).collect();
        Self {
            name,
            by_name: names.iter().cloned().zip(0..).collect(),
            by_key: keys.iter().copied().zip(0..).collect(),
            keys,
            operator: make("operator"),
            revoked: Vec::new(),
            hands_over: false,
            real_signatures,
            stranger: make("stranger"),
            hosts,
            names,
            document: Vec::new(),
            fleet_serial: 0,
            serial: 0,
            gone: Vec::new(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &FleetName {
        &self.name
    }

    /// The hosts and their keys.
    pub fn hosts(&self) -> &BTreeMap<HostId, SigningKey> {
        &self.hosts
    }

    /// The hosts by number.
    pub fn names(&self) -> &[HostId] {
        &self.names
    }

    /// The number of the host that has a key.
    pub(crate) fn number_of(&self, key: &PublicKey) -> Option<usize> {
        self.by_key.get(key).copied()
    }

    /// The number of a host.
    pub(crate) fn number(&self, host: &HostId) -> Option<usize> {
        self.by_name.get(host).copied()
    }

    /// A host's key.
    pub(crate) fn key_of(&self, host: &HostId) -> Option<PublicKey> {
        self.keys.get(*self.by_name.get(host)?).copied()
    }

    /// What every host pins.
    pub fn trust(&self) -> Trust {
        let root = named(self.revoked.first().unwrap_or(&self.operator));
        let pin = json!({ "fleet": self.name, "operators": root, "threshold": 1 });
        Trust::parse(pin.to_string().as_bytes()).unwrap_or_else(|error| panic!("the pin is valid: {error}"))
    }

    /// The serial of the newest fleet document.
    pub(crate) fn fleet_serial(&self) -> u64 {
        self.fleet_serial
    }

    pub(crate) fn leave_out(&mut self, hosts: &[&str]) {
        self.gone.extend(hosts.iter().map(|host| (*host).to_owned()));
    }

    /// The serial of the last document.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    pub(crate) fn operators(&self) -> Value {
        named(&self.operator)
    }

    /// Another operator takes over with the next fleet document, which both sign.
    pub fn change_operator(&mut self) {
        let next =
            key(sha256(format!("operator {}", self.revoked.len() + 1).as_bytes()).0, self.real_signatures);
        self.revoked.push(std::mem::replace(&mut self.operator, next));
        self.hands_over = true;
    }

    /// The operator before goes on after all.
    pub(crate) fn keep_operator(&mut self) {
        if let Some(before) = self.revoked.pop() {
            self.operator = before;
        }
        self.hands_over = false;
    }

    /// How often the operator has changed.
    pub(crate) fn generation(&self) -> usize {
        self.revoked.len()
    }

    /// Signs a fleet document: the first `coordinators` hosts coordinate, and the policy is given.
    pub fn publish_fleet(
        &mut self,
        at: DateTime<Utc>,
        coordinators: usize,
        policy: Value,
        budgets: Value,
    ) -> Verified<SignedDocument> {
        let hosts: serde_json::Map<String, Value> = (1..)
            .zip(&self.names)
            .map(|(n, host)| {
                let mut tags = vec![host.as_str().to_owned()];
                if n <= coordinators {
                    tags.push("coordinator".to_owned());
                }
                (host.to_string(), self.host_entry(host, CHANNEL, &tags))
            })
            .collect();
        let document = json!({
            "coordinators": { "selector": { "tags": ["coordinator"] } },
            "hosts": hosts,
            "channels": { CHANNEL: { "rolloutPolicy": "policy", "freshnessWindowMinutes": 1440 } },
            "rolloutPolicies": { "policy": policy },
            "disruptionBudgets": budgets,
        });
        self.sign_fleet(at, document)
    }

    /// The entry of a host in a fleet document.
    pub(crate) fn host_entry(&self, host: &HostId, channel: &str, tags: &[String]) -> Value {
        let key = self.hosts.get(host).map(|key| key.public().to_openssh());
        json!({ "key": key, "channel": channel, "tags": tags })
    }

    /// Signs a fleet document of which the parts that say who and when are filled in here.
    pub(crate) fn sign_fleet(&mut self, at: DateTime<Utc>, mut document: Value) -> Verified<SignedDocument> {
        self.serial += 1;
        self.fleet_serial = self.serial;
        document["kind"] = json!("muster/fleet/1");
        document["operators"] = self.operators();
        document["thresholds"] = json!({ "fleet": 1, "channelRef": 1, "command": 1 });
        let is_recovery = document["recovery"] == json!(true);
        self.document = self.finish(at, document);
        if is_recovery {
            return self.sign_pinned(self.document.clone());
        }
        let signed = self.sign(Namespace::Fleet, self.document.clone());
        self.hands_over = false;
        signed
    }

    /// Signs a channel ref that gives every host the same closure.
    pub fn publish_ref(&mut self, at: DateTime<Utc>, name: &str, closure: &str) -> Verified<SignedDocument> {
        let there = self.names.iter().filter(|host| !self.gone.iter().any(|gone| gone == host.as_str()));
        let targets = there.map(|host| (host.to_string(), json!(closure))).collect();
        self.sign_ref(at, CHANNEL, name, targets, false)
    }

    /// Signs a channel ref over the newest fleet document.
    pub(crate) fn sign_ref(
        &mut self,
        at: DateTime<Utc>,
        channel: &str,
        name: &str,
        targets: serde_json::Map<String, Value>,
        urgent: bool,
    ) -> Verified<SignedDocument> {
        self.serial += 1;
        let document = json!({
            "kind": "muster/channel-ref/1", "channel": channel, "ref": name,
            "fleetSerial": self.fleet_serial, "fleetHash": sha256(&self.document).to_string(),
            "targets": targets, "urgent": urgent,
        });
        let bytes = self.finish(at, document);
        self.sign(Namespace::ChannelRef, bytes)
    }

    /// Signs a command.
    pub fn sign_command(&mut self, at: DateTime<Utc>, mut command: Value) -> Verified<SignedDocument> {
        self.serial += 1;
        command["kind"] = json!("muster/command/1");
        command["reason"] = json!(format!("order {}", self.serial));
        let bytes = self.finish(at, command);
        self.sign(Namespace::Command, bytes)
    }

    /// A newer document of the same kind that only a stranger signed; a ref has every host run something else.
    pub(crate) fn forge(&self, document: &SignedDocument, by_revoked: bool) -> Verified<SignedDocument> {
        let forger = self.revoked.last().filter(|_| by_revoked).unwrap_or(&self.stranger);
        let mut forged: Value = serde_json::from_slice(document.bytes()).unwrap_or_default();
        forged["serial"] = json!(self.serial + 1);
        if let Some(targets) = forged["targets"].as_object_mut() {
            targets.values_mut().for_each(|target| *target = json!("dir:evil"));
            forged["ref"] = json!(format!("evil{}", self.serial));
        }
        let bytes = forged.to_string().into_bytes();
        let signature = sign_document(forger, document.namespace(), &bytes);
        let of_another = document.signatures().to_vec();
        let signatures = [signature].into_iter().chain(of_another).collect();
        verify_document(document.namespace(), bytes, signatures)
    }

    fn finish(&self, at: DateTime<Utc>, mut document: Value) -> Vec<u8> {
        document["fleet"] = json!(self.name);
        document["serial"] = json!(self.serial);
        document["signedAt"] = json!(at.to_rfc3339_opts(SecondsFormat::Millis, true));
        document.to_string().into_bytes()
    }

    /// Signs a fleet document that takes effect whatever came before it: by those whom every host pins, too.
    fn sign_pinned(&self, bytes: Vec<u8>) -> Verified<SignedDocument> {
        let signers = [&self.operator].into_iter().chain(self.revoked.first());
        let signatures = signers.map(|key| sign_document(key, Namespace::Fleet, &bytes)).collect();
        verify_document(Namespace::Fleet, bytes, signatures)
    }

    /// Signs the bytes of a document.
    pub(crate) fn sign(&self, namespace: Namespace, bytes: Vec<u8>) -> Verified<SignedDocument> {
        let before = self.revoked.last().filter(|_| self.hands_over && namespace == Namespace::Fleet);
        let signers = [&self.operator].into_iter().chain(before);
        let signatures = signers.map(|key| sign_document(key, namespace, &bytes)).collect();
        verify_document(namespace, bytes, signatures)
    }
}

fn named(operator: &SigningKey) -> Value {
    json!({ "operator": operator.public().to_openssh() })
}

#[cfg(feature = "planted")]
fn key(seed: [u8; 32], real: bool) -> SigningKey {
    if real { SigningKey::from_seed(seed) } else { SigningKey::stubbed(seed) }
}

#[cfg(not(feature = "planted"))]
fn key(seed: [u8; 32], _real: bool) -> SigningKey {
    SigningKey::from_seed(seed)
}
