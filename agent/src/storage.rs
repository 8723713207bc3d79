//! The store as the core sees it: the same tables and rows, and what `muster store` does with it.

pub(crate) mod import;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufRead as _;
use std::path::{Path, PathBuf};

use muster_core::document::{Documents, Trust};
use muster_core::id::{FleetName, HostId};
use muster_core::ledger::{self, Batch, Ledger, RebuildError, Rows, Table, Views};
use muster_core::wire::codec;
use muster_store::{Change, Snapshot, Store, StoreError};

use crate::control::wire::{SCHEMA, StoreVerified};

pub use import::{Imported, import};

/// The store's file in the state directory.
pub const STORE_FILE: &str = "muster.redb";
/// The row of `meta` that keeps what the agent pinned, so that its store can be verified without its configuration.
const PINS: &[u8] = b"pins";
/// The largest export that is read, in bytes.
const EXPORT_BYTES_MAX: u64 = 4 << 30;

/// Why a store cannot be looked at, or is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The store itself.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record is not what was written.
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    /// The store lacks what says whose it is.
    #[error("{path}: the store does not say whose it is: {detail}")]
    NoOwner {
        /// The store.
        path: PathBuf,
        /// What is missing.
        detail: String,
    },
    /// The file is neither a store nor an export of one.
    #[error("{path}: not an export of a store: {detail}")]
    NotAnExport {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A view is not what the log derives.
    #[error("{table} {key}: the view is not what the log derives; `muster store rebuild` mends it")]
    View {
        /// The view's table.
        table: &'static str,
        /// The row's key.
        key: String,
    },
}

/// The store's table of a core's.
pub fn table(table: Table) -> muster_store::Table {
    match table {
        Table::Meta => muster_store::Table::Meta,
        Table::Documents => muster_store::Table::Documents,
        Table::Feeds => muster_store::Table::Feeds,
        Table::FeedHeads => muster_store::Table::FeedHeads,
        Table::Log => muster_store::Table::Log,
        Table::HardState => muster_store::Table::HardState,
        Table::Snapshot => muster_store::Table::Snapshot,
        Table::Decisions => muster_store::Table::Decisions,
        Table::Endorsed => muster_store::Table::Endorsed,
        Table::Proofs => muster_store::Table::Proofs,
        Table::Arrivals => muster_store::Table::Arrivals,
        Table::Outbox => muster_store::Table::Outbox,
        Table::Marks => muster_store::Table::Marks,
        Table::HostRecords => muster_store::Table::HostRecords,
        Table::Rollouts => muster_store::Table::Rollouts,
        Table::Quarantines => muster_store::Table::Quarantines,
        Table::ProbeFailures => muster_store::Table::ProbeFailures,
    }
}

/// The store's changes of a core's batch.
pub fn changes(batch: Batch) -> Vec<Change> {
    let changes = batch.0.into_iter();
    changes
        .map(|change| Change { table: table(change.table), key: change.key, value: change.value })
        .collect()
}

/// A snapshot as the core reads it.
#[derive(Debug)]
pub struct SnapshotRows<'a>(pub &'a Snapshot);

impl Rows for SnapshotRows<'_> {
    fn get(&self, of: Table, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        self.0.get(table(of), key).map_err(|error| error.to_string())
    }

    fn table(&self, of: Table) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), String>> {
        let rows = self.0.range(table(of), ..).map_err(|error| error.to_string());
        let (rows, error) = match rows {
            Ok(rows) => (Some(rows), None),
            Err(error) => (None, Some(Err(error))),
        };
        rows.into_iter().flatten().map(|row| row.map_err(|error| error.to_string())).chain(error)
    }
}

/// Whether the store keeps these pins already.
pub fn has_pins(snapshot: &Snapshot, pins: &[Trust]) -> Result<bool, StoreError> {
    let row = pins_row(pins);
    Ok(snapshot.get(row.table, &row.key)? == row.value)
}

/// The row that keeps what the agent pinned.
pub fn pins_row(pins: &[Trust]) -> Change {
    let texts: Vec<String> = pins.iter().map(Trust::to_json).collect();
    Change::put(muster_store::Table::Meta, PINS, codec::encode(&texts))
}

/// What a verified store holds.
#[derive(Debug)]
pub struct Verified {
    /// Things that the node learnt, every signature checked.
    pub arrivals: u64,
    /// Rows of views, each equal to what the log derives.
    pub views: usize,
}

/// Rebuilds every view of a stopped agent's store from its log and compares.
pub fn verify(path: &Path) -> Result<Verified, StorageError> {
    match Store::open_offline(path) {
        Ok(store) => verify_snapshot(path, &store.read()?),
        Err(damage @ StoreError::Corrupt { .. }) => Err(find_damage(path).unwrap_or(damage.into())),
        Err(error) => Err(error.into()),
    }
}

/// The record that a damaged file no longer holds as it was written, if it can be told.
fn find_damage(path: &Path) -> Option<StorageError> {
    // The snapshot lives no longer than its store.
    let store = Store::open_damaged(path).ok()?;
    match verify_snapshot(path, &store.read().ok()?) {
        Err(found @ (StorageError::Rebuild(_) | StorageError::View { .. })) => Some(found),
        Ok(_)
        | Err(StorageError::Store(_) | StorageError::NoOwner { .. } | StorageError::NotAnExport { .. }) => {
            None
        }
    }
}

/// The same for a store as it was at one moment, also beside an agent that goes on writing; `path` names it in errors.
pub fn verify_snapshot(path: &Path, snapshot: &Snapshot) -> Result<Verified, StorageError> {
    let rows = SnapshotRows(snapshot);
    let (ledger, views) = ledger::verify(beginning(path, &rows)?, &rows)?;
    compare(snapshot, &views)?;
    Ok(Verified { arrivals: ledger.position(), views: views.len() })
}

/// Replaces every view of a stopped agent's store by what its log derives; how many rows there are now.
pub fn rebuild(path: &Path) -> Result<usize, StorageError> {
    let store = Store::open_offline(path)?;
    let (_, views) = replay(path, &store.read()?)?;
    let count = views.len();
    store.replace_derived(views.into_iter().map(|((of, key), value)| Change::put(table(of), key, value)))?;
    store.close()?;
    Ok(count)
}

/// What an export holds: all that was signed, in which order it was learnt by whom, and what that order goes on from.
pub(crate) const EXPORTED: [Table; 7] = [
    Table::Meta,
    Table::Documents,
    Table::Decisions,
    Table::Feeds,
    Table::Log,
    Table::Arrivals,
    Table::Snapshot,
];

/// Writes what was learnt from a stopped agent's store: one CBOR item `[table, key, value]` each.
pub fn export(path: &Path, out: &mut impl std::io::Write) -> Result<u64, StorageError> {
    let store = Store::open_offline(path)?;
    let snapshot = store.read()?;
    let mut count = 0;
    for of in EXPORTED {
        for row in snapshot.range(table(of), ..)? {
            let (key, value) = row?;
            let record = (of, ByteString(key), ByteString(value));
            out.write_all(&codec::encode(&record)).map_err(|source| StoreError::Io {
                path: path.into(),
                doing: "export",
                source,
            })?;
            count += 1;
        }
    }
    Ok(count)
}

/// Gives the pages of a stopped agent's store that nothing uses back to the file system; how many bytes.
pub fn compact(path: &Path) -> Result<u64, StorageError> {
    let store = Store::open_offline(path)?;
    let bytes = store.compact()?;
    store.close()?;
    Ok(bytes)
}

/// How large the tables of a stopped agent's store are.
pub fn stats(path: &Path) -> Result<muster_store::Stats, StorageError> {
    Ok(Store::open_offline(path)?.stats()?)
}

#[derive(serde::Serialize)]
struct ByteString(#[serde(serialize_with = "as_bytes")] Vec<u8>);

fn as_bytes<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// An export, read back whole.
#[derive(Debug)]
pub struct Export(BTreeMap<(Table, Vec<u8>), Vec<u8>>);

impl Export {
    /// Reads what [`export`] wrote. Nothing of it is believed before it was learnt again.
    pub fn read(path: &Path) -> Result<Self, StorageError> {
        let bad = |detail: String| StorageError::NotAnExport { path: path.into(), detail };
        let file = File::open(path).map_err(|error| bad(error.to_string()))?;
        if file.metadata().is_ok_and(|file| file.len() > EXPORT_BYTES_MAX) {
            return Err(bad(format!("more than {EXPORT_BYTES_MAX} bytes")));
        }
        let mut reader = std::io::BufReader::new(file);
        let mut rows = BTreeMap::new();
        while !reader.fill_buf().map_err(|error| bad(error.to_string()))?.is_empty() {
            let item: Result<(Table, serde_bytes::ByteBuf, serde_bytes::ByteBuf), _> =
                ciborium::from_reader(&mut reader);
            let (of, key, value) =
                item.map_err(|error| bad(format!("record {}: {}", rows.len() + 1, unread(error))))?;
            rows.insert((of, key.into_vec()), value.into_vec());
        }
        Ok(Self(rows))
    }

    /// What a table holds, by key.
    fn values(&self, of: Table) -> impl Iterator<Item = &[u8]> {
        let rows = self.0.range((of, Vec::new())..).take_while(move |((table, _), _)| *table == of);
        rows.map(|(_, value)| value.as_slice())
    }
}

/// Why an item of an export could not be read, in words.
fn unread(error: ciborium::de::Error<std::io::Error>) -> String {
    match error {
        ciborium::de::Error::Io(error) => error.to_string(),
        ciborium::de::Error::Syntax(_) => "it is no CBOR".to_owned(),
        ciborium::de::Error::Semantic(_, message) => message,
        ciborium::de::Error::RecursionLimitExceeded => "it is nested too deeply".to_owned(),
    }
}

impl Rows for Export {
    fn get(&self, of: Table, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        Ok(self.0.get(&(of, key.to_vec())).cloned())
    }

    fn table(&self, of: Table) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), String>> {
        let rows = self.0.range((of, Vec::new())..).take_while(move |((table, _), _)| *table == of);
        rows.map(|((_, key), value)| Ok((key.clone(), value.clone())))
    }
}

impl StoreVerified {
    /// What a verification has found.
    pub fn new(found: Result<Verified, StorageError>) -> Self {
        let (found, fault) = match found {
            Ok(found) => (Some(found), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Self {
            schema: SCHEMA,
            arrivals: found.as_ref().map(|found| found.arrivals),
            views: found.as_ref().map(|found| found.views as u64),
            ok: fault.is_none(),
            fault,
        }
    }
}

/// What a store's records come to, each of them checked as when it was first learnt.
pub fn ledger(path: &Path, snapshot: &Snapshot) -> Result<Ledger, StorageError> {
    Ok(replay(path, snapshot)?.0)
}

fn replay(path: &Path, snapshot: &Snapshot) -> Result<(Ledger, Views), StorageError> {
    let rows = SnapshotRows(snapshot);
    Ok(ledger::rebuild(beginning(path, &rows)?, &rows)?)
}

/// The ledger of a store's owner before anything was learnt; `path` names the store in errors.
pub fn beginning(path: &Path, rows: &impl Rows) -> Result<Ledger, StorageError> {
    let no_owner = |detail: String| StorageError::NoOwner { path: path.into(), detail };
    let text = |name: &str| -> Result<String, StorageError> {
        let value = rows.get(Table::Meta, name.as_bytes()).map_err(no_owner)?;
        let value = value.and_then(|value| String::from_utf8(value).ok());
        value.ok_or_else(|| no_owner(format!("meta has no {name}")))
    };
    let fleet: FleetName = text("fleet")?.parse().map_err(|error| no_owner(format!("{error}")))?;
    let host: HostId = text("host")?.parse().map_err(|error| no_owner(format!("{error}")))?;
    let pins = rows.get(Table::Meta, PINS).map_err(no_owner)?;
    let pins = pins.ok_or_else(|| no_owner("meta has no pins".to_owned()))?;
    let texts: Vec<String> = codec::decode("pins", &pins).map_err(|error| no_owner(error.to_string()))?;
    let pins = texts.iter().map(|text| Trust::parse(text.as_bytes())).collect::<Result<Vec<_>, _>>();
    let documents = pins.and_then(Documents::new).map_err(|error| no_owner(error.to_string()))?;
    Ok(Ledger::new(fleet, host, documents))
}

fn compare(snapshot: &Snapshot, views: &Views) -> Result<(), StorageError> {
    let wrong = |of: Table, key: &[u8]| StorageError::View {
        table: table(of).name(),
        key: key.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '/' }).collect(),
    };
    for of in Table::DERIVED {
        for row in snapshot.range(table(of), ..)? {
            let (key, value) = row?;
            if views.get(&(of, key.clone())) != Some(&value) {
                return Err(wrong(of, &key));
            }
        }
    }
    for ((of, key), value) in views {
        if snapshot.get(table(*of), key)?.as_ref() != Some(value) {
            return Err(wrong(*of, key));
        }
    }
    Ok(())
}
