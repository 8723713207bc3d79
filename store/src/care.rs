//! What the command line and retention do with a store: measuring, compacting, rebuilding.

use redb::CompactionError;

use crate::error::StoreError;
use crate::format;
use crate::store::Store;
use crate::table::{Change, Table};

/// Share of the file that must be unused for compaction to be worth its writes.
const FRAGMENTATION_MAX: f64 = 0.5;

/// Size under which a file is never worth compacting: the engine does not make it smaller.
const COMPACT_BYTES_MIN: u64 = 4 << 20;

/// Rows and bytes of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableStats {
    /// The table.
    pub table: Table,
    /// Its rows.
    pub rows: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// Bytes of pages that hold them, with what is unused inside.
    pub page_bytes: u64,
}

/// Rows and bytes of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// One entry per table, in the order of [`Table::ALL`].
    pub tables: Vec<TableStats>,
    /// Length of the file.
    pub file_bytes: u64,
    /// Transactions committed since the store was opened; many batches may share one.
    pub transactions: u64,
}

impl Stats {
    /// The share of the file, from 0 to 1, that holds no keys and values.
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more than a few digits")]
    pub fn fragmentation(&self) -> f64 {
        let used: u64 = self.tables.iter().map(|table| table.bytes).sum();
        if self.file_bytes == 0 {
            0.0
        } else {
            1.0 - used.min(self.file_bytes) as f64 / self.file_bytes as f64
        }
    }

    /// Whether more than half of a file of some size is unused.
    pub fn worth_compacting(&self) -> bool {
        self.file_bytes >= COMPACT_BYTES_MIN && self.fragmentation() > FRAGMENTATION_MAX
    }
}

impl Store {
    /// Measures every table; reads all their pages.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        let snapshot = self.read()?;
        let tables = Table::ALL
            .into_iter()
            .map(|table| {
                let found = snapshot.stats(table)?;
                let page_bytes = found.stored_bytes() + found.metadata_bytes() + found.fragmented_bytes();
                Ok(TableStats { table, rows: snapshot.len(table)?, bytes: found.stored_bytes(), page_bytes })
            })
            .collect::<Result<_, StoreError>>()?;
        Ok(Stats { tables, file_bytes: self.file_bytes()?, transactions: self.engine.transactions() })
    }

    /// Gives unused pages back to the file system; the number of bytes. Readers and writers wait for it meanwhile.
    ///
    /// # Errors
    ///
    /// [`StoreError::SnapshotsOpen`] while there are snapshots; others if the file cannot be written.
    pub fn compact(&self) -> Result<u64, StoreError> {
        let path = self.engine.path();
        let mut turn = self.engine.turn();
        let before = self.file_bytes()?;
        let compacted = self.engine.exclusively(|database| {
            database.compact().map_err(|error| {
                if matches!(error, CompactionError::TransactionInProgress) {
                    return StoreError::SnapshotsOpen { path: path.to_owned() };
                }
                StoreError::redb(path, "compact", error)
            })
        });
        compacted.map_err(|fault| self.engine.settle(&mut turn, fault))?;
        Ok(before.saturating_sub(self.file_bytes()?))
    }

    /// Replaces the rows of all derived tables, in one transaction, after all batches submitted before.
    ///
    /// # Errors
    ///
    /// A row is of another table, or the file cannot be written; the old rows are still there unless the error
    /// is [`StoreError::Commit`] with [`CommitError::Failed`](crate::CommitError::Failed).
    pub fn replace_derived(&self, rows: impl IntoIterator<Item = Change>) -> Result<(), StoreError> {
        self.settle()?;
        let path = self.engine.path();
        let mut turn = self.engine.turn();
        let replaced = self.engine.transaction(|txn| format::replace_derived(path, txn, rows));
        replaced.map_err(|fault| self.engine.settle(&mut turn, fault))
    }
}
