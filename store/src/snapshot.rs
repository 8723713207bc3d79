//! A consistent view of the tables at one moment.

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};

use redb::{Range, ReadOnlyTable, ReadTransaction, ReadableTableMetadata, TableStats};

use crate::error::StoreError;
use crate::guard::guard;
use crate::table::Table;

/// A row: key and value.
pub type Row = (Vec<u8>, Vec<u8>);

/// The tables as they were after one of the commits; what is written later is not seen.
///
/// A snapshot keeps the pages it sees from being reused, so it should not be held for long. Reads fail with
/// [`StoreError::Closed`] once the store is closed, or has reopened its file after a failure.
pub struct Snapshot {
    path: PathBuf,
    txn: ReadTransaction,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Snapshot").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Snapshot {
    pub(crate) fn new(path: &Path, txn: ReadTransaction) -> Self {
        Self { path: path.to_owned(), txn }
    }

    /// The value of a key.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        guard(&self.path, || {
            let value = self.open(table)?.get(key).map_err(|error| self.unreadable(error))?;
            Ok(value.map(|value| value.value().to_vec()))
        })
    }

    /// The rows whose keys are within the bounds, in the order of the keys; [`Iterator::rev`] turns it around.
    pub fn range<'a>(&self, table: Table, bounds: impl RangeBounds<&'a [u8]>) -> Result<Rows, StoreError> {
        let (from, to) = (bounds.start_bound().cloned(), bounds.end_bound().cloned());
        let rows = |range| Rows { path: self.path.clone(), range, front: None, back: None };
        if is_empty(from, to) {
            return Ok(rows(None));
        }
        guard(&self.path, || {
            let range =
                self.open(table)?.range::<&[u8]>((from, to)).map_err(|error| self.unreadable(error))?;
            Ok(rows(Some(range)))
        })
    }

    /// The rows whose keys begin with `prefix`.
    pub fn prefix(&self, table: Table, prefix: &[u8]) -> Result<Rows, StoreError> {
        let end = after(prefix);
        let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.range(table, (Bound::Included(prefix), to))
    }

    /// The row with the least key.
    pub fn first(&self, table: Table) -> Result<Option<Row>, StoreError> {
        self.range(table, ..)?.next().transpose()
    }

    /// The row with the greatest key.
    pub fn last(&self, table: Table) -> Result<Option<Row>, StoreError> {
        self.range(table, ..)?.next_back().transpose()
    }

    /// The number of rows.
    pub fn len(&self, table: Table) -> Result<u64, StoreError> {
        guard(&self.path, || self.open(table)?.len().map_err(|error| self.unreadable(error)))
    }

    /// Whether the table has no rows.
    pub fn is_empty(&self, table: Table) -> Result<bool, StoreError> {
        Ok(self.len(table)? == 0)
    }

    pub(crate) fn stats(&self, table: Table) -> Result<TableStats, StoreError> {
        guard(&self.path, || self.open(table)?.stats().map_err(|error| self.unreadable(error)))
    }

    fn open(&self, table: Table) -> Result<ReadOnlyTable<&'static [u8], &'static [u8]>, StoreError> {
        self.txn.open_table(table.definition()).map_err(|error| self.unreadable(error))
    }

    fn unreadable(&self, error: impl Into<redb::Error>) -> StoreError {
        StoreError::redb(&self.path, "read", error)
    }
}

/// Rows of a snapshot, from either end; it ends after the first error.
pub struct Rows {
    path: PathBuf,
    range: Option<Range<'static, &'static [u8], &'static [u8]>>,
    front: Option<Vec<u8>>,
    back: Option<Vec<u8>>,
}

impl fmt::Debug for Rows {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Rows").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Rows {
    fn step(&mut self, forward: bool) -> Option<Result<Row, StoreError>> {
        let mut range = self.range.take()?;
        let row = guard(&self.path, || {
            let entry = if forward { range.next() } else { range.next_back() };
            let Some(entry) = entry else { return Ok(None) };
            let (key, value) = entry.map_err(|error| StoreError::redb(&self.path, "read", error))?;
            let row = (key.value().to_vec(), value.value().to_vec());
            self.check_order(forward, &row.0)?;
            Ok(Some((range, row)))
        });
        match row {
            Ok(Some((range, row))) => {
                self.range = Some(range);
                let seen = if forward { &mut self.front } else { &mut self.back };
                *seen = Some(row.0.clone());
                Some(Ok(row))
            }
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Pages that point in a circle would never end; keys in order do.
    fn check_order(&self, forward: bool, key: &[u8]) -> Result<(), StoreError> {
        let in_order = if forward {
            self.front.as_deref().is_none_or(|seen| seen < key)
        } else {
            self.back.as_deref().is_none_or(|seen| key < seen)
        };
        if in_order { Ok(()) } else { Err(StoreError::corrupt(&self.path, "keys out of order")) }
    }
}

impl Iterator for Rows {
    type Item = Result<Row, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(true)
    }
}

impl DoubleEndedIterator for Rows {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(false)
    }
}

fn is_empty(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => {
            from >= to
        }
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    }
}

/// The least key above all that begin with `prefix`; `None` if there is no such key.
fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let keep = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix.get(..=keep)?.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    Some(end)
}
