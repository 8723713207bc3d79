//! A message on its way: its bytes, and what they were found to be.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use muster_core::ledger::{Rows, Table};
use muster_core::node::{CoordinatorMessage, Input, MessageRef, Origin, Topic};
use muster_core::verify::{self, Roster, VerifyError};
use muster_core::wire::{Envelope, Received};
use muster_signing::{PublicKey, Verified};

use crate::disk::Disk;

/// Parcels that are kept on the shelf at a time.
const SHELF_MAX: usize = 16_384;
/// Where from its end the first half of what was signed last ends: bytes that differ as well as any hash of it.
const SIGNATURE_HALF: usize = 32;

/// The parcels that were sent or pulled last, so that what many hosts come to hold is read for one of them only.
#[derive(Debug, Default)]
pub(crate) struct Shelf(RefCell<BTreeMap<u64, Rc<Parcel>>>);

impl Shelf {
    /// The parcel of these bytes.
    pub(crate) fn parcel(&self, topic: Topic, bytes: &[u8]) -> Rc<Parcel> {
        let place = place(bytes);
        if let Some(parcel) = self.0.borrow().get(&place)
            && (parcel.topic, parcel.bytes.as_slice()) == (topic, bytes)
        {
            return Rc::clone(parcel);
        }
        let parcel = Rc::new(Parcel::new(topic, bytes.to_vec()));
        self.keep(&parcel);
        parcel
    }

    /// Keeps a parcel that others will ask for.
    pub(crate) fn keep(&self, parcel: &Rc<Parcel>) {
        let mut kept = self.0.borrow_mut();
        if kept.len() >= SHELF_MAX {
            kept.clear();
        }
        kept.insert(place(&parcel.bytes), Rc::clone(parcel));
    }
}

fn place(bytes: &[u8]) -> u64 {
    let before = bytes.split_at_checked(bytes.len().saturating_sub(SIGNATURE_HALF));
    before.and_then(|(before, _)| before.last_chunk()).map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

/// A disk whose envelopes were read before, most of them.
#[derive(Debug)]
pub(crate) struct Shelved<'a> {
    pub(crate) disk: &'a Disk,
    pub(crate) shelf: &'a Shelf,
}

impl Rows for Shelved<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        self.disk.get(table, key)
    }

    fn table(&self, table: Table) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), String>> {
        self.disk.table(table)
    }

    fn since(&self, table: Table, key: &[u8]) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), String>> {
        self.disk.since(table, key)
    }

    fn envelope(&self, roster: &Roster, bytes: &[u8]) -> Result<Verified<Received<Envelope>>, VerifyError> {
        match self.shelf.parcel(Topic::Events, bytes).read(roster, None) {
            Some(Input::Envelope { envelope, .. }) => Ok(envelope),
            _ => verify::envelope(roster, bytes),
        }
    }
}

/// A gossiped or synced message; who reads it first verifies it for all others to whom it proves the same.
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
            && proves_the_same(roster, *serial, input)
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

/// Whether what was verified with the roster of that serial verifies with this one as well.
#[expect(clippy::wildcard_enum_match_arm, reason = "a parcel holds nothing else")]
fn proves_the_same(roster: &Roster, serial: u64, input: &Input) -> bool {
    match input {
        Input::Document { .. } => true,
        Input::Envelope { envelope, .. } => roster.key_of(&envelope.content.host) == Some(&envelope.signer),
        Input::Notice { notice, .. } => roster.key_of(&notice.content.host) == Some(&notice.signer),
        Input::Decision { certified, .. } => {
            serial == roster.serial() && roster.electorate(certified.decision.fleet_serial).is_some()
        }
        _ => false,
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
