//! The store's own rows (format version, fleet, host), and how changes are written.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;

use redb::{ReadTransaction, WriteTransaction};

use crate::error::{CommitError, StoreError};
use crate::table::{Change, Class, Table};

/// The format that this version writes.
pub const FORMAT: u32 = 1;

/// The oldest format that this version migrates; there is none before the first.
const OLDEST_FORMAT: u32 = 1;

/// Longest key of any table.
pub const KEY_BYTES_MAX: usize = 1 << 10;

/// Longest value of any table; snapshots of the log are the longest.
pub const VALUE_BYTES_MAX: usize = 16 << 20;

const FORMAT_KEY: &[u8] = b"format";
const FLEET_KEY: &[u8] = b"fleet";
const HOST_KEY: &[u8] = b"host";

/// Whose store it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The fleet's name.
    pub fleet: String,
    /// The host's key or name.
    pub host: String,
}

/// Writes the tables and the store's own rows into an empty database.
pub(crate) fn found(path: &Path, txn: &WriteTransaction, identity: &Identity) -> Result<(), StoreError> {
    for table in Table::ALL {
        txn.open_table(table.definition()).map_err(|error| StoreError::redb(path, "create", error))?;
    }
    let rows = [
        Change::put(Table::Meta, FORMAT_KEY, FORMAT.to_be_bytes()),
        Change::put(Table::Meta, FLEET_KEY, identity.fleet.as_bytes()),
        Change::put(Table::Meta, HOST_KEY, identity.host.as_bytes()),
    ];
    apply(path, txn, &rows)
}

/// Checks that the file has a known format, all tables, and, if given, the identity.
pub(crate) fn check(
    path: &Path,
    txn: &ReadTransaction,
    identity: Option<&Identity>,
) -> Result<(), StoreError> {
    let row = |key: &[u8]| own_row(path, txn, key);
    let format = row(FORMAT_KEY)?;
    let found = <[u8; 4]>::try_from(format.as_slice())
        .map(u32::from_be_bytes)
        .map_err(|_| StoreError::corrupt(path, format!("a format version of {} bytes", format.len())))?;
    if found > FORMAT {
        return Err(StoreError::Newer { path: path.to_owned(), found, known: FORMAT });
    }
    if found < OLDEST_FORMAT {
        return Err(StoreError::Older { path: path.to_owned(), found, oldest: OLDEST_FORMAT });
    }
    for table in Table::ALL {
        txn.open_table(table.definition()).map_err(|error| StoreError::redb(path, "read", error))?;
    }
    let text = |key| row(key).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let (fleet, host) = (text(FLEET_KEY)?, text(HOST_KEY)?);
    match identity {
        Some(wanted) if wanted.fleet != fleet => Err(StoreError::OtherFleet {
            path: path.to_owned(),
            found: fleet,
            expected: wanted.fleet.clone(),
        }),
        Some(wanted) if wanted.host != host => {
            Err(StoreError::OtherHost { path: path.to_owned(), found: host, expected: wanted.host.clone() })
        }
        Some(_) | None => Ok(()),
    }
}

/// Refuses a row that no table takes, or that is the store's own.
pub(crate) fn admit(change: &Change) -> Result<(), CommitError> {
    let value = change.value.as_ref().map_or(0, Vec::len);
    for (part, bytes, max) in [("key", change.key.len(), KEY_BYTES_MAX), ("value", value, VALUE_BYTES_MAX)] {
        if bytes > max {
            return Err(CommitError::TooLarge { table: change.table, part, bytes, max });
        }
    }
    if change.table == Table::Meta && [FORMAT_KEY, FLEET_KEY, HOST_KEY].contains(&change.key.as_slice()) {
        return Err(CommitError::Reserved { name: String::from_utf8_lossy(&change.key).into_owned() });
    }
    Ok(())
}

/// Writes the changes in order; each table is opened once.
pub(crate) fn apply<'c>(
    path: &Path,
    txn: &WriteTransaction,
    changes: impl IntoIterator<Item = &'c Change>,
) -> Result<(), StoreError> {
    let mut tables = BTreeMap::new();
    for change in changes {
        let table = match tables.entry(change.table) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(place) => place.insert(
                txn.open_table(change.table.definition())
                    .map_err(|error| StoreError::redb(path, "write", error))?,
            ),
        };
        let key = change.key.as_slice();
        let written = match &change.value {
            Some(value) => table.insert(key, value.as_slice()).map(|_| ()),
            None => table.remove(key).map(|_| ()),
        };
        written.map_err(|error| StoreError::redb(path, "write", error))?;
    }
    Ok(())
}

/// Empties every derived table and writes the rows into them.
pub(crate) fn replace_derived(
    path: &Path,
    txn: &WriteTransaction,
    rows: impl IntoIterator<Item = Change>,
) -> Result<(), StoreError> {
    let mut tables = BTreeMap::new();
    for table in Table::ALL.into_iter().filter(|table| table.class() == Class::Derived) {
        txn.delete_table(table.definition()).map_err(|error| StoreError::redb(path, "rebuild", error))?;
        let open =
            txn.open_table(table.definition()).map_err(|error| StoreError::redb(path, "rebuild", error))?;
        tables.insert(table, open);
    }
    for row in rows {
        admit(&row)?;
        let table = tables.get_mut(&row.table).ok_or(StoreError::NotDerived { table: row.table })?;
        let key = row.key.as_slice();
        let written = match &row.value {
            Some(value) => table.insert(key, value.as_slice()).map(|_| ()),
            None => table.remove(key).map(|_| ()),
        };
        written.map_err(|error| StoreError::redb(path, "rebuild", error))?;
    }
    Ok(())
}

fn own_row(path: &Path, txn: &ReadTransaction, key: &[u8]) -> Result<Vec<u8>, StoreError> {
    let table =
        txn.open_table(Table::Meta.definition()).map_err(|error| StoreError::redb(path, "read", error))?;
    let value = table.get(key).map_err(|error| StoreError::redb(path, "read", error))?;
    value.map(|value| value.value().to_vec()).ok_or_else(|| {
        StoreError::corrupt(path, format!("no row {:?} in meta", String::from_utf8_lossy(key)))
    })
}
