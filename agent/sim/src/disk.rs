//! A stand-in for one host's disk: rows that are durable, and writes that are not yet.

use std::collections::{BTreeMap, VecDeque};

use muster_core::ledger::{Batch, Change, Rows, Table};

use crate::random::Random;

/// The tables that hosts sync, in the order in which they are sent.
pub(crate) const SYNCED: [Table; 3] = [Table::Documents, Table::Decisions, Table::Feeds];

/// In which bits of their last byte the keys of one run differ.
const RUN_BITS: u8 = 0x0f;

/// Rows on their way to a disk.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) number: u64,
    pub(crate) rows: Batch,
    /// When the agent that issued it had last seen its clock jump.
    pub(crate) jump_seen: u64,
}

/// One host's disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    rows: BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>,
    /// Writes that were issued and are not durable, in order.
    pub(crate) writes: VecDeque<Write>,
    /// When its agent had last seen its clock jump as it issued what became durable last.
    pub(crate) jump_seen: u64,
    /// Sums up which keys each synced table has, so that equal tables are known as such.
    sums: [u64; SYNCED.len()],
    /// The same for each run of keys that differ in their last four bits alone, so that few rows are compared.
    runs: BTreeMap<(Table, Vec<u8>), u64>,
}

impl Disk {
    /// The oldest write becomes durable: its number and rows.
    pub(crate) fn next_durable(&mut self) -> Option<(u64, Batch)> {
        let Write { number, rows, jump_seen } = self.writes.pop_front()?;
        self.jump_seen = jump_seen;
        self.apply(&rows.0);
        Some((number, rows))
    }

    /// What of it is durable.
    pub(crate) fn durable(&self) -> Self {
        Self { writes: VecDeque::new(), ..self.clone() }
    }

    /// Takes a batch in, but for the rows of one feed.
    pub(crate) fn copy(&mut self, batch: &Batch, but: &[u8]) {
        let others = |change: &&Change| change.table != Table::Feeds || !change.key.starts_with(but);
        self.apply(batch.0.iter().filter(others));
    }

    /// Takes an envelope in.
    pub(crate) fn show(&mut self, key: Vec<u8>, envelope: Vec<u8>) {
        self.apply(&[Change { table: Table::Feeds, key, value: Some(envelope) }]);
    }

    fn apply<'a>(&mut self, changes: impl IntoIterator<Item = &'a Change>) {
        for change in changes {
            let rows = self.rows.entry(change.table).or_default();
            let was = match &change.value {
                Some(value) => rows.insert(change.key.clone(), value.clone()).is_some(),
                None => rows.remove(&change.key).is_some(),
            };
            let is = change.value.is_some();
            if let Some(at) = SYNCED.iter().position(|table| *table == change.table)
                && was != is
            {
                // Sums of neighbouring keys alone cancel each other out, four at a time.
                let sum = Random::new(fnv(&change.key)).next();
                self.sums[at] ^= sum;
                *self.runs.entry((change.table, run_of(&change.key))).or_default() ^= sum;
            }
        }
    }

    /// Whether nothing was ever written to it.
    pub(crate) fn is_new(&self) -> bool {
        self.rows.is_empty()
    }

    /// What the synced tables hold, in short.
    pub(crate) fn sums(&self) -> &[u64; SYNCED.len()] {
        &self.sums
    }

    /// The rows of a table, by key.
    pub(crate) fn of(&self, table: Table) -> impl Iterator<Item = (&Vec<u8>, &Vec<u8>)> {
        self.rows.get(&table).into_iter().flatten()
    }

    /// One row.
    pub(crate) fn row(&self, table: Table, key: &[u8]) -> Option<&Vec<u8>> {
        self.rows.get(&table)?.get(key)
    }

    /// The keys of the rows that count which another disk has of a table and this one has not.
    pub(crate) fn lacking<'a>(
        &self,
        other: &'a Self,
        table: Table,
        counts: impl Fn(&[u8]) -> bool,
    ) -> Vec<&'a [u8]> {
        let missing = other.of(table).filter(|(key, _)| self.row(table, key).is_none());
        missing.map(|(key, _)| key.as_slice()).filter(|key| counts(key)).collect()
    }

    /// What another disk has of a synced table and this one has not.
    pub(crate) fn lacks<'a>(&self, other: &'a Self, table: Table) -> Vec<(&'a [u8], &'a [u8])> {
        let from = (table, Vec::new());
        let theirs = other.runs.range(from.clone()..).take_while(|((of, _), _)| *of == table);
        let mut mine = self.runs.range(from..).peekable();
        let mut missing = Vec::new();
        for (run, sum) in theirs {
            while mine.next_if(|(at, _)| *at < run).is_some() {}
            if mine.peek().is_some_and(|known| *known == (run, sum)) {
                continue;
            }
            let rows = other.rows.get(&table).into_iter().flat_map(|rows| rows.range(run.1.clone()..));
            let rows = rows.take_while(|(key, _)| is_of_run(key, &run.1));
            missing.extend(
                rows.filter(|(key, _)| self.row(table, key).is_none())
                    .map(|(key, value)| (key.as_slice(), value.as_slice())),
            );
        }
        missing
    }
}

/// The first key that a run may have.
fn run_of(key: &[u8]) -> Vec<u8> {
    let mut first = key.to_vec();
    if let Some(last) = first.last_mut() {
        *last &= !RUN_BITS;
    }
    first
}

fn is_of_run(key: &[u8], first: &[u8]) -> bool {
    let (Some((last, key)), Some((run, prefix))) = (key.split_last(), first.split_last()) else {
        return key == first;
    };
    last & !RUN_BITS == *run && key == prefix
}

impl Rows for Disk {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        Ok(self.row(table, key).cloned())
    }

    fn table(&self, table: Table) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), String>> {
        self.of(table).map(|(key, value)| Ok((key.clone(), value.clone())))
    }

    fn since(&self, table: Table, key: &[u8]) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), String>> {
        let rows = self.rows.get(&table).into_iter().flat_map(|rows| rows.range(key.to_vec()..));
        rows.map(|(key, value)| Ok((key.clone(), value.clone())))
    }
}

/// FNV-1a, 64 bits.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
