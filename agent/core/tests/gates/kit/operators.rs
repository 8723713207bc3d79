//! What operators do: they sign documents, and the fleet accepts and adopts them.

use muster_core::document::{Acceptance, Refusal};
use muster_core::id::RolloutId;
use muster_core::wire::{DocumentKind, RolloutEvent};
use muster_signing::{Digest, Namespace, SignedDocument, Verified, sha256};
use serde_json::{Value, json};

use super::{FLEET, Story, rollout, signed, stamp, with};

impl Story {
    pub(crate) fn accept(&mut self, document: &Verified<SignedDocument>) -> Result<Digest, Refusal> {
        match self.ledger.documents().check(document, self.now)? {
            Acceptance::New(accepted) => self.ledger.document(accepted),
            other @ (Acceptance::Duplicate | Acceptance::Waits { .. }) => panic!("{other:?}"),
        }
        Ok(document.digest())
    }

    /// Signs, accepts and adopts a fleet document with the next serial.
    pub(crate) fn publish_fleet(&mut self, fleet: Value) -> Digest {
        let hash = self.accept_fleet(fleet);
        let serial = self.serial;
        self.adopt(DocumentKind::Fleet, serial, hash);
        hash
    }

    pub(crate) fn accept_fleet(&mut self, fleet: Value) -> Digest {
        self.serial += 1;
        self.fleet = with(fleet, &[("/serial", self.serial.into()), ("/signedAt", stamp(self.now).into())]);
        let document = signed(Namespace::Fleet, &self.fleet);
        self.accept(&document).unwrap()
    }

    pub(crate) fn changed_fleet(&mut self, changes: &[(&str, Value)]) -> Digest {
        let fleet = with(self.fleet.clone(), changes);
        self.publish_fleet(fleet)
    }

    /// A ref that gives each host of the channel `dir:<name>`.
    pub(crate) fn ref_document(&mut self, channel: &str, name: &str, changes: &[(&str, Value)]) -> Value {
        self.serial += 1;
        let hosts = self.fleet["hosts"].as_object().unwrap();
        let targets: serde_json::Map<String, Value> = hosts
            .iter()
            .filter(|(_, entry)| entry["channel"] == channel)
            .map(|(host, _)| (host.clone(), json!(format!("dir:{name}"))))
            .collect();
        let document = json!({
            "kind": "muster/channel-ref/1", "fleet": FLEET, "channel": channel, "ref": name,
            "serial": self.serial, "signedAt": stamp(self.now), "fleetSerial": self.fleet["serial"],
            "fleetHash": sha256(self.fleet.to_string().as_bytes()).to_string(), "targets": targets,
        });
        with(document, changes)
    }

    /// Signs and accepts a ref.
    pub(crate) fn publish(&mut self, channel: &str, name: &str, changes: &[(&str, Value)]) -> Digest {
        let document = self.ref_document(channel, name, changes);
        self.accept(&signed(Namespace::ChannelRef, &document)).unwrap()
    }

    /// A ref is signed, accepted, adopted and its rollout opened.
    pub(crate) fn release(&mut self, name: &str) -> RolloutId {
        self.release_on("stable", name, &[])
    }

    pub(crate) fn release_on(&mut self, channel: &str, name: &str, changes: &[(&str, Value)]) -> RolloutId {
        let hash = self.publish(channel, name, changes);
        let serial = self.serial;
        self.adopt(DocumentKind::ChannelRef, serial, hash);
        let id = rollout(&format!("{channel}@{name}"));
        let at = self.now;
        let open =
            self.ledger.rollouts().values().find(|it| it.channel.as_str() == channel && it.state.is_open());
        let mut events = Vec::new();
        events.extend(open.map(|record| RolloutEvent::SuccessorOpened {
            superseded_rollout_id: record.rollout_id.clone(),
            successor_rollout_id: id.clone(),
            at,
        }));
        events.push(RolloutEvent::RolloutOpened {
            rollout_id: id.clone(),
            channel: id.channel(),
            target_ref: id.target_ref(),
            at,
        });
        self.says(events);
        id
    }

    /// A command is signed and accepted; `order` holds the verb and what it applies to.
    pub(crate) fn accept_command(&mut self, order: &Value) -> Digest {
        self.serial += 1;
        let document = json!({
            "kind": "muster/command/1", "fleet": FLEET, "serial": self.serial, "signedAt": stamp(self.now),
            "reason": "because",
        });
        let changes: Vec<(String, Value)> = order
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (format!("/{name}"), value.clone()))
            .collect();
        let changes: Vec<(&str, Value)> =
            changes.iter().map(|(at, value)| (at.as_str(), value.clone())).collect();
        self.accept(&signed(Namespace::Command, &with(document, &changes))).unwrap()
    }

    /// A command is signed, accepted and adopted.
    pub(crate) fn command(&mut self, order: &Value) -> Digest {
        let hash = self.accept_command(order);
        let serial = self.serial;
        self.adopt(DocumentKind::Command, serial, hash);
        hash
    }
}
