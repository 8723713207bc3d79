//! One step of the node while it is being taken.

use muster_signing::Signature;

use super::{Node, Note, Output};
use crate::coordination::log::WriteId;
use crate::ledger::{Batch, Happening};
use crate::time::Now;
use crate::wire::DecisionId;

/// What one step gathers: rows to write, and what happens once they are durable.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) now: Now,
    pub(super) rows: Batch,
    pub(super) outputs: Vec<Output>,
    /// Whether evidence changed, so that plans and approvals are to be looked at again.
    pub(super) changed: bool,
    pub(super) log_writes: Vec<WriteId>,
    pub(super) own_signatures: Vec<(DecisionId, Signature)>,
    pub(super) say: Vec<DecisionId>,
    pub(super) say_again: Vec<DecisionId>,
}

impl Turn {
    pub(super) fn new(now: Now) -> Self {
        Self {
            now,
            rows: Batch::default(),
            outputs: Vec::new(),
            changed: false,
            log_writes: Vec::new(),
            own_signatures: Vec::new(),
            say: Vec::new(),
            say_again: Vec::new(),
        }
    }

    pub(super) fn tell(&mut self, note: Note) {
        self.outputs.push(Output::Tell(note));
    }
}

impl Node {
    /// Closes a step: its rows go first, and everything else waits for them.
    pub(super) fn finish(&mut self, mut turn: Turn) -> Vec<Output> {
        let mut rows = self.ledger.take_batch();
        rows.append(std::mem::take(&mut turn.rows));
        for happening in self.ledger.take_happenings() {
            turn.outputs.push(Output::Tell(match happening {
                Happening::HostMoved { rollout, host, from, to } => {
                    Note::HostMoved { rollout, host, from, to }
                }
                Happening::RolloutMoved { rollout, from, to } => Note::RolloutMoved { rollout, from, to },
                Happening::Alarm { message } => Note::Alarm { message },
            }));
        }
        turn.outputs.retain(|output| {
            let Output::Tell(Note::Alarm { message }) = output else { return true };
            self.note_alarm(message)
        });
        let mut outputs = Vec::with_capacity(turn.outputs.len() + 1);
        if !rows.is_empty() {
            self.batch += 1;
            if let Some(coordinator) = &mut self.coordinator {
                coordinator.await_batch(self.batch, &mut turn);
            }
            outputs.push(Output::Persist { batch: self.batch, rows });
        }
        outputs.append(&mut turn.outputs);
        outputs
    }
}
