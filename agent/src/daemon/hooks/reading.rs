//! What was learnt since a hook last looked, as the store holds it: read away from the loop.

use chrono::{DateTime, Utc};
use muster_core::hook::{Occurrence, Records, of_decision, of_envelope};
use muster_core::host::Record;
use muster_core::id::{HostId, RolloutId};
use muster_core::ledger::{Mirrored, Reference, Table, ViewRow, key};
use muster_core::wire::{Decision, Envelope, HostEvent, HostState, codec};
use muster_signing::{Certificate, Sealed};
use muster_store::{Snapshot, Store, StoreError};

use super::super::answers::words;
use crate::storage;

/// How many things are looked at in one go.
const AT_ONCE: usize = 4096;

/// What was found in one go.
#[derive(Debug)]
pub(super) struct Found {
    /// How much was looked at by now.
    pub(super) position: u64,
    /// What there may be to tell.
    pub(super) occurrences: Vec<Occurrence>,
    /// Whether there may be more.
    pub(super) more: bool,
}

/// How much was learnt.
pub(super) fn position(snapshot: &Snapshot) -> Result<u64, StoreError> {
    let last = snapshot.last(muster_store::Table::Arrivals)?;
    Ok(last.and_then(|(key, _)| number(&key)).map_or(0, |last| last + 1))
}

/// Looks at what was learnt from a position on. What cannot be read is passed over: the agent that starts refuses it.
pub(super) fn since(store: &Store, from: u64, now: DateTime<Utc>) -> Result<Found, StoreError> {
    let around = Around { snapshot: store.read()?, now };
    let mut found = Found { position: from, occurrences: Vec::new(), more: false };
    let first = key::number(from);
    let rows = around.snapshot.range(muster_store::Table::Arrivals, first.as_slice()..)?;
    for (count, row) in rows.enumerate() {
        if count == AT_ONCE {
            found.more = true;
            break;
        }
        let (key, value) = row?;
        let Some(position) = number(&key) else { continue };
        found.position = position + 1;
        let Ok(reference) = Reference::read(&value) else { continue };
        match reference.table {
            Table::Feeds => {
                let envelope = around.row(reference.table, &reference.key).and_then(|row| envelope(&row));
                found.occurrences.extend(envelope.and_then(|envelope| of_envelope(&envelope, &around)));
            }
            Table::Decisions => {
                let decision = around.row(reference.table, &reference.key).and_then(|row| decision(&row));
                found.occurrences.extend(decision.iter().flat_map(|it| of_decision(it, &around)));
            }
            Table::Documents
            | Table::Log
            | Table::Meta
            | Table::FeedHeads
            | Table::HardState
            | Table::Snapshot
            | Table::Endorsed
            | Table::Proofs
            | Table::Arrivals
            | Table::Outbox
            | Table::Marks
            | Table::HostRecords
            | Table::Rollouts
            | Table::Quarantines
            | Table::ProbeFailures => {}
        }
    }
    Ok(found)
}

fn number(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

fn envelope(row: &[u8]) -> Option<Envelope> {
    codec::decode("envelope", Sealed::parse(row).ok()?.payload()).ok()
}

fn decision(row: &[u8]) -> Option<Decision> {
    codec::decode("decision", Certificate::parse(row).ok()?.payload()).ok()
}

/// The views of the same moment.
struct Around {
    snapshot: Snapshot,
    now: DateTime<Utc>,
}

impl Around {
    fn row(&self, of: Table, key: &[u8]) -> Option<Vec<u8>> {
        self.snapshot.get(storage::table(of), key).ok().flatten()
    }
}

fn mirrored(row: &[u8]) -> Option<Record> {
    codec::decode::<ViewRow<Mirrored>>("host record", row).ok().map(|view| view.row.record)
}

impl Records for Around {
    fn record(&self, rollout: &RolloutId, host: &HostId) -> Option<Record> {
        mirrored(&self.row(Table::HostRecords, &key::host_record(rollout, host))?)
    }

    fn failed(&self, rollout: &RolloutId) -> Vec<HostId> {
        let mut prefix = key::rollout(rollout);
        prefix.push(0);
        let rows = self.snapshot.prefix(muster_store::Table::HostRecords, &prefix);
        let records = rows.into_iter().flatten().filter_map(|row| mirrored(&row.ok()?.1));
        let failed = |record: &Record| matches!(record.state, HostState::Failed | HostState::Reverted);
        records.filter(failed).map(|record| record.host).collect()
    }

    fn words(&self, event: &HostEvent) -> String {
        words::event(event)
    }

    fn now(&self) -> DateTime<Utc> {
        self.now
    }
}
