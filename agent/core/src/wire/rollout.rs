//! The coordinators' log entries and the decisions that follow from them.

use chrono::{DateTime, Utc};
use muster_signing::Digest;
use serde::{Deserialize, Serialize};

use super::HostState;
use crate::id::{ChannelId, ChannelRef, Closure, FleetName, HostId, OperatorName, RolloutId};

/// The version of the reducer that this program applies to new entries.
pub const RULES: u32 = 1;
/// The version of decisions that this program writes and reads.
pub const DECISION_VERSION: u32 = 1;

/// The payload of one log entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogPayload {
    /// The version of the reducer to apply.
    pub rules: u32,
    /// What is said.
    pub what: LogStatement,
}

/// What a log entry says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "snake_case", deny_unknown_fields)]
pub enum LogStatement {
    /// One batch of rollout events, applied in order.
    Rollout {
        /// The events.
        events: Vec<RolloutEvent>,
    },
    /// From here on the document counts for plans, excuses, promotions, clearances and rosters.
    DocumentAdopted {
        /// Fleet document, channel ref or command.
        kind: DocumentKind,
        /// The channel of a channel ref.
        channel: Option<ChannelId>,
        /// The document's serial.
        serial: u64,
        /// SHA-256 of the document's bytes.
        hash: Digest,
    },
    /// From here on entries are of another version of the reducer.
    RulesRaised {
        /// The version, one above that of this entry.
        rules: u32,
        /// A heartbeat of every coordinator that announces it, as each signed it.
        announced: Vec<serde_bytes::ByteBuf>,
    },
    /// The decision is given up: who has not signed it never will.
    Withdrawn {
        /// The entry that the decision follows from.
        log_index: u64,
        /// Its place among that entry's decisions.
        ordinal: u32,
    },
    /// Each coordinator notes what the log led to up to here, so that it can take the place of the entries.
    SnapshotAsked {},
}

/// The kinds of signed documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentKind {
    /// `muster/fleet/1`.
    Fleet,
    /// `muster/channel-ref/1`.
    ChannelRef,
    /// `muster/command/1`.
    Command,
}

/// What a rollout goes through; hosts never emit these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum RolloutEvent {
    /// A newly signed channel ref was accepted.
    RolloutOpened {
        /// The rollout.
        rollout_id: RolloutId,
        /// Its channel.
        channel: ChannelId,
        /// Its ref.
        target_ref: ChannelRef,
        /// When the leader said so.
        at: DateTime<Utc>,
    },
    /// The host is dispatched into the rollout.
    HostJoined {
        /// The rollout.
        rollout_id: RolloutId,
        /// The host.
        host_id: HostId,
        /// The host's wave, from 0.
        wave: u32,
        /// When the leader said so.
        at: DateTime<Utc>,
    },
    /// A mirrored host moved, or counts as failed by its silence.
    HostStateChanged {
        /// The rollout.
        rollout_id: RolloutId,
        /// The host.
        host_id: HostId,
        /// The state that the log knew.
        from: HostState,
        /// The state that it is in now.
        to: HostState,
        /// What stands behind the claim.
        cause: Cause,
        /// When the leader said so.
        at: DateTime<Utc>,
    },
    /// All of a wave is done; `to_wave == from_wave` says that no wave is left.
    WaveAdvanced {
        /// The rollout.
        rollout_id: RolloutId,
        /// The wave that is done, from 0.
        from_wave: u32,
        /// The wave that begins.
        to_wave: u32,
        /// When the leader said so.
        at: DateTime<Utc>,
    },
    /// Every host of every wave is Converged or excused.
    RolloutTerminal {
        /// The rollout.
        rollout_id: RolloutId,
        /// When the leader said so.
        at: DateTime<Utc>,
    },
    /// The predecessor closes, so that the successor can open.
    SuccessorOpened {
        /// The rollout that closes.
        superseded_rollout_id: RolloutId,
        /// The rollout that opens.
        successor_rollout_id: RolloutId,
        /// When the leader said so.
        at: DateTime<Utc>,
    },
    /// The record may be pruned.
    RetentionExpired {
        /// The rollout.
        rollout_id: RolloutId,
        /// When the leader said so.
        at: DateTime<Utc>,
    },
    /// An operator's signed override.
    OperatorClearance {
        /// The rollout.
        rollout_id: RolloutId,
        /// Who signed it.
        operator: OperatorName,
        /// Why.
        reason: String,
        /// When the leader said so.
        at: DateTime<Utc>,
    },
    /// An operator's signed stop; hosts in flight finish by themselves.
    RolloutCancelled {
        /// The rollout.
        rollout_id: RolloutId,
        /// Who signed it.
        operator: OperatorName,
        /// Why.
        reason: String,
        /// When the leader said so.
        at: DateTime<Utc>,
    },
}

impl RolloutEvent {
    /// The event's name, as on the wire.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::RolloutOpened { .. } => "RolloutOpened",
            Self::HostJoined { .. } => "HostJoined",
            Self::HostStateChanged { .. } => "HostStateChanged",
            Self::WaveAdvanced { .. } => "WaveAdvanced",
            Self::RolloutTerminal { .. } => "RolloutTerminal",
            Self::SuccessorOpened { .. } => "SuccessorOpened",
            Self::RetentionExpired { .. } => "RetentionExpired",
            Self::OperatorClearance { .. } => "OperatorClearance",
            Self::RolloutCancelled { .. } => "RolloutCancelled",
        }
    }

    /// The rollout whose record the event changes.
    pub fn rollout_id(&self) -> &RolloutId {
        match self {
            Self::RolloutOpened { rollout_id, .. }
            | Self::HostJoined { rollout_id, .. }
            | Self::HostStateChanged { rollout_id, .. }
            | Self::WaveAdvanced { rollout_id, .. }
            | Self::RolloutTerminal { rollout_id, .. }
            | Self::SuccessorOpened { superseded_rollout_id: rollout_id, .. }
            | Self::RetentionExpired { rollout_id, .. }
            | Self::OperatorClearance { rollout_id, .. }
            | Self::RolloutCancelled { rollout_id, .. } => rollout_id,
        }
    }

    /// When the leader said so.
    pub fn at(&self) -> DateTime<Utc> {
        match self {
            Self::RolloutOpened { at, .. }
            | Self::HostJoined { at, .. }
            | Self::HostStateChanged { at, .. }
            | Self::WaveAdvanced { at, .. }
            | Self::RolloutTerminal { at, .. }
            | Self::SuccessorOpened { at, .. }
            | Self::RetentionExpired { at, .. }
            | Self::OperatorClearance { at, .. }
            | Self::RolloutCancelled { at, .. } => *at,
        }
    }
}

/// Where an envelope stands in its host's feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvelopeRef {
    /// The incarnation of the host.
    pub incarnation: u64,
    /// The position in that incarnation's feed, from 1.
    pub seq: u64,
    /// SHA-256 of the envelope's bytes.
    pub hash: Digest,
}

/// What stands behind a claim that a host moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case", deny_unknown_fields)]
pub enum Cause {
    /// The host said so itself.
    Reported {
        /// The envelope in which it did.
        envelope: EnvelopeRef,
    },
    /// The host fell silent in flight for longer than the policy's `lostAfterSeconds`.
    Lost,
    /// The host refused its dispatch twice.
    Rejected,
    /// Two dispatches expired while the host was online.
    Expired,
    /// The host did not end by its activation timeout, soak and twice the sustained-failure time.
    Overdue,
    /// The host did not hold its target after the policy's `fetchTimeoutSeconds`.
    NotFetched,
    /// The host's own feed bears out nothing of what an earlier leader had claimed of it.
    Unfounded,
}

impl Cause {
    /// Whether nobody said so: it follows from time that passed, by the clock of whoever led.
    pub fn is_reckoned(&self) -> bool {
        match self {
            Self::Reported { .. } => false,
            Self::Lost
            | Self::Rejected
            | Self::Expired
            | Self::Overdue
            | Self::NotFetched
            | Self::Unfounded => true,
        }
    }
}

/// The id of a decision within its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionId {
    /// The entry that the decision follows from.
    pub log_index: u64,
    /// Its place among that entry's decisions, from 0.
    pub ordinal: u32,
}

/// A pure consequence of the committed log, which coordinators sign byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// [`DECISION_VERSION`].
    pub v: u32,
    /// The fleet.
    pub fleet: FleetName,
    /// The epoch of the log.
    pub epoch: Digest,
    /// The fleet document whose electorate decides.
    pub fleet_serial: u64,
    /// The entry that the decision follows from.
    pub log_index: u64,
    /// Its place among that entry's decisions, from 0.
    pub ordinal: u32,
    /// What is decided.
    pub body: DecisionBody,
}

impl Decision {
    /// The decision's id within its epoch.
    pub fn id(&self) -> DecisionId {
        DecisionId { log_index: self.log_index, ordinal: self.ordinal }
    }
}

/// What is decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum DecisionBody {
    /// The host may activate its target now.
    Dispatch {
        /// The host.
        host: HostId,
        /// The rollout.
        rollout_id: RolloutId,
        /// What the operators signed for this host.
        target_closure: Closure,
        /// The host's wave, from 0.
        wave: u32,
        /// The entry's time plus the soak.
        soak_due_at: DateTime<Utc>,
        /// How long the host soaks after its activation, in seconds of uptime.
        soak_secs: u64,
        /// Past this the host refuses.
        not_after: DateTime<Utc>,
    },
    /// The closure is barred from the channel.
    Quarantine {
        /// The channel.
        channel: ChannelId,
        /// The closure.
        closure: Closure,
        /// The rollout in which it failed.
        rollout_id: RolloutId,
        /// The host on which it failed.
        host: HostId,
        /// The envelope in which the host said so.
        evidence: EnvelopeRef,
    },
    /// The rollout moved, or its wave did (`from == to`).
    RolloutTransition {
        /// The rollout.
        rollout_id: RolloutId,
        /// The state before; none when it opens.
        from: Option<RolloutState>,
        /// The state after.
        to: RolloutState,
        /// The current wave after it, from 0.
        wave: u32,
        /// The entry's time.
        at: DateTime<Utc>,
    },
    /// An earlier decision is given up.
    Withdrawn {
        /// The decision.
        decision: DecisionId,
    },
    /// The log led to this: it can take the place of the entries up to the one that it follows from.
    LogSnapshot {
        /// SHA-256 of the snapshot.
        digest: Digest,
    },
}

impl DecisionBody {
    /// The decision's name, as on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Dispatch { .. } => "Dispatch",
            Self::Quarantine { .. } => "Quarantine",
            Self::RolloutTransition { .. } => "RolloutTransition",
            Self::Withdrawn { .. } => "Withdrawn",
            Self::LogSnapshot { .. } => "LogSnapshot",
        }
    }
}

/// The states of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RolloutState {
    /// Accepted; nobody is dispatched yet.
    Opening,
    /// A wave is under way.
    Active,
    /// Every wave is done; what is left is to close.
    Converging,
    /// Every host of every wave is Converged or excused.
    Terminal,
    /// Too many hosts failed, and went back.
    Reverted,
    /// Too many hosts failed, or an operator cancelled it.
    Failed,
    /// A newer ref took its place.
    Superseded,
    /// Kept past its retention.
    Pruned,
}

impl RolloutState {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Opening,
        Self::Active,
        Self::Converging,
        Self::Terminal,
        Self::Reverted,
        Self::Failed,
        Self::Superseded,
        Self::Pruned,
    ];

    /// Whether the rollout may still dispatch or wait for hosts.
    pub fn is_open(self) -> bool {
        match self {
            Self::Opening | Self::Active | Self::Converging => true,
            Self::Terminal | Self::Reverted | Self::Failed | Self::Superseded | Self::Pruned => false,
        }
    }

    /// The state's name, as on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Opening => "Opening",
            Self::Active => "Active",
            Self::Converging => "Converging",
            Self::Terminal => "Terminal",
            Self::Reverted => "Reverted",
            Self::Failed => "Failed",
            Self::Superseded => "Superseded",
            Self::Pruned => "Pruned",
        }
    }
}
