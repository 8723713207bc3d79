//! Lets every operation of a short script fail once, in every way.

use super::ram::{Kind, RamDisk};
use super::{batch, batches, identity};
use crate::engine::Health;
use crate::error::{CommitError, StoreError};
use crate::store::Store;
use crate::table::Table;

const BATCHES: u64 = 4;
const VALUE_BYTES: usize = 9_000;
const KINDS: [Kind; 4] = [Kind::Error, Kind::Full, Kind::Torn, Kind::PowerCut];

fn open(disk: &RamDisk) -> Result<Store, StoreError> {
    Store::on("ram".as_ref(), disk.boxed(), Some(&identity()), None)
}

/// Opens the store after a fault, as a restarted agent would: at the second time at the latest it succeeds.
fn reopen(disk: &RamDisk, seed: u64, cut: bool) -> Store {
    if cut {
        disk.cut_power(seed);
    }
    open(disk).or_else(|_| open(disk)).unwrap()
}

/// Writes the batches, reopening as told by errors; checks after each that what was acknowledged is there.
fn run_script(disk: &RamDisk, label: &str, seed: u64, cut: bool) {
    let mut acknowledged = Vec::new();
    let mut store = open(disk).unwrap_or_else(|_| reopen(disk, seed, cut));
    for n in 0..BATCHES {
        match store.commit_wait(batch(n, VALUE_BYTES)) {
            Ok(()) => acknowledged.push(n),
            Err(error) => {
                assert!(matches!(error, CommitError::Failed { .. }), "{label}: {error}");
                assert_eq!(store.health(), Health::Failed, "{label}");
                assert_eq!(
                    store.commit_wait(batch(n, VALUE_BYTES)),
                    Err(error),
                    "{label}: a stopped store goes on"
                );
                drop(store);
                store = reopen(disk, seed, cut);
            }
        }
        store = readable(store, disk, seed, cut);
        check(&store, &acknowledged, label);
    }
    if store.close().is_err() && cut {
        disk.cut_power(seed);
    }
    drop(store);
    let store = open(disk).unwrap_or_else(|_| reopen(disk, seed, cut));
    let store = readable(store, disk, seed, cut);
    check(&store, &acknowledged, label);
    drop(store);
    disk.cut_power(seed);
    check(&open(disk).unwrap(), &acknowledged, label);
}

/// The store, reopened if the fault strikes a read.
fn readable(store: Store, disk: &RamDisk, seed: u64, cut: bool) -> Store {
    let read = |table| store.read()?.range(table, ..)?.try_for_each(|row| row.map(drop));
    if [Table::Feeds, Table::Arrivals].into_iter().try_for_each(read).is_ok() {
        return store;
    }
    drop(store);
    reopen(disk, seed, cut)
}

fn check(store: &Store, acknowledged: &[u64], label: &str) {
    let found = batches(store, VALUE_BYTES);
    assert!(
        acknowledged.iter().all(|n| found.contains(n)),
        "{label}: of {acknowledged:?} only {found:?} are there"
    );
}

#[test]
fn no_failing_operation_loses_an_acknowledged_batch() {
    let disk = RamDisk::default();
    run_script(&disk, "no fault", 0, false);
    let operations = disk.ram().operations;
    assert!(operations > 100, "{operations}");
    for kind in KINDS {
        for at in 0..operations {
            let disk = RamDisk::default();
            disk.fail(at, kind);
            run_script(
                &disk,
                &format!("{kind:?} at operation {at}"),
                at,
                kind == Kind::PowerCut || at % 2 == 0,
            );
            assert!(!disk.is_armed() || kind != Kind::Error, "operation {at} was never reached");
        }
    }
}

#[test]
fn failed_sync_is_not_tried_again() {
    let disk = RamDisk::default();
    let store = open(&disk).unwrap();
    store.commit_wait(batch(0, VALUE_BYTES)).unwrap();
    let (mut at, mut syncs) = (0, 0);
    // Finds the sync among the operations of a commit: the one whose failure is told as such.
    loop {
        let disk = RamDisk::holding(disk.file());
        let store = open(&disk).unwrap();
        let opened = disk.ram().opened;
        disk.fail(at, Kind::Full);
        match store.commit_wait(batch(1, VALUE_BYTES)) {
            Err(CommitError::Failed { reason }) if reason.starts_with("a sync failed") => {
                syncs += 1;
                assert_eq!(disk.ram().opened, opened, "the file was opened again after a failed sync");
                assert!(disk.ram().operations <= at + 1, "the file was used after a failed sync");
                assert!(matches!(store.read(), Err(StoreError::Failed { .. })));
            }
            Ok(()) if disk.is_armed() => break,
            Ok(()) => {}
            Err(error) => panic!("operation {at}: {error}"),
        }
        at += 1;
    }
    assert!(syncs >= 2, "a commit in two phases syncs at least twice");
}
