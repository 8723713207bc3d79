//! What was asked of one view already: the gates ask the same about a rollout for every host of it.
//!
//! A view is of one moment, so what it answered once it answers again; only hosts that the planner is about to dispatch
//! are added meanwhile, and nothing that is kept here depends on them.

use std::cell::RefCell;
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::gate::WaveState;
use crate::id::{HostId, ProbeName, RolloutId};

/// A host of a wave, and its enforced probe that fails now; none if every one passes.
type FailingProbe = Option<(HostId, ProbeName)>;

/// Answers that hold for a whole rollout or wave.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    at: RefCell<DateTime<Utc>>,
    failures: RefCell<BTreeMap<RolloutId, usize>>,
    waves: RefCell<BTreeMap<(RolloutId, u32), WaveState>>,
    failing_probes: RefCell<BTreeMap<(RolloutId, u32), FailingProbe>>,
}

impl Memo {
    /// How many hosts of the rollout count as failed.
    pub(crate) fn failures(
        &self,
        now: DateTime<Utc>,
        rollout: &RolloutId,
        count: impl FnOnce() -> usize,
    ) -> usize {
        self.keep_to(now);
        recall(&self.failures, rollout.clone(), count)
    }

    /// What the wave of the rollout is.
    pub(crate) fn wave(
        &self,
        now: DateTime<Utc>,
        rollout: &RolloutId,
        wave: u32,
        ask: impl FnOnce() -> WaveState,
    ) -> WaveState {
        self.keep_to(now);
        recall(&self.waves, (rollout.clone(), wave), ask)
    }

    /// A host of the wave with an enforced probe that fails now.
    pub(crate) fn failing_probe(
        &self,
        now: DateTime<Utc>,
        rollout: &RolloutId,
        wave: u32,
        ask: impl FnOnce() -> FailingProbe,
    ) -> FailingProbe {
        self.keep_to(now);
        recall(&self.failing_probes, (rollout.clone(), wave), ask)
    }

    fn keep_to(&self, now: DateTime<Utc>) {
        if self.at.replace(now) != now {
            self.failures.borrow_mut().clear();
            self.waves.borrow_mut().clear();
            self.failing_probes.borrow_mut().clear();
        }
    }
}

fn recall<K: Ord, V: Clone>(known: &RefCell<BTreeMap<K, V>>, of: K, ask: impl FnOnce() -> V) -> V {
    if let Some(answer) = known.borrow().get(&of) {
        return answer.clone();
    }
    let answer = ask();
    known.borrow_mut().insert(of, answer.clone());
    answer
}
