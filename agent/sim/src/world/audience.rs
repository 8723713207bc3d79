//! Who is told what in a large fleet: what no host acts on need not be told to it, and then costs nothing.
//!
//! Plain hosts act on documents and on decisions that are about them or about a whole rollout; of each other they act on
//! nothing. So a world with an audience tells everything to that audience, the coordinators, and to the others only what
//! concerns them. What each host does is the same, and a fleet of a thousand takes a thousandth of the messages.

use std::rc::Rc;
use std::time::Duration;

use muster_core::node::{Input, MessageRef, Topic};
use muster_core::wire::DecisionBody;
use muster_signing::{SignedDocument, Verified};

use super::post::WAY;
use super::{Event, World};
use crate::parcel::Parcel;

/// Whom a message is for, beside those who are told everything.
#[derive(Debug, Clone, Copy)]
pub(super) enum Whom {
    Everybody,
    One(usize),
    Nobody,
}

impl World {
    /// Whether a host is told everything.
    pub(super) fn hears_all(&self, host: usize) -> bool {
        self.audience.as_ref().is_none_or(|audience| audience[host])
    }

    /// Whom a message of a host concerns.
    pub(super) fn whom(&self, host: usize, parcel: &Parcel) -> Whom {
        if self.audience.is_none() {
            return Whom::Everybody;
        }
        match parcel.topic {
            Topic::Documents => Whom::Everybody,
            Topic::Events | Topic::Presence => Whom::Nobody,
            Topic::Decisions => self.whom_decided(host, parcel),
        }
    }

    fn whom_decided(&self, host: usize, parcel: &Parcel) -> Whom {
        let Some(node) = &self.hosts[host].node else { return Whom::Everybody };
        let Some(Input::Decision { certified, .. }) = parcel.read(node.ledger().roster(), None) else {
            return Whom::Everybody;
        };
        match &certified.decision.body {
            DecisionBody::Dispatch { host, .. } => {
                self.number(host.as_str()).map_or(Whom::Everybody, Whom::One)
            }
            DecisionBody::Quarantine { .. }
            | DecisionBody::RolloutTransition { .. }
            | DecisionBody::Withdrawn { .. }
            | DecisionBody::LogSnapshot { .. } => Whom::Everybody,
        }
    }

    pub(super) fn concerns(&self, to: usize, whom: Whom) -> bool {
        self.hears_all(to)
            || match whom {
                Whom::Everybody => true,
                Whom::One(host) => host == to,
                Whom::Nobody => false,
            }
    }

    /// By how much a message's way is longer than the shortest, in microseconds. With an audience nothing overtakes anything:
    /// there is no regular sync that would make up for it.
    pub(super) fn detour(&mut self) -> u64 {
        if self.audience.is_some() { 0 } else { self.random.below(WAY.1 - WAY.0) }
    }

    /// Lets a document reach every host that is up, as gossip does with small ones and sync with large ones.
    pub(crate) fn spread(&mut self, document: &Verified<SignedDocument>) {
        // A document that breaks the rules is refused by the hosts as well.
        let _ = self.truth.signed(document, self.now);
        let parcel = Rc::new(Parcel::new(Topic::Documents, document.to_wire()));
        for host in 0..self.hosts.len() {
            if self.hosts[host].is_up() {
                let parcel = Rc::clone(&parcel);
                self.push(
                    Duration::from_millis(1),
                    host,
                    Event::Message { parcel, message: Some(MessageRef(0)) },
                );
            }
        }
    }
}
