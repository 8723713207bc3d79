//! Why the host machine refuses an event; the record stays as it was.

use chrono::{DateTime, Utc};

use crate::id::{Closure, ProbeName, RolloutId};
use crate::wire::{HealthPolicy, HostState, ProbeMode, ProbeStatus};

/// Why an event was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// The event is of another rollout than the record.
    #[error("the event is of {event}, the record is of {record}")]
    OtherRollout {
        /// The event's rollout.
        event: RolloutId,
        /// The record's rollout.
        record: RolloutId,
    },
    /// The event is not newer than what the record holds.
    #[error("event {got} is not after event {last}")]
    SeqRegression {
        /// The event's number.
        got: u64,
        /// The last number that was applied.
        last: u64,
    },
    /// Events are missing before this one; a mirror fetches them.
    #[error("event {expected} is missing before event {got}")]
    SeqGap {
        /// The number that comes next.
        expected: u64,
        /// The event's number.
        got: u64,
    },
    /// The machine has no such pair.
    #[error("{event} does not happen to a host that is {}", from.name())]
    IllegalForState {
        /// The state.
        from: HostState,
        /// The event's name.
        event: &'static str,
    },
    /// The pair exists, and what the event claims cannot be.
    #[error(transparent)]
    Invariant(#[from] Invariant),
}

/// A claim that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invariant {
    /// The record knows no dispatch of that log index.
    #[error("no dispatch of log index {log_index} is known")]
    DispatchUnknown {
        /// The index that the event names.
        log_index: u64,
    },
    /// A host that is not on its target neither soaks nor converges.
    #[error("{observed} runs, the target is {target}")]
    OffTarget {
        /// What should run.
        target: Closure,
        /// What runs.
        observed: Closure,
    },
    /// A switch that failed is not complete.
    #[error("the switch ended with {exit_code}")]
    SwitchFailed {
        /// The switch's exit code.
        exit_code: i32,
    },
    /// The record does not say when the soak began.
    #[error("the activation is not complete")]
    ActivationNotComplete,
    /// The soak is not over.
    #[error("converged at {converged_at}, before the soak ends at {due_at}")]
    SoakNotOver {
        /// When the host says it converged.
        converged_at: DateTime<Utc>,
        /// When the soak ends.
        due_at: DateTime<Utc>,
    },
    /// Nobody knows yet which probes there are.
    #[error("the probes were not declared")]
    ProbesNotDeclared,
    /// The probe is not in the declared set.
    #[error("probe {probe_name} was not declared")]
    ProbeNotDeclared {
        /// The probe.
        probe_name: ProbeName,
    },
    /// The set names a probe twice.
    #[error("probe {probe_name} is declared twice")]
    ProbeDeclaredTwice {
        /// The probe.
        probe_name: ProbeName,
    },
    /// The probe was declared in another mode.
    #[error("probe {probe_name} was declared {declared:?}, the event says {got:?}")]
    OtherProbeMode {
        /// The probe.
        probe_name: ProbeName,
        /// Its declared mode.
        declared: ProbeMode,
        /// The mode in the event.
        got: ProbeMode,
    },
    /// A disabled probe does not run, so it has no result.
    #[error("probe {probe_name} is disabled")]
    ProbeDisabled {
        /// The probe.
        probe_name: ProbeName,
    },
    /// An enforced probe does not pass; without a status it was never seen.
    #[error("enforced probe {probe_name} does not pass: {status:?}")]
    ProbeNotPassing {
        /// The probe.
        probe_name: ProbeName,
        /// Its last status.
        status: Option<ProbeStatus>,
    },
    /// An enforced probe passed only before the activation.
    #[error(
        "enforced probe {probe_name} was last seen at {last_observed_at}, before {activation_completed_at}"
    )]
    ProbeStale {
        /// The probe.
        probe_name: ProbeName,
        /// When it was last seen.
        last_observed_at: DateTime<Utc>,
        /// When the activation was complete.
        activation_completed_at: DateTime<Utc>,
    },
    /// The host claims another policy than the operators signed.
    #[error("policy {claimed:?} was applied, {signed:?} is signed")]
    OtherPolicy {
        /// What the operators signed.
        signed: HealthPolicy,
        /// What the host says.
        claimed: HealthPolicy,
    },
}
