//! What a host reports about itself: the events of its signed feed.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::id::{Closure, ProbeName, RolloutId};

/// The most of an activation's standard error that an event carries, in bytes.
pub const STDERR_TAIL_BYTES_MAX: usize = 4096;
/// The most of a probe's failure reason that an event carries, in bytes.
pub const FAILURE_REASON_BYTES_MAX: usize = 512;

/// The payload of one feed envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FeedBody {
    /// Something that happened in a rollout.
    Rollout(HostEvent),
    /// The first event of a new incarnation.
    Incarnation(IncarnationStarted),
}

/// The first event of a new incarnation: it ends the host's older open records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub struct IncarnationStarted {
    /// What the host runs now, if its backend can tell.
    pub current_closure: Option<Closure>,
    /// When the incarnation began.
    pub started_at: DateTime<Utc>,
}

/// One event of one host in one rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEvent {
    /// The rollout that it belongs to.
    pub rollout_id: RolloutId,
    /// Counts this host's events in this rollout from 1.
    pub seq: u64,
    /// What happened.
    #[serde(flatten)]
    pub kind: HostEventKind,
}

/// What can happen to a host in a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum HostEventKind {
    /// The host accepted a certified dispatch and will activate its target.
    DispatchAck {
        /// What ran then: where a rollback goes, unless it is the target itself.
        current_closure_at_dispatch: Option<Closure>,
        /// When the dispatch was accepted.
        received_at: DateTime<Utc>,
        /// The log index of the accepted dispatch.
        log_index: u64,
    },
    /// The host refuses to act on a dispatch.
    DispatchRejected {
        /// Why.
        reason: RejectReason,
        /// When.
        rejected_at: DateTime<Utc>,
        /// The log index of the refused dispatch.
        log_index: u64,
    },
    /// The backend is about to be called.
    ActivationStarted {
        /// When.
        started_at: DateTime<Utc>,
        /// How the backend switches, in its own words.
        switch_method: String,
        /// The boot id of the machine, which tells a reboot from a restart of the agent.
        boot_id: String,
    },
    /// The switch is done and the host runs its target.
    ActivationCompleted {
        /// What the backend says runs now.
        observed_current_closure: Closure,
        /// The exit code of the switch.
        exit_code: i32,
        /// When.
        completed_at: DateTime<Utc>,
    },
    /// The switch did not work.
    ActivationFailed {
        /// The exit code of the switch; -1 if there is none.
        exit_code: i32,
        /// The end of what the switch wrote, at most [`STDERR_TAIL_BYTES_MAX`].
        stderr_tail: String,
        /// When.
        failed_at: DateTime<Utc>,
    },
    /// The target is set for the next boot, since a component cannot be swapped on a running system.
    ActivationDeferred {
        /// The component.
        component: String,
        /// When.
        deferred_at: DateTime<Utc>,
    },
    /// The probes that this host will run for this rollout.
    ProbeTopologyDeclared {
        /// Every probe, also the disabled ones.
        probes: Vec<DeclaredProbe>,
        /// When.
        declared_at: DateTime<Utc>,
    },
    /// The first result of a probe since the activation.
    ProbeObservedFirst {
        /// The probe.
        probe_name: ProbeName,
        /// Its declared mode.
        mode: ProbeMode,
        /// When.
        observed_at: DateTime<Utc>,
    },
    /// One run of a probe.
    ProbeResult {
        /// The probe.
        probe_name: ProbeName,
        /// Its declared mode.
        mode: ProbeMode,
        /// How it went.
        status: ProbeStatus,
        /// When.
        observed_at: DateTime<Utc>,
        /// Why it failed, at most [`FAILURE_REASON_BYTES_MAX`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure_reason: Option<String>,
        /// One result per control of an evidence probe.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sub_results: Option<Vec<SubResult>>,
    },
    /// A probe began to fail: the clock of sustained failure starts here.
    ProbeFailureFirst {
        /// The probe.
        probe_name: ProbeName,
        /// Its declared mode.
        mode: ProbeMode,
        /// When.
        first_failed_at: DateTime<Utc>,
    },
    /// The host's health failed, or it left its target while it soaked.
    Failed {
        /// When.
        failed_at: DateTime<Utc>,
        /// For how long an enforced probe had failed, in seconds.
        sustained_duration_secs: u64,
        /// The probes that failed; empty only if the host left its target.
        failing_probes: Vec<ProbeName>,
        /// The policy that the operator signed.
        policy_applied: HealthPolicy,
    },
    /// The rollback has ended.
    RollbackComplete {
        /// What the backend says runs now.
        reverted_to_closure: Closure,
        /// The exit code of the rollback.
        exit_code: i32,
        /// When.
        completed_at: DateTime<Utc>,
    },
    /// The host soaked on its target with its probes passing.
    Converged {
        /// When.
        converged_at: DateTime<Utc>,
        /// What the backend says runs now.
        current_closure: Closure,
    },
}

impl HostEventKind {
    /// The event's name, as on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::DispatchAck { .. } => "DispatchAck",
            Self::DispatchRejected { .. } => "DispatchRejected",
            Self::ActivationStarted { .. } => "ActivationStarted",
            Self::ActivationCompleted { .. } => "ActivationCompleted",
            Self::ActivationFailed { .. } => "ActivationFailed",
            Self::ActivationDeferred { .. } => "ActivationDeferred",
            Self::ProbeTopologyDeclared { .. } => "ProbeTopologyDeclared",
            Self::ProbeObservedFirst { .. } => "ProbeObservedFirst",
            Self::ProbeResult { .. } => "ProbeResult",
            Self::ProbeFailureFirst { .. } => "ProbeFailureFirst",
            Self::Failed { .. } => "Failed",
            Self::RollbackComplete { .. } => "RollbackComplete",
            Self::Converged { .. } => "Converged",
        }
    }

    /// Whether the event stays in the outbound queue until a quorum of coordinators has stored it.
    pub fn durable(&self) -> bool {
        !matches!(
            self,
            Self::ProbeObservedFirst { .. } | Self::ProbeResult { .. } | Self::ProbeFailureFirst { .. }
        )
    }
}

/// A probe as its host declared it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredProbe {
    /// Its name.
    pub probe_name: ProbeName,
    /// What kind of probe it is, for people.
    pub kind: String,
    /// Whether it gates.
    pub mode: ProbeMode,
}

/// Whether a probe gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeMode {
    /// Its failure fails the host.
    Enforce,
    /// It is run and recorded, and never gates.
    Observe,
    /// It is declared and not run.
    Disabled,
}

/// How a run of a probe went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeStatus {
    /// Healthy.
    Pass,
    /// Not healthy, or the probe itself could not be run.
    Fail,
}

/// The result of one control of an evidence probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubResult {
    /// The control.
    pub control_id: String,
    /// How it went.
    pub status: ProbeStatus,
    /// The framework that the control belongs to.
    pub framework: String,
    /// The article of the framework.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub article: Option<String>,
    /// The mode after overrides.
    pub effective_mode: ProbeMode,
    /// Why the mode was overridden.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub override_reason: Option<String>,
}

/// What a host does when its health fails, as the operator signed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthPolicy {
    /// Stay, and stop the rollout.
    Halt,
    /// Go back to what ran before, and stop the rollout.
    RollbackAndHalt,
}

/// Why a host refuses a dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// The rollout's channel ref is not held.
    UnknownRollout,
    /// No quorum signed the dispatch.
    NoCertificate,
    /// The dispatch is past its `not_after`.
    TooLate,
    /// The operators signed another closure for this host.
    NotMyTarget,
    /// The current operators do not sign the channel ref.
    RefSignature,
    /// The channel ref has expired.
    RefExpired,
    /// The channel ref is outside its channel's freshness window.
    RefStale,
    /// A newer ref already ran on this channel.
    RefDowngrade,
    /// The closure is quarantined on the channel.
    Quarantined,
    /// The host's own entry in the roster is gone.
    Revoked,
    /// Another rollout of this host is in flight.
    Busy,
    /// The activation backend refuses the closure.
    Backend,
    /// The host's own clock is off by more than the bound.
    Clock,
}

impl RejectReason {
    /// The reason's name, as on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownRollout => "unknown_rollout",
            Self::NoCertificate => "no_certificate",
            Self::TooLate => "too_late",
            Self::NotMyTarget => "not_my_target",
            Self::RefSignature => "ref_signature",
            Self::RefExpired => "ref_expired",
            Self::RefStale => "ref_stale",
            Self::RefDowngrade => "ref_downgrade",
            Self::Quarantined => "quarantined",
            Self::Revoked => "revoked",
            Self::Busy => "busy",
            Self::Backend => "backend",
            Self::Clock => "clock",
        }
    }
}
