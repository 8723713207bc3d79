//! Tests of the whole store, on files and on a disk whose operations fail as told.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod care;
mod child;
mod commits;
mod damage;
mod faults;
mod full;
mod kill;
mod opening;
mod power;
mod ram;
mod snapshots;

use std::path::{Path, PathBuf};

use crate::format::Identity;
use crate::snapshot::{Row, Snapshot};
use crate::store::Store;
use crate::table::{Change, Table};

pub(crate) fn identity() -> Identity {
    Identity { fleet: "home".to_owned(), host: "alpha".to_owned() }
}

pub(crate) fn store_in(folder: &Path) -> (Store, PathBuf) {
    let path = folder.join("muster.redb");
    (Store::open(&path, identity()).unwrap(), path)
}

/// Batch `n` of the tests: one row in each of two tables, which must be there both or not at all.
pub(crate) fn batch(n: u64, value_bytes: usize) -> Vec<Change> {
    vec![
        Change::put(Table::Feeds, n.to_be_bytes(), value(n, value_bytes)),
        Change::put(Table::Arrivals, n.to_be_bytes(), n.to_be_bytes()),
    ]
}

pub(crate) fn value(n: u64, bytes: usize) -> Vec<u8> {
    (0..bytes as u64)
        .map(|at| (n.wrapping_mul(31) ^ at.wrapping_mul(0x9e37_79b9) >> 7).to_le_bytes()[0])
        .collect()
}

pub(crate) fn rows(snapshot: &Snapshot, table: Table) -> Vec<Row> {
    snapshot.range(table, ..).unwrap().collect::<Result<_, _>>().unwrap()
}

/// The numbers of the batches that are there, after checking that each is whole and right.
pub(crate) fn batches(store: &Store, value_bytes: usize) -> Vec<u64> {
    let snapshot = store.read().unwrap();
    let numbers: Vec<u64> = rows(&snapshot, Table::Arrivals)
        .into_iter()
        .map(|(key, _)| u64::from_be_bytes(key.try_into().unwrap()))
        .collect();
    let expected: Vec<Row> =
        numbers.iter().map(|n| (n.to_be_bytes().to_vec(), value(*n, value_bytes))).collect();
    assert!(rows(&snapshot, Table::Feeds) == expected, "batches {numbers:?} are not whole");
    numbers
}

/// A generator of numbers that are the same in each run.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}
