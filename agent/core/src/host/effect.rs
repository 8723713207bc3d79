//! What a step of the host machine asks for; the type says which side may carry it out.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::id::{ChannelId, Closure, HostId, RolloutId};
use crate::wire::{DecisionBody, HostEvent, HostState};

/// An effect that both sides have, or one of the role `R`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect<R> {
    /// The host moved.
    RecordTransition {
        /// The host.
        host: HostId,
        /// In this rollout.
        rollout_id: RolloutId,
        /// The state before.
        from: HostState,
        /// The state after.
        to: HostState,
        /// When, as the event says.
        at: DateTime<Utc>,
    },
    /// A number for the metrics.
    EmitMetric {
        /// The metric's name.
        name: &'static str,
        /// Its labels.
        labels: BTreeMap<&'static str, String>,
        /// Its value.
        value: i64,
    },
    /// A line for people.
    EmitLog {
        /// How much it matters.
        level: Level,
        /// The part of the program that speaks.
        target: &'static str,
        /// What it says.
        message: &'static str,
        /// What it speaks of.
        fields: BTreeMap<&'static str, String>,
    },
    /// An effect of the role.
    Role(R),
}

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A person must act.
    Error,
    /// It mends itself, but should not be.
    Warn,
    /// A few per rollout.
    Info,
    /// One per message.
    Debug,
}

/// What a host does about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalEffect {
    /// Switches to the target.
    FireSwitch {
        /// For this rollout.
        rollout_id: RolloutId,
        /// The target.
        target: Closure,
    },
    /// Goes back to what ran before.
    FireRollbackTo {
        /// For this rollout.
        rollout_id: RolloutId,
        /// What ran before.
        closure: Closure,
    },
    /// Stops every probe, reads their declaration again, declares them and starts them anew.
    ResetProbeCache {
        /// For this rollout.
        rollout_id: RolloutId,
    },
    /// Signs the event, stores it in the feed and publishes it.
    EmitEvent {
        /// In this rollout.
        rollout_id: RolloutId,
        /// The event.
        payload: HostEvent,
        /// Whether it stays in the outbound queue until a quorum has stored it.
        durable: bool,
    },
}

/// A dispatch that waits for this coordinator's gates and signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedDispatch {
    /// The host.
    pub host: HostId,
    /// Into this rollout.
    pub rollout_id: RolloutId,
    /// What the operators signed for the host.
    pub target_closure: Closure,
    /// The host's wave, from 0.
    pub wave: u32,
    /// The entry's time plus the soak.
    pub soak_due_at: DateTime<Utc>,
    /// How long the host soaks after its activation, in seconds of uptime.
    pub soak_secs: u64,
    /// Past this the host refuses.
    pub not_after: DateTime<Utc>,
}

impl QueuedDispatch {
    /// The decision that is signed.
    pub fn into_decision(self) -> DecisionBody {
        let Self { host, rollout_id, target_closure, wave, soak_due_at, soak_secs, not_after } = self;
        DecisionBody::Dispatch { host, rollout_id, target_closure, wave, soak_due_at, soak_secs, not_after }
    }
}

/// What a coordinator does about a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteEffect {
    /// Asks the gates and, if they agree, signs the dispatch.
    QueueDispatch(QueuedDispatch),
    /// Takes the closure as suspect on this node.
    InsertQuarantine {
        /// On this channel.
        channel: ChannelId,
        /// The closure.
        closure: Closure,
    },
    /// Opens the host's record, or refreshes it if it is Pending.
    OpenRolloutRecord {
        /// Of this rollout.
        rollout_id: RolloutId,
        /// On this channel.
        channel: ChannelId,
        /// The host.
        host: HostId,
    },
    /// Appends the event to the log of what was learned.
    AppendEventLog {
        /// Whose event.
        host: HostId,
        /// In this rollout.
        rollout_id: RolloutId,
        /// The event.
        payload: HostEvent,
    },
}
