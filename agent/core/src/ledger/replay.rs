//! Replaying what a node learnt: how it starts, and how its store is verified.

use std::sync::Arc;

use muster_signing::Digest;

use super::{FeedError, Ledger, Reference, Table};
use crate::coordination::log::Entry;
use crate::document::Accepted;
use crate::verify::{self, VerifyError};
use crate::wire::codec::{self, DecodeError};

/// A record of the store that cannot be what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("arrival {position}, {table:?} {}: {fault}", data_encoding::HEXLOWER.encode(key))]
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
pub struct Row {
    /// Its table.
    pub table: Table,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value; none if the record is not there.
    pub value: Option<Vec<u8>>,
}

impl Ledger {
    /// Learns one stored record again; every signature is checked as it was the first time.
    ///
    /// The batch afterwards holds the very rows that were written then.
    pub fn relearn(&mut self, position: u64, row: Row, epoch: &Digest) -> Result<(), ReplayError> {
        let Row { table, key, value } = row;
        let result = match value {
            None => Err(Fault::Missing),
            Some(value) => self.relearn_value(table, &key, &value, epoch),
        };
        result.map_err(|fault| ReplayError { position, table, key, fault })
    }

    fn relearn_value(&mut self, table: Table, row: &[u8], value: &[u8], epoch: &Digest) -> Result<(), Fault> {
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
                let envelope = verify::envelope(&Arc::clone(self.roster()), value)?;
                self.envelope(&envelope)?;
            }
            Table::Decisions => {
                let certified = verify::certificate(&Arc::clone(self.roster()), value)?;
                self.decision(&certified.certificate, &certified.decision);
            }
            Table::Log => {
                let entry: Entry = codec::decode("log entry", value)?;
                let index = row.try_into().map(u64::from_be_bytes).map_err(|_| Fault::WrongTable)?;
                if index != self.applied() + 1 {
                    return Err(Fault::Entry(format!("entry {index} follows entry {}", self.applied())));
                }
                self.entry(index, &entry, epoch).map_err(|error| Fault::Entry(error.to_string()))?;
            }
            Table::Meta
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
