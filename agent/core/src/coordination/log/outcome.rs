//! What one step collects and hands out: a write, messages, committed entries.

use super::message::{Body, Entry, MemberId, Message, TimeoutNow};
use super::state::Log;
use super::{HardState, Operation, Ready, Write, WriteId};

/// A write that the caller has not reported durable.
#[derive(Debug)]
pub(super) struct Unstored {
    pub(super) id: WriteId,
    pub(super) last_index: u64,
    /// The lowest index that the write removes.
    pub(super) cut_from: Option<u64>,
}

impl Log {
    pub(super) fn set_hard(&mut self, term: u64, voted_for: Option<MemberId>) {
        self.hard = HardState { term, voted_for, ..self.hard };
        self.hard_changed = true;
    }

    pub(super) fn send(&mut self, to: MemberId, body: Body) {
        let message = Message {
            body,
            boot: self.hard.boot,
            echo: self.known.get(&to).copied(),
            term: self.hard.term,
            epoch: self.config.epoch,
            store: self.hard.store,
            to,
            life: self.config.life,
        };
        self.messages.push((to, message));
    }

    pub(super) fn send_timeout_now(&mut self, heir: MemberId) {
        self.send(heir, Body::TimeoutNow(TimeoutNow {}));
    }

    /// Hands out what the step collected.
    pub(super) fn finish(&mut self) -> Ready {
        let mut operations = Vec::new();
        if std::mem::take(&mut self.hard_changed) {
            operations.push(Operation::HardState(self.hard));
        }
        operations.append(&mut self.operations);
        let write = (!operations.is_empty()).then(|| self.write(operations));
        let mut messages = std::mem::take(&mut self.messages);
        if self.is_stopped() {
            messages.clear();
        }
        Ready {
            write,
            messages,
            installed: self.installed.take(),
            committed: self.take_committed(),
            forwarded: std::mem::take(&mut self.forwarded),
            alarms: std::mem::take(&mut self.alarms),
        }
    }

    fn write(&mut self, operations: Vec<Operation>) -> Write {
        let id = WriteId(self.next_write);
        self.next_write += 1;
        let cut_from = operations
            .iter()
            .filter_map(|operation| match operation {
                Operation::CutFrom(index) => Some(*index),
                Operation::Install(_) => Some(1),
                Operation::HardState(_) | Operation::Append { .. } | Operation::Compact(_) => None,
            })
            .min();
        self.unstored.push_back(Unstored { id, last_index: self.last_index(), cut_from });
        Write { id, operations }
    }

    fn take_committed(&mut self) -> Vec<(u64, Entry)> {
        let mut committed = Vec::new();
        while !self.is_stopped() && self.emitted < self.commit.min(self.counts_as_durable()) {
            self.emitted += 1;
            let Some(entry) = self.entry(self.emitted) else { break };
            if !self.is_repeated(self.emitted) {
                committed.push((self.emitted, entry.clone()));
            }
        }
        committed
    }
}
