//! What happens on a full disk.

use super::ram::RamDisk;
use super::{batch, batches, identity};
use crate::disk::Disk;
use crate::engine::{Health, RECOVERED_FREE_BYTES};
use crate::error::{CommitError, StoreError};
use crate::store::Store;
use crate::table::{Change, Table};

const VALUE_BYTES: usize = 256 << 10;

fn open(disk: &RamDisk) -> Result<Store, StoreError> {
    Store::on("ram".as_ref(), disk.boxed(), Some(&identity()), None)
}

/// Writes batches until the health is no longer what it was; the number of the next.
fn fill(store: &Store, from: u64, while_in: Health) -> (u64, Result<(), CommitError>) {
    for n in from..1_000 {
        let result = store.commit_wait(batch(n, VALUE_BYTES));
        if result.is_err() || store.health() != while_in {
            return (n, result);
        }
    }
    panic!("the disk is never full");
}

#[test]
fn reserve_is_given_up_for_the_batch_that_no_longer_fits() {
    let disk = RamDisk::default();
    let store = open(&disk).unwrap();
    assert_eq!(store.health(), Health::Ok);
    disk.set_capacity(Some(disk.used() + (1 << 20)));

    let (last, result) = fill(&store, 0, Health::Ok);
    assert_eq!(result, Ok(()), "the batch that met the full disk is written in place of the reserve");
    assert_eq!(store.health(), Health::Full);
    assert!(!disk.has_reserve());
    assert!(batches(&store, VALUE_BYTES).into_iter().eq(0..=last));

    let (refused, result) = fill(&store, last + 1, Health::Full);
    assert_eq!(result, Err(CommitError::Full));
    assert_eq!(store.health(), Health::Full);
    assert!(batches(&store, VALUE_BYTES).into_iter().eq(0..refused), "reads are answered throughout");
    store.commit_wait(vec![Change::delete(Table::Meta, "nothing")]).unwrap();

    disk.set_capacity(Some(disk.used() + 2 * RECOVERED_FREE_BYTES));
    assert_eq!(store.health(), Health::Ok);
    assert!(disk.has_reserve());
    store.commit_wait(batch(refused, VALUE_BYTES)).unwrap();
    store.close().unwrap();
    assert!(batches(&open(&disk).unwrap(), VALUE_BYTES).into_iter().eq(0..=refused));
}

#[test]
fn hopeless_batch_does_not_touch_the_file() {
    let disk = RamDisk::default();
    let store = open(&disk).unwrap();
    disk.set_capacity(Some(disk.used() + (1 << 20)));
    let (last, _) = fill(&store, 0, Health::Ok);
    let (refused, _) = fill(&store, last + 1, Health::Full);
    disk.set_capacity(Some(disk.used()));
    let operations = disk.ram().operations;
    assert_eq!(store.commit_wait(batch(refused, VALUE_BYTES)), Err(CommitError::Full));
    assert_eq!(disk.ram().operations, operations);
}

#[test]
fn store_opens_on_a_full_disk() {
    let disk = RamDisk::default();
    let store = open(&disk).unwrap();
    store.commit_wait(batch(0, VALUE_BYTES)).unwrap();
    store.close().unwrap();
    disk.release_reserve().unwrap();
    disk.set_capacity(Some(disk.used() + 100));
    let store = open(&disk).unwrap();
    assert_eq!(store.health(), Health::Full);
    assert_eq!(batches(&store, VALUE_BYTES), [0]);
}
