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

/// Looks at what was learnt from a position on.
///
/// What the store does not give is an error, so that it is looked at again. What it gives and nobody can read is passed over
/// with a word in the log: `muster store verify` names it, and the agent that starts next refuses it.
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
        let Some(position) = number(&key) else {
            tracing::error!(?key, "an arrival has no number, and hooks pass it over");
            continue;
        };
        found.position = position + 1;
        let unreadable = || tracing::error!(position, "an arrival cannot be read, and hooks pass it over");
        let Ok(reference) = Reference::read(&value) else {
            unreadable();
            continue;
        };
        match reference.table {
            Table::Feeds => {
                match around.row(reference.table, &reference.key)?.as_deref().and_then(envelope) {
                    Some(envelope) => found.occurrences.extend(of_envelope(&envelope, &around)),
                    None => unreadable(),
                }
            }
            Table::Decisions => {
                match around.row(reference.table, &reference.key)?.as_deref().and_then(decision) {
                    Some(decision) => found.occurrences.extend(of_decision(&decision, &around)),
                    None => unreadable(),
                }
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
    fn row(&self, of: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.snapshot.get(storage::table(of), key)
    }
}

/// What a call is told beside what happened; without it the call is made all the same.
fn detail<T>(read: Result<T, StoreError>) -> Option<T> {
    read.inspect_err(|error| tracing::warn!(%error, "a hook is called without what the store does not give"))
        .ok()
}

fn mirrored(row: &[u8]) -> Option<Record> {
    codec::decode::<ViewRow<Mirrored>>("host record", row).ok().map(|view| view.row.record)
}

impl Records for Around {
    fn record(&self, rollout: &RolloutId, host: &HostId) -> Option<Record> {
        mirrored(&detail(self.row(Table::HostRecords, &key::host_record(rollout, host)))??)
    }

    fn failed(&self, rollout: &RolloutId) -> Vec<HostId> {
        let mut prefix = key::rollout(rollout);
        prefix.push(0);
        let rows = self.snapshot.prefix(muster_store::Table::HostRecords, &prefix);
        let records = detail(rows).into_iter().flatten().filter_map(|row| mirrored(&detail(row)?.1));
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
