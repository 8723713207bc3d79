//! The order in which a shell carries out what a node asks for: store first, act second.
//!
//! The daemon and the simulator both go through [`Drive`], so the rule is written once. Writes are handed to
//! the store at once and in order; everything else waits until every write that was asked for before it is
//! durable, but for messages that the node knows to depend on none. The node goes on meanwhile.

use std::collections::VecDeque;

use crate::ledger::Batch;
use crate::node::Output;
use crate::planted::{Bug, Planted};

/// What carries out a node's orders.
pub trait Shell {
    /// Begins to write a batch; says later, by [`Drive::stored`], that it is durable.
    fn store(&mut self, batch: u64, rows: Batch);

    /// Carries out anything that is not a write.
    fn perform(&mut self, output: Output);
}

/// Holds back what must not happen yet.
#[derive(Debug, Default)]
pub struct Drive {
    asked: u64,
    durable: u64,
    held: VecDeque<(u64, Output)>,
    planted: Planted,
}

impl Drive {
    /// Nothing was asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with a bug.
    #[cfg(feature = "planted")]
    pub fn planted(planted: Planted) -> Self {
        Self { planted, ..Self::default() }
    }

    /// Carries out what a step asked for, as far as it may happen already.
    pub fn carry_out(&mut self, outputs: Vec<Output>, shell: &mut impl Shell) {
        for output in outputs {
            match output {
                Output::Persist { batch, rows } => {
                    self.asked = batch;
                    shell.store(batch, rows);
                }
                Output::Send { at_once: true, .. } => shell.perform(output),
                Output::Publish { .. }
                | Output::Send { .. }
                | Output::Verdict { .. }
                | Output::Order(_)
                | Output::Fetch { .. }
                | Output::Enrol(_)
                | Output::Reply { .. }
                | Output::Tell(_) => {
                    let at_once = self.planted.has(Bug::SendBeforeStore);
                    if at_once || (self.asked <= self.durable && self.held.is_empty()) {
                        shell.perform(output);
                    } else {
                        self.held.push_back((self.asked, output));
                    }
                }
            }
        }
    }

    /// A batch, and so every earlier one, is durable: what waited for it happens now.
    pub fn stored(&mut self, batch: u64, shell: &mut impl Shell) {
        self.durable = self.durable.max(batch);
        while self.held.front().is_some_and(|(after, _)| *after <= self.durable) {
            if let Some((_, output)) = self.held.pop_front() {
                shell.perform(output);
            }
        }
    }

    /// How many orders wait for a write.
    pub fn waiting(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Recorder(Vec<String>);

    impl Shell for Recorder {
        fn store(&mut self, batch: u64, _rows: Batch) {
            self.0.push(format!("store {batch}"));
        }

        fn perform(&mut self, output: Output) {
            if let Output::Fetch { .. } = output {
                self.0.push("fetch".to_owned());
            }
        }
    }

    fn persist(batch: u64) -> Output {
        Output::Persist { batch, rows: Batch::default() }
    }

    #[test]
    fn nothing_happens_before_the_write_ahead_of_it_is_durable() {
        let (mut drive, mut shell) = (Drive::new(), Recorder::default());
        let fetch = || Output::Fetch { from: None };
        drive.carry_out(vec![fetch(), persist(1), fetch()], &mut shell);
        drive.carry_out(vec![persist(2), fetch()], &mut shell);
        assert_eq!(shell.0, ["fetch", "store 1", "store 2"]);
        drive.stored(1, &mut shell);
        assert_eq!(shell.0, ["fetch", "store 1", "store 2", "fetch"]);
        drive.stored(2, &mut shell);
        assert_eq!(shell.0.len(), 5);
        assert_eq!(drive.waiting(), 0);
    }
}
