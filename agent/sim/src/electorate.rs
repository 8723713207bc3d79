//! Fleet documents that name other coordinators than those with whom the log began.

use chrono::{DateTime, Utc};
use muster_core::id::HostId;
use muster_signing::{SignedDocument, Verified};
use serde_json::{Value, json};

use crate::fleet::{CHANNEL, Fleet};

impl Fleet {
    /// Signs a recovery document, in the place of the newest fleet document: these coordinate, and those are gone.
    pub fn publish_recovery(
        &mut self,
        at: DateTime<Utc>,
        coordinators: &[&str],
        lost: &[&str],
        policy: Value,
        budgets: Value,
    ) -> Verified<SignedDocument> {
        let left = self.names().iter().filter(|host| !lost.contains(&host.as_str()));
        let hosts: serde_json::Map<String, Value> = left
            .map(|host| (host.to_string(), self.host_entry(host, CHANNEL, &[host.as_str().to_owned()])))
            .collect();
        let document = json!({
            "recovery": true, "replaces": self.fleet_serial(),
            "coordinators": { "selector": { "hosts": coordinators } },
            "hosts": hosts,
            "channels": { CHANNEL: { "rolloutPolicy": "policy", "freshnessWindowMinutes": 1440 } },
            "rolloutPolicies": { "policy": policy },
            "disruptionBudgets": budgets,
        });
        self.leave_out(lost);
        self.sign_fleet(at, document)
    }

    /// Signs what a seed has drawn as a recovery document: the operators of now, and those whom every host pins.
    pub(crate) fn sign_recovery(
        &mut self,
        at: DateTime<Utc>,
        mut document: Value,
    ) -> Verified<SignedDocument> {
        (document["recovery"], document["replaces"]) = (json!(true), json!(self.fleet_serial()));
        self.sign_fleet(at, document)
    }

    /// Signs a fleet document whose coordinators are these, in a fleet whose log began with those founders.
    pub fn publish_electorate(
        &mut self,
        at: DateTime<Utc>,
        coordinators: &[&str],
        founders: &[&str],
        policy: Value,
    ) -> Verified<SignedDocument> {
        let names: Vec<HostId> = self.names().to_vec();
        let hosts: serde_json::Map<String, Value> = names
            .iter()
            .map(|host| (host.to_string(), self.host_entry(host, CHANNEL, &[host.as_str().to_owned()])))
            .collect();
        let keys: Vec<Value> = founders.iter().map(|founder| hosts[*founder]["key"].clone()).collect();
        let document = json!({
            "coordinators": { "selector": { "hosts": coordinators }, "founders": keys },
            "hosts": hosts,
            "channels": { CHANNEL: { "rolloutPolicy": "policy", "freshnessWindowMinutes": 1440 } },
            "rolloutPolicies": { "policy": policy },
        });
        self.sign_fleet(at, document)
    }
}
