//! Reads files whose bytes were changed by something else.

use super::ram::RamDisk;
use super::{Numbers, batch, identity, value};
use crate::error::StoreError;
use crate::snapshot::Row;
use crate::store::Store;
use crate::table::Table;

const BATCHES: u64 = 40;
const VALUE_BYTES: usize = 3_000;
const SAMPLES: u64 = 250;
const PAGE_BYTES: usize = 4_096;

fn open(disk: &RamDisk) -> Result<Store, StoreError> {
    Store::on("ram".as_ref(), disk.boxed(), Some(&identity()), None)
}

fn written(batches: u64, value_bytes: usize) -> Vec<u8> {
    let disk = RamDisk::default();
    let store = open(&disk).unwrap();
    (0..batches).for_each(|n| store.commit_wait(batch(n, value_bytes)).unwrap());
    store.close().unwrap();
    disk.file()
}

/// Reads every row that can be read; errors are fine, panics are not.
fn read_all(store: &Store) -> Result<Vec<Row>, StoreError> {
    let snapshot = store.read()?;
    for table in Table::ALL {
        snapshot.range(table, ..)?.rev().collect::<Result<Vec<_>, _>>()?;
        snapshot.len(table)?;
        snapshot.get(table, b"x")?;
    }
    store.stats()?;
    snapshot.range(Table::Feeds, ..)?.collect()
}

/// Opens the damaged file: it is refused, or holds what one of the commits left.
fn check(bytes: Vec<u8>, label: &str) -> bool {
    let disk = RamDisk::holding(bytes.clone());
    let store = match open(&disk) {
        Ok(store) => store,
        Err(error) => {
            assert!(!matches!(error, StoreError::Closed | StoreError::Failed { .. }), "{label}: {error}");
            assert!(disk.file() == bytes, "{label}: the refused file was changed");
            return false;
        }
    };
    if let Ok(found) = read_all(&store) {
        let expected = (0..).map(|n: u64| (n.to_be_bytes().to_vec(), value(n, VALUE_BYTES)));
        assert!(
            found.iter().cloned().eq(expected.take(found.len())),
            "{label}: other rows than were written"
        );
    }
    // Writing to it succeeds or fails; either is an answer.
    let _answer = store.commit_wait(batch(BATCHES, VALUE_BYTES));
    true
}

/// Offsets in pages that hold something, and in the header.
fn places(bytes: &[u8], numbers: &mut Numbers) -> Vec<usize> {
    let used: Vec<usize> = (0..bytes.len() / PAGE_BYTES)
        .filter(|page| bytes[page * PAGE_BYTES..(page + 1) * PAGE_BYTES].iter().any(|byte| *byte != 0))
        .collect();
    let mut below = |bound: usize| usize::try_from(numbers.below(bound as u64)).unwrap();
    (0..SAMPLES)
        .map(|sample| {
            if sample % 5 == 0 {
                below(320)
            } else {
                used[below(used.len())] * PAGE_BYTES + below(PAGE_BYTES)
            }
        })
        .collect()
}

#[test]
fn flipped_bytes_give_errors_or_what_was_written() {
    let bytes = written(BATCHES, VALUE_BYTES);
    let mut numbers = Numbers(1);
    let mut refused = 0;
    for place in places(&bytes, &mut numbers) {
        let mut damaged = bytes.clone();
        let flip = 1 << numbers.below(8);
        damaged[place] ^= flip;
        refused += u64::from(!check(damaged, &format!("bits {flip:#x} of byte {place}")));
    }
    assert!(refused > SAMPLES / 4, "only {refused} of {SAMPLES} were noticed");
}

#[test]
fn overwritten_pages_give_errors_or_what_was_written() {
    let bytes = written(BATCHES, VALUE_BYTES);
    let mut numbers = Numbers(2);
    for place in places(&bytes, &mut numbers).into_iter().take(100) {
        let page = place - place % PAGE_BYTES;
        let from = usize::try_from(numbers.below((bytes.len() / PAGE_BYTES) as u64)).unwrap() * PAGE_BYTES;
        let source = match numbers.below(3) {
            0 => vec![0; PAGE_BYTES],
            1 => (0..PAGE_BYTES).map(|_| u8::try_from(numbers.below(256)).unwrap()).collect(),
            _ => bytes[from..from + PAGE_BYTES].to_vec(),
        };
        let mut damaged = bytes.clone();
        damaged[page..page + PAGE_BYTES].copy_from_slice(&source);
        check(damaged, &format!("page at {page}"));
    }
}

#[test]
fn pages_overwritten_under_an_open_store_do_not_panic() {
    // More than the engine keeps in memory, so that pages are read again.
    let bytes = written(100, 100_000);
    let mut numbers = Numbers(3);
    for sample in 0..12 {
        let disk = RamDisk::holding(bytes.clone());
        let store = open(&disk).unwrap();
        for _ in 0..bytes.len() / PAGE_BYTES / 4 {
            let page =
                usize::try_from(numbers.below((bytes.len() / PAGE_BYTES) as u64)).unwrap() * PAGE_BYTES;
            let noise = u8::try_from(numbers.below(256)).unwrap();
            disk.overwrite(page, &[if sample % 3 == 0 { 0 } else { noise }; PAGE_BYTES]);
        }
        let _read = read_all(&store);
        let _written = store.commit_wait(batch(sample, 50_000));
        let _read = read_all(&store);
        let _compacted = store.compact();
        let _closed = store.close();
    }
}
