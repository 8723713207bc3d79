//! A message on its way: its bytes, and what they were found to be.

use std::cell::RefCell;

use muster_core::node::{CoordinatorMessage, Input, MessageRef, Origin, Topic};
use muster_core::verify::{self, Roster};
use muster_signing::PublicKey;

/// A gossiped or synced message; who reads it first verifies it for all others with the same roster.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) topic: Topic,
    pub(crate) bytes: Vec<u8>,
    read: RefCell<Option<(u64, Input)>>,
}

impl Parcel {
    pub(crate) fn new(topic: Topic, bytes: Vec<u8>) -> Self {
        Self { topic, bytes, read: RefCell::new(None) }
    }

    /// What a host with this roster makes of it; none: nothing that it lets in.
    pub(crate) fn read(&self, roster: &Roster, message: Option<MessageRef>) -> Option<Input> {
        if let Some((serial, input)) = &*self.read.borrow()
            && *serial == roster.serial()
            && knows_electorate(roster, input)
        {
            return Some(with_message(input.clone(), message));
        }
        let input = match self.topic {
            Topic::Documents => verify::document(&self.bytes)
                .ok()
                .map(|document| Input::Document { document, origin: Origin::Sync }),
            Topic::Decisions => verify::certificate(roster, &self.bytes)
                .ok()
                .map(|certified| Input::Decision { certified, message: None }),
            Topic::Events => verify::envelope(roster, &self.bytes)
                .ok()
                .map(|envelope| Input::Envelope { envelope, message: None }),
            Topic::Presence => {
                verify::notice(roster, &self.bytes).ok().map(|notice| Input::Notice { notice, message: None })
            }
        }?;
        *self.read.borrow_mut() = Some((roster.serial(), input.clone()));
        Some(with_message(input, message))
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only decisions name an electorate")]
fn knows_electorate(roster: &Roster, input: &Input) -> bool {
    match input {
        Input::Decision { certified, .. } => roster.electorate(certified.decision.fleet_serial).is_some(),
        _ => true,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only gossip carries a message")]
fn with_message(mut input: Input, by: Option<MessageRef>) -> Input {
    match &mut input {
        Input::Document { origin, .. } => {
            if let Some(by) = by {
                *origin = Origin::Gossip(by);
            }
        }
        Input::Decision { message, .. } | Input::Envelope { message, .. } | Input::Notice { message, .. } => {
            *message = by;
        }
        _ => {}
    }
    input
}

/// What a host makes of a coordinator's direct message; none: nothing that it lets in.
pub(crate) fn read_direct(roster: &Roster, from: PublicKey, message: &CoordinatorMessage) -> Option<Input> {
    match message {
        CoordinatorMessage::Log(bytes) => verify::consensus(roster, &from, bytes)
            .ok()
            .map(|message| Input::Consensus { from, message: Box::new(message) }),
        CoordinatorMessage::Endorsement(message) => {
            verify::endorsement(roster, &from, message).ok().map(Input::Endorsement)
        }
        CoordinatorMessage::Objection(bytes) => {
            verify::notice(roster, bytes).ok().map(|notice| Input::Notice { notice, message: None })
        }
    }
}
