//! The simulator's door to the log: what a leader enters there is a claim, and any leader may claim anything.

use super::Node;
use super::door::Output;
use super::turn::Turn;
use crate::time::Now;
use crate::wire::{LogPayload, codec};

impl Node {
    /// Has a leading coordinator enter what it is given, whatever its planner says; another one does nothing.
    #[must_use = "what a step asks for is owed"]
    pub fn enter(&mut self, now: Now, payloads: &[LogPayload]) -> Vec<Output> {
        let mut turn = Turn::new(now);
        let payloads = payloads.iter().map(codec::encode).collect();
        if let Some(coordinator) = self.coordinator.as_mut().filter(|it| it.leads())
            && let Ok((_, ready)) = coordinator.log.propose(now, payloads)
        {
            self.absorb(&mut turn, ready);
        }
        self.finish(turn)
    }
}
