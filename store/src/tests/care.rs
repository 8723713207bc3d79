//! Measuring, compacting, rebuilding.

use super::{batch, batches, identity, rows, store_in};
use crate::error::StoreError;
use crate::store::Store;
use crate::table::{Change, Class, Table};

#[test]
fn derived_tables_are_replaced_and_others_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (store, path) = store_in(folder.path());
    store.commit_wait(batch(0, 10)).unwrap();
    let derived: Vec<Table> =
        Table::ALL.into_iter().filter(|table| table.class() == Class::Derived).collect();
    assert_eq!(derived.len(), 6);
    for table in &derived {
        store.commit(vec![Change::put(*table, "old", "1")], |result| result.unwrap());
    }
    store.replace_derived(derived.iter().skip(1).map(|table| Change::put(*table, "new", "2"))).unwrap();
    store.close().unwrap();
    let store = Store::open(path, identity()).unwrap();
    assert_eq!(batches(&store, 10), [0]);
    let snapshot = store.read().unwrap();
    assert!(snapshot.is_empty(derived[0]).unwrap());
    for table in derived.iter().skip(1) {
        assert_eq!(rows(&snapshot, *table), [(b"new".to_vec(), b"2".to_vec())]);
    }
}

#[test]
fn rebuild_with_a_canonical_row_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store_in(folder.path());
    store.commit_wait(vec![Change::put(Table::Rollouts, "old", "1")]).unwrap();
    let error = store
        .replace_derived([Change::put(Table::Rollouts, "new", "2"), Change::put(Table::Feeds, "new", "2")])
        .unwrap_err();
    assert!(matches!(error, StoreError::NotDerived { table: Table::Feeds }), "{error}");
    assert_eq!(rows(&store.read().unwrap(), Table::Rollouts), [(b"old".to_vec(), b"1".to_vec())]);
    store.commit_wait(batch(0, 10)).unwrap();
}

#[test]
fn compaction_gives_deleted_rows_back() {
    let folder = tempfile::tempdir().unwrap();
    let (store, path) = store_in(folder.path());
    for n in 0..64 {
        store.commit_wait(batch(n, 200_000)).unwrap();
    }
    let full = store.stats().unwrap();
    assert!(!full.worth_compacting(), "{full:?}");
    let feeds = full.tables.iter().find(|stats| stats.table == Table::Feeds).unwrap();
    assert_eq!((feeds.rows, feeds.bytes), (64, 64 * (200_000 + 8)));
    assert!(full.transactions >= 64);

    let gone = (2..64_u64).flat_map(|n| [Table::Feeds, Table::Arrivals].map(|table| (table, n)));
    let gone: Vec<Change> = gone.map(|(table, n)| Change::delete(table, n.to_be_bytes())).collect();
    store.commit_wait(gone).unwrap();
    assert!(store.stats().unwrap().worth_compacting());
    let reader = store.read().unwrap();
    assert!(matches!(store.compact(), Err(StoreError::SnapshotsOpen { .. })));
    drop(reader);
    assert!(store.compact().unwrap() > 0);
    let compacted = store.stats().unwrap();
    assert!(compacted.file_bytes < full.file_bytes / 2, "{} of {}", compacted.file_bytes, full.file_bytes);
    assert!(!compacted.worth_compacting());
    assert_eq!(batches(&store, 200_000), [0, 1]);
    store.commit_wait(batch(2, 200_000)).unwrap();
    store.close().unwrap();
    assert_eq!(batches(&Store::open(path, identity()).unwrap(), 200_000), [0, 1, 2]);
}
