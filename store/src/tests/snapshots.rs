//! What a snapshot sees.

use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::prelude::*;

use super::ram::RamDisk;
use super::{batch, batches, identity, rows, store_in};
use crate::error::StoreError;
use crate::store::Store;
use crate::table::{Change, Table};

fn key() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(254), Just(255)], 0..4)
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![Just(Bound::Unbounded), key().prop_map(Bound::Included), key().prop_map(Bound::Excluded)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn table_reads_as_an_ordered_map(
        changes in proptest::collection::vec((key(), proptest::option::of(key())), 0..40),
        (from, to) in (bound(), bound()),
        prefix in key(),
    ) {
        let store = Store::on("ram".as_ref(), RamDisk::default().boxed(), Some(&identity()), None).unwrap();
        let mut model = BTreeMap::new();
        for (key, value) in &changes {
            match value {
                Some(value) => drop(model.insert(key.clone(), value.clone())),
                None => drop(model.remove(key)),
            }
        }
        let batch = changes.into_iter().map(|(key, value)| Change { table: Table::Feeds, key, value }).collect();
        store.commit_wait(batch).unwrap();

        let snapshot = store.read().unwrap();
        let within = |key: &[u8]| {
            let above = match &from { Bound::Included(b) => b.as_slice() <= key, Bound::Excluded(b) => b.as_slice() < key, Bound::Unbounded => true };
            let below = match &to { Bound::Included(b) => key <= b.as_slice(), Bound::Excluded(b) => key < b.as_slice(), Bound::Unbounded => true };
            above && below
        };
        let expected: Vec<_> = model.clone().into_iter().filter(|(key, _)| within(key)).collect();
        let bounds = || (from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice));
        let forward: Vec<_> = snapshot.range(Table::Feeds, bounds()).unwrap().map(Result::unwrap).collect();
        let mut backward: Vec<_> = snapshot.range(Table::Feeds, bounds()).unwrap().rev().map(Result::unwrap).collect();
        backward.reverse();
        prop_assert_eq!(&forward, &expected);
        prop_assert_eq!(&backward, &expected);

        let prefixed: Vec<_> = snapshot.prefix(Table::Feeds, &prefix).unwrap().map(Result::unwrap).collect();
        let expected: Vec<_> = model.clone().into_iter().filter(|(key, _)| key.starts_with(&prefix)).collect();
        prop_assert_eq!(prefixed, expected);

        prop_assert_eq!(snapshot.get(Table::Feeds, &prefix).unwrap(), model.get(&prefix).cloned());
        prop_assert_eq!(snapshot.first(Table::Feeds).unwrap(), model.first_key_value().map(|(k, v)| (k.clone(), v.clone())));
        prop_assert_eq!(snapshot.last(Table::Feeds).unwrap(), model.last_key_value().map(|(k, v)| (k.clone(), v.clone())));
        prop_assert_eq!(snapshot.len(Table::Feeds).unwrap(), model.len() as u64);
    }
}

#[test]
fn snapshot_does_not_see_later_batches() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store_in(folder.path());
    store.commit_wait(batch(0, 10)).unwrap();
    let early = store.read().unwrap();
    let half_read = early.range(Table::Arrivals, ..).unwrap();
    store.commit_wait(vec![Change::delete(Table::Arrivals, 0_u64.to_be_bytes())]).unwrap();
    store.commit_wait(batch(1, 10)).unwrap();
    assert_eq!(early.len(Table::Arrivals).unwrap(), 1);
    assert_eq!(rows(&early, Table::Arrivals)[0].0, 0_u64.to_be_bytes());
    assert_eq!(half_read.count(), 1);
    assert_eq!(rows(&store.read().unwrap(), Table::Arrivals)[0].0, 1_u64.to_be_bytes());
}

#[test]
fn reader_does_not_wait_for_the_writer() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store_in(folder.path());
    store.commit_wait(batch(0, 10)).unwrap();
    let turn = store.engine.turn();
    store.commit(batch(1, 10), |result| result.unwrap());
    assert_eq!(batches(&store, 10), [0]);
    drop(turn);
    store.settle().unwrap();
    assert_eq!(batches(&store, 10), [0, 1]);
}

#[test]
fn closed_store_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let (store, path) = store_in(folder.path());
    store.commit_wait(batch(0, 10)).unwrap();
    let snapshot = store.read().unwrap();
    store.close().unwrap();
    store.close().unwrap();
    assert!(matches!(store.read(), Err(StoreError::Closed)));
    drop(snapshot);
    Store::open(path, identity()).unwrap();
}
