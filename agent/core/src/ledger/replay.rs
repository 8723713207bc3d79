//! Replaying what a node learnt: how it starts, and how its store is verified.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Batch, CheckpointHead, FeedError, Ledger, Reference, Table, checkpoint};
use crate::coordination::log::{Entry, Snapshot};
use crate::document::Accepted;
use crate::verify::{self, Roster, VerifyError};
use crate::wire::codec::{self, DecodeError};
use crate::wire::{Envelope, Received};
use muster_signing::Verified;

/// A record of the store that cannot be what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("arrival {position}, {table:?} {}: {fault}", place(*table, key))]
pub struct ReplayError {
    /// The position in `arrivals`.
    pub position: u64,
    /// The table of the record.
    pub table: Table,
    /// The key of the record.
    pub key: Vec<u8>,
    /// What is wrong.
    pub fault: Fault,
}

/// A record's key as people can read it: a feed's by host, incarnation and position, others in hexadecimal.
fn place(table: Table, key: &[u8]) -> String {
    match super::key::read_feed(key).filter(|_| table == Table::Feeds) {
        Some((host, incarnation, seq)) => format!("of {host}, incarnation {incarnation}, position {seq}"),
        None => data_encoding::HEXLOWER.encode(key),
    }
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The record is not there.
    #[error("the record is missing")]
    Missing,
    /// The record cannot be read.
    #[error(transparent)]
    Unreadable(#[from] DecodeError),
    /// A signature does not hold.
    #[error(transparent)]
    Unverified(#[from] VerifyError),
    /// The feed does not continue with it.
    #[error(transparent)]
    OutOfOrder(#[from] FeedError),
    /// The document is not one that this node could have accepted.
    #[error("{0}")]
    Document(String),
    /// The entry cannot be applied.
    #[error("{0}")]
    Entry(String),
    /// No arrival is of that table.
    #[error("arrivals never name that table")]
    WrongTable,
}

/// A record as it was stored.
#[derive(Debug, Clone)]
struct Row {
    /// Its table.
    table: Table,
    /// Its key.
    key: Vec<u8>,
    /// Its value; none if the record is not there.
    value: Option<Vec<u8>>,
}

/// Where stored rows are read from.
pub trait Rows {
    /// One row.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, String>;

    /// Every row of a table, by key.
    fn table(&self, table: Table) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), String>>;

    /// Every row of a table from a key on.
    fn since(&self, table: Table, key: &[u8]) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), String>> {
        self.table(table).filter(move |row| row.as_ref().map_or(true, |(of, _)| of.as_slice() >= key))
    }

    /// Verifies a stored envelope; who did so for the same bytes and key before may remember it.
    fn envelope(&self, roster: &Roster, bytes: &[u8]) -> Result<Verified<Received<Envelope>>, VerifyError> {
        verify::envelope(roster, bytes)
    }
}

/// Why a store's rows do not make a ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RebuildError {
    /// A record is not what was written.
    #[error(transparent)]
    Record(#[from] ReplayError),
    /// `arrivals` itself is not what was written.
    #[error("arrival {position} cannot be read: {error}")]
    Arrival {
        /// The position.
        position: u64,
        /// What is wrong.
        error: DecodeError,
    },
    /// The store could not be read.
    #[error("the store cannot be read: {0}")]
    Store(String),
    /// A checkpoint is not what was written, or not what the arrivals lead to.
    #[error("the checkpoint at arrival {position}: {detail}")]
    Checkpoint {
        /// Its position.
        position: u64,
        /// What is wrong.
        detail: String,
    },
}

/// The rows of the views, as the canonical rows derive them.
pub type Views = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// Learns everything again that a store holds and the ledger has not learnt from it yet, in the order in which it was
/// learnt the first time.
pub fn rebuild(ledger: Ledger, rows: &impl Rows) -> Result<(Ledger, Views), RebuildError> {
    Ok(with_views(replayed(ledger, rows, false, |_, _, _| true)?))
}

/// The same, and every checkpoint on the way is compared with what the arrivals lead to.
pub fn verify(ledger: Ledger, rows: &impl Rows) -> Result<(Ledger, Views), RebuildError> {
    Ok(with_views(replayed(ledger, rows, true, |_, _, _| true)?))
}

fn with_views(mut ledger: Ledger) -> (Ledger, Views) {
    let rows = ledger.take_batch().0.into_iter();
    let views = rows.filter_map(|row| Some(((row.table, row.key), row.value?))).collect();
    (ledger, views)
}

/// Rebuilds as far as `go_on` agrees: it is shown each record before it is learnt, and what is known by then.
pub fn rebuild_while(
    ledger: Ledger,
    rows: &impl Rows,
    go_on: impl FnMut(&mut Ledger, Table, &[u8]) -> bool,
) -> Result<Ledger, RebuildError> {
    replayed(ledger, rows, false, go_on)
}

fn replayed(
    mut ledger: Ledger,
    rows: &impl Rows,
    compares: bool,
    mut go_on: impl FnMut(&mut Ledger, Table, &[u8]) -> bool,
) -> Result<Ledger, RebuildError> {
    let base = checkpoint::base(rows)?;
    if ledger.position() < base {
        ledger = ledger.at_checkpoint(rows, base)?;
    }
    let heads = checkpoint::checkpoints(rows)?;
    let mut heads = heads.iter().filter(|head| head.position >= base).peekable();
    let from = super::key::number(ledger.position());
    for row in rows.since(Table::Arrivals, &from) {
        while let Some(head) = heads.next_if(|head| head.position <= ledger.position()) {
            ledger.pass(head, rows, compares)?;
        }
        let (key, value) = row.map_err(RebuildError::Store)?;
        let position = ledger.position();
        let unreadable = |error| RebuildError::Arrival { position, error };
        if key != super::key::number(position) {
            return Err(unreadable(DecodeError::new("arrival", "a position is missing")));
        }
        let Reference { table, key } = Reference::read(&value).map_err(unreadable)?;
        let value = rows.get(table, &key).map_err(RebuildError::Store)?;
        if !go_on(&mut ledger, table, value.as_deref().unwrap_or_default()) {
            break;
        }
        ledger.relearn(position, Row { table, key, value }, rows)?;
        // What was written then is on the disk; of the views only the last form counts.
        ledger.batch = Batch::default();
    }
    while let Some(head) = heads.next_if(|head| head.position <= ledger.position()) {
        ledger.pass(head, rows, compares)?;
    }
    Ok(ledger)
}

impl Ledger {
    /// Gives up what was given up when a checkpoint was made here; what is known before the earliest one stands in it.
    fn pass(&mut self, head: &CheckpointHead, rows: &impl Rows, compares: bool) -> Result<(), RebuildError> {
        let position = head.position;
        if position >= self.checkpoint && position == self.position() {
            self.retire(head.before);
            self.checkpoint = position;
            self.batch = Batch::default();
        }
        if compares
            && position == self.position()
            && self.state_bytes() != checkpoint::bytes_of(rows, position)?
        {
            let detail = "it is not what the arrivals lead to".to_owned();
            return Err(RebuildError::Checkpoint { position, detail });
        }
        Ok(())
    }

    /// Learns one stored record again; every signature is checked as it was the first time.
    fn relearn(&mut self, position: u64, row: Row, rows: &impl Rows) -> Result<(), ReplayError> {
        let Row { table, key, value } = row;
        let result = match value {
            None => Err(Fault::Missing),
            Some(value) => self.relearn_value(table, &key, &value, rows),
        };
        result.map_err(|fault| ReplayError { position, table, key, fault })
    }

    /// An envelope of the store. This host itself may have gone on under a key that is enrolled no more.
    fn stored_envelope(
        &self,
        bytes: &[u8],
        rows: &impl Rows,
    ) -> Result<Verified<Received<Envelope>>, VerifyError> {
        let error = match rows.envelope(self.roster(), bytes) {
            Ok(envelope) => return Ok(envelope),
            Err(error) => error,
        };
        let mine = self.documents.fleets().rev().filter_map(|fleet| fleet.hosts.get(&self.me));
        let mut opened =
            mine.filter_map(|entry| verify::envelope(&self.roster().with(&self.me, entry.key), bytes).ok());
        opened.find(|envelope| envelope.content.host == self.me).ok_or(error)
    }

    fn relearn_value(
        &mut self,
        table: Table,
        row: &[u8],
        value: &[u8],
        rows: &impl Rows,
    ) -> Result<(), Fault> {
        match table {
            Table::Documents => {
                let document = verify::document(value)?;
                let accepted: Accepted = self
                    .documents
                    .stored(&document)
                    .map_err(|refusal| Fault::Document(refusal.to_string()))?;
                self.document(accepted);
            }
            Table::Feeds => {
                let envelope = self.stored_envelope(value, rows)?;
                self.envelope(&envelope)?;
            }
            Table::Decisions => {
                let certified = verify::certificate(&Arc::clone(self.roster()), value)?;
                self.decision(&certified.certificate, &certified.decision);
            }
            Table::Log => {
                let entry: Entry = codec::decode("log entry", value)?;
                let index = row.try_into().map(u64::from_be_bytes).map_err(|_| Fault::WrongTable)?;
                // A proposal's second appearance is left out, so there may be gaps.
                if index <= self.applied() {
                    return Err(Fault::Entry(format!("entry {index} follows entry {}", self.applied())));
                }
                self.entry(index, &entry).map_err(|error| Fault::Entry(error.to_string()))?;
            }
            Table::Snapshot => {
                let snapshot = Snapshot::decode(value).ok_or(Fault::WrongTable)?;
                self.install(&snapshot).map_err(|error| Fault::Entry(error.to_string()))?;
            }
            Table::Meta
            | Table::FeedHeads
            | Table::HardState
            | Table::Endorsed
            | Table::Proofs
            | Table::Arrivals
            | Table::Outbox
            | Table::Marks
            | Table::HostRecords
            | Table::Rollouts
            | Table::Quarantines
            | Table::ProbeFailures => return Err(Fault::WrongTable),
        }
        Ok(())
    }
}

impl Reference {
    /// Reads an entry of `arrivals`.
    pub fn read(value: &[u8]) -> Result<Self, DecodeError> {
        codec::decode("arrival", value)
    }
}
