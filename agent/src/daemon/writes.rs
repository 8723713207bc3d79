//! Batches on their way to the disk: one write at a time, which takes along all that was asked for meanwhile.
//!
//! So the store's queue is never crowded, however much is asked for, and nothing of what follows a write that
//! fails has been handed to the store.

use std::collections::VecDeque;

use muster_core::ledger::Batch;
use muster_store::Change;

use crate::storage;

/// Batches that may wait for the disk before the network has to wait.
const BATCHES_MAX: usize = 128;
/// Their keys and values, in bytes.
const BYTES_MAX: usize = 4 << 20;

/// What was asked to be written and is not durable yet.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// The oldest first.
    batches: VecDeque<(u64, Batch)>,
    bytes: usize,
    /// The last batch of the write that is under way.
    under_way: Option<u64>,
}

impl Writes {
    /// Asks for a batch to be written after all earlier ones.
    pub(super) fn ask(&mut self, batch: u64, rows: Batch) {
        self.bytes += bytes(&rows);
        self.batches.push_back((batch, rows));
    }

    /// Begins a write of all that waits, unless one is under way: the number of its last batch, and its changes.
    pub(super) fn begin(&mut self) -> Option<(u64, Vec<Change>)> {
        if self.under_way.is_some() {
            return None;
        }
        let (last, _) = self.batches.back()?;
        self.under_way = Some(*last);
        let changes = self.batches.iter().flat_map(|(_, rows)| storage::changes(rows.clone()));
        Some((*last, changes.collect()))
    }

    /// Ends the write under way, whose last batch this is, and gives what is durable now.
    pub(super) fn end(&mut self, last: u64) -> Vec<Batch> {
        self.under_way = None;
        let count = self.batches.partition_point(|(batch, _)| *batch <= last);
        let durable: Vec<Batch> = self.batches.drain(..count).map(|(_, rows)| rows).collect();
        self.bytes -= durable.iter().map(bytes).sum::<usize>();
        durable
    }

    /// Gives up all that was asked for; no write may be under way.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Whether nothing waits for the disk.
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Whether what the network brings may be taken in, which asks for more.
    pub(super) fn has_room(&self) -> bool {
        self.batches.len() < BATCHES_MAX && self.bytes < BYTES_MAX
    }
}

fn bytes(rows: &Batch) -> usize {
    rows.0.iter().map(|change| change.key.len() + change.value.as_ref().map_or(0, Vec::len)).sum()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::sync::mpsc;

    use muster_core::ledger::Table;
    use muster_store::{Identity, Store};

    use super::*;

    fn batch(number: u64, value_bytes: usize) -> Batch {
        let mut batch = Batch::default();
        batch.put(Table::Proofs, number.to_be_bytes().to_vec(), vec![7; value_bytes]);
        batch
    }

    #[test]
    fn one_write_is_under_way_and_the_next_takes_all_that_was_asked_for_meanwhile() {
        let mut writes = Writes::default();
        assert_eq!(writes.begin(), None);
        writes.ask(1, batch(1, 1));
        assert_eq!(writes.begin().map(|(last, changes)| (last, changes.len())), Some((1, 1)));
        writes.ask(2, batch(2, 1));
        writes.ask(3, batch(3, 1));
        assert_eq!(writes.begin(), None);
        assert_eq!(writes.end(1), [batch(1, 1)]);
        assert_eq!(writes.begin().map(|(last, changes)| (last, changes.len())), Some((3, 2)));
        assert_eq!(writes.end(3), [batch(2, 1), batch(3, 1)]);
        assert!(writes.is_empty() && writes.bytes == 0);
    }

    #[test]
    fn the_network_waits_when_batches_or_bytes_wait_for_the_disk() {
        for (count, value_bytes) in [(BATCHES_MAX, 1), (4, BYTES_MAX / 4)] {
            let mut writes = Writes::default();
            for number in 0..count as u64 {
                assert!(writes.has_room(), "{number} of {count} batches of {value_bytes} bytes");
                writes.ask(number, batch(number, value_bytes));
            }
            assert!(!writes.has_room());
            let (last, _) = writes.begin().unwrap();
            writes.end(last);
            assert!(writes.has_room());
        }
    }

    #[test]
    fn the_store_refuses_no_batch_however_many_are_asked_for_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity { fleet: "home".into(), host: "alpha".into() };
        let store = Store::open(folder.path().join(storage::STORE_FILE), identity).unwrap();
        let (sender, ended) = mpsc::channel();
        let mut writes = Writes::default();
        let begin = |writes: &mut Writes| {
            if let Some((last, changes)) = writes.begin() {
                let sender = sender.clone();
                store.commit(changes, move |result| sender.send((last, result)).unwrap());
            }
        };
        let count = 2 * muster_store::QUEUE_BATCHES_MAX as u64;
        let value_bytes = 2 * muster_store::QUEUE_BYTES_MAX / muster_store::QUEUE_BATCHES_MAX;
        for number in 0..count {
            writes.ask(number, batch(number, value_bytes));
            begin(&mut writes);
        }
        while !writes.is_empty() {
            let (last, result) = ended.recv().unwrap();
            assert_eq!(result, Ok(()));
            writes.end(last);
            begin(&mut writes);
        }
        assert_eq!(store.read().unwrap().len(muster_store::Table::Proofs).unwrap(), count);
    }
}
