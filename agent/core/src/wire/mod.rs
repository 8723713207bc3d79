//! What travels and what is stored: the types of every signed payload, and their encoding.

pub(crate) mod claim;
pub mod codec;
mod envelope;
mod event;
mod rollout;

pub use envelope::{Envelope, FeedMark, ForkProof, Notice, NoticeBody, Presence, Received, StoreState};
pub use event::{
    DeclaredProbe, FAILURE_REASON_BYTES_MAX, FeedBody, HealthPolicy, HostEvent, HostEventKind,
    IncarnationStarted, ProbeMode, ProbeStatus, RejectReason, STDERR_TAIL_BYTES_MAX, SubResult,
};
pub use rollout::{
    Cause, DECISION_VERSION, Decision, DecisionBody, DecisionId, DocumentKind, EnvelopeRef, LogPayload,
    LogStatement, RULES, RolloutEvent, RolloutState,
};

use serde::{Deserialize, Serialize};

/// The states of a host in a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HostState {
    /// Dispatched, not acknowledged.
    Pending,
    /// The switch is owed or under way.
    Activating,
    /// The target is set for the next boot.
    Deferred,
    /// On the target, being probed.
    Soaking,
    /// Soaked and healthy on the target.
    Converged,
    /// The switch or the health failed.
    Failed,
    /// Back on what ran before.
    Reverted,
}

impl HostState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Activating,
        Self::Deferred,
        Self::Soaking,
        Self::Converged,
        Self::Failed,
        Self::Reverted,
    ];

    /// The state's name, as on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Activating => "Activating",
            Self::Deferred => "Deferred",
            Self::Soaking => "Soaking",
            Self::Converged => "Converged",
            Self::Failed => "Failed",
            Self::Reverted => "Reverted",
        }
    }
}
