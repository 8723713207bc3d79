//! What the gates and the approval say.

use muster_core::coordination::approval::{Judgement, judge};
use muster_core::gate::{self, Blocked, Gate, Reason};
use muster_core::id::RolloutId;
use muster_core::ledger::Derived;

use super::{Story, host};

impl Story {
    pub(crate) fn admit(&self, id: &RolloutId, name: &str) -> Result<(), Blocked> {
        gate::admit(&self.view(), self.ledger.plan(id).unwrap(), &host(name), self.now)
    }

    /// What one gate says, whatever the others do.
    pub(crate) fn asks(&self, which: Gate, id: &RolloutId, name: &str) -> Result<(), Reason> {
        let (_, gate) = gate::GATES.iter().find(|(gate, _)| *gate == which).unwrap();
        gate(&self.view(), self.ledger.plan(id).unwrap(), &host(name), self.now).map_err(|blocked| {
            assert_eq!(blocked.gate, which);
            blocked.reason
        })
    }

    pub(crate) fn judges(&self, derived: &Derived) -> Judgement {
        judge(&self.view(), derived, self.now)
    }

    /// Alarms since this was last asked.
    pub(crate) fn alarms(&mut self) -> Vec<String> {
        let happenings = self.ledger.take_happenings().into_iter();
        let alarms = happenings.filter_map(|it| match it {
            muster_core::ledger::Happening::Alarm { message } => Some(message),
            muster_core::ledger::Happening::HostMoved { .. }
            | muster_core::ledger::Happening::RolloutMoved { .. } => None,
        });
        alarms.collect()
    }
}

/// Asserts that a gate lets through.
#[track_caller]
pub(crate) fn admitted(answer: Result<(), Reason>) {
    assert_eq!(answer, Ok(()));
}

/// Asserts why a gate holds back.
#[track_caller]
pub(crate) fn blocked(answer: Result<(), Reason>, reason: Reason) {
    assert_eq!(answer, Err(reason));
}
