//! Why the rollout machine refuses an event; the record stays as it was.

use crate::id::{HostId, RolloutId};
use crate::wire::{HostState, RolloutState};

/// Why an event of the log was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// The event is of another rollout than the plan or the record.
    #[error("the event is of {event}, the plan is of {plan}")]
    OtherRollout {
        /// The event's rollout.
        event: RolloutId,
        /// The plan's rollout.
        plan: RolloutId,
    },
    /// The machine has no such pair; without a state there is no record yet.
    #[error("{event} does not happen to rollout {rollout_id} that is {}", from.map_or("not open", RolloutState::name))]
    IllegalForState {
        /// The state.
        from: Option<RolloutState>,
        /// The event's name.
        event: &'static str,
        /// The rollout.
        rollout_id: RolloutId,
    },
    /// The channel's open rollout has to be superseded first.
    #[error("{rollout_id} cannot open before {open} is superseded")]
    SupersessionExpected {
        /// The rollout that wants to open.
        rollout_id: RolloutId,
        /// The one that is open.
        open: RolloutId,
    },
    /// A successor is on the same channel and is not the rollout itself.
    #[error("{successor} cannot succeed {superseded}")]
    NotASuccessor {
        /// The rollout that closes.
        superseded: RolloutId,
        /// The one that is said to take its place.
        successor: RolloutId,
    },
    /// The plan has no target for the host.
    #[error("{host} is not in the plan of {rollout_id}")]
    NotInPlan {
        /// The host.
        host: HostId,
        /// The rollout.
        rollout_id: RolloutId,
    },
    /// The host is in another wave of the plan.
    #[error("{host} is in wave {planned}, the event says {got}")]
    OtherWave {
        /// The host.
        host: HostId,
        /// Its wave by the plan.
        planned: u32,
        /// Its wave by the event.
        got: u32,
    },
    /// The host was never dispatched into the rollout.
    #[error("{host} was not dispatched into {rollout_id}")]
    NotJoined {
        /// The host.
        host: HostId,
        /// The rollout.
        rollout_id: RolloutId,
    },
    /// A host that ended does not move, and only a failure can be claimed without a report.
    #[error("{host} cannot go from {} to {} for that cause", from.name(), to.name())]
    IllegalMove {
        /// The host.
        host: HostId,
        /// Its state.
        from: HostState,
        /// The claimed one.
        to: HostState,
    },
    /// The wave cursor never goes back, and never past the plan.
    #[error("wave {to_wave} does not follow wave {from_wave} of {waves}")]
    NoSuchWave {
        /// The wave that is done.
        from_wave: u32,
        /// The wave that is said to begin.
        to_wave: u32,
        /// How many waves the plan has.
        waves: usize,
    },
    /// Hosts of the plan are neither Converged nor excused.
    #[error("{} hosts of {rollout_id} are neither converged nor excused", hosts.len())]
    Unfinished {
        /// The rollout.
        rollout_id: RolloutId,
        /// Those hosts.
        hosts: Vec<HostId>,
    },
}
