//! What follows from one event of the log, in the order of its decisions.

use chrono::{DateTime, Utc};

use crate::host::QueuedDispatch;
use crate::id::{ChannelId, Closure, HostId, RolloutId};
use crate::wire::{EnvelopeRef, RolloutState};

/// What a step of the rollout machine asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The rollout moved.
    RecordRolloutTransition {
        /// The rollout.
        rollout_id: RolloutId,
        /// The state before; none when it opens.
        from: Option<RolloutState>,
        /// The state after.
        to: RolloutState,
        /// The entry's time.
        at: DateTime<Utc>,
    },
    /// The wave cursor moved.
    UpdateCurrentWave {
        /// The rollout.
        rollout_id: RolloutId,
        /// The wave that begins, from 0.
        wave: u32,
    },
    /// The closure is to be barred from the channel.
    InsertQuarantineFromRollout {
        /// The channel.
        channel: ChannelId,
        /// The closure that failed.
        closure: Closure,
        /// The host on which it failed.
        host: HostId,
        /// The envelope in which that host said so.
        evidence: EnvelopeRef,
    },
    /// The rollout is over: its record may go some day.
    SchedulePruning {
        /// The rollout.
        rollout_id: RolloutId,
        /// After so long, in seconds.
        delay_secs: u64,
    },
    /// The host's record is to be opened, or refreshed if it is Pending.
    OpenRolloutRecord {
        /// Of this rollout.
        rollout_id: RolloutId,
        /// On this channel.
        channel: ChannelId,
        /// The host.
        host: HostId,
    },
    /// The host is to be dispatched, once every gate agrees.
    QueueDispatch(QueuedDispatch),
}
