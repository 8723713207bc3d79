//! What a coordinator writes down of the log and of its members, and what waits for it.

use super::coordinator::Coordinator;
use super::turn::Turn;
use crate::coordination::log::{self, MemberId, Operation};
use crate::ledger::{Batch, Table, key};
use crate::planted::Bug;
use crate::wire::codec;

impl Coordinator {
    /// Notes what has to be told about once the batch is durable.
    pub(super) fn await_batch(&mut self, batch: u64, turn: &mut Turn) {
        let writes = std::mem::take(&mut turn.log_writes);
        if !writes.is_empty() {
            self.writes.push_back((batch, writes));
        }
        for (id, signature) in turn.own_signatures.drain(..) {
            self.own_signatures.push_back((batch, id, signature));
        }
    }

    pub(super) fn store(&mut self, rows: &mut Batch, operation: Operation, applied: u64) {
        match operation {
            Operation::HardState(_) if self.planted.has(Bug::VoteForgotten) => {}
            Operation::HardState(state) => {
                rows.put(Table::HardState, key::meta("hard_state"), codec::encode(&state));
            }
            Operation::Append { index, entry } => {
                self.stored_last = index;
                rows.put(Table::Log, key::number(self.base + index), codec::encode(&entry));
            }
            Operation::CutFrom(index) => {
                for gone in index..=self.stored_last {
                    rows.delete(Table::Log, key::number(self.base + gone));
                }
                self.stored_last = index.saturating_sub(1);
            }
            // The entries themselves are history, which the store keeps for as long as any other.
            Operation::Compact(snapshot) => self.store_snapshot(rows, &snapshot),
            Operation::Install(snapshot) => {
                for gone in applied + 1..=self.stored_last {
                    rows.delete(Table::Log, key::number(self.base + gone));
                }
                self.stored_last = snapshot.index;
                self.store_snapshot(rows, &snapshot);
            }
        }
    }

    /// Writes down what it remembers of the others' stores: should this process start again, nobody else may know.
    pub(super) fn keep_memory(&mut self, rows: &mut Batch) {
        let memory = self.log.memory();
        if *memory != self.remembered {
            let known: Vec<(&MemberId, &log::Echo)> = memory.iter().collect();
            rows.put(Table::Meta, key::meta("coordinators"), codec::encode(&known));
            self.remembered.clone_from(memory);
        }
    }
}
