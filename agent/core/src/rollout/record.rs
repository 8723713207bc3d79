//! What the log says of one rollout.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::id::{ChannelId, ChannelRef, Closure, HostId, OperatorName, RolloutId};
use crate::wire::{Cause, EnvelopeRef, HostState, RolloutState};

/// How long a rollout that is over is kept unless the configuration says otherwise, in seconds: 90 days.
pub const RETENTION_SECS: u64 = 90 * 24 * 60 * 60;

/// One rollout, derived from the log alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The rollout.
    pub rollout_id: RolloutId,
    /// Its channel.
    pub channel: ChannelId,
    /// Its ref.
    pub target_ref: ChannelRef,
    /// Where it stands.
    pub state: RolloutState,
    /// The wave that is under way, from 0; never goes back.
    pub current_wave: u32,
    /// The entry that opened it.
    pub opened_log_index: u64,
    /// The entry of its last change of state.
    pub last_transition_log_index: u64,
    /// When it opened.
    pub opened_at: DateTime<Utc>,
    /// When it was Terminal.
    pub terminal_at: Option<DateTime<Utc>>,
    /// When a newer one took its place.
    pub superseded_at: Option<DateTime<Utc>>,
    /// The hosts that were dispatched, failed or were excused.
    pub hosts: BTreeMap<HostId, HostEntry>,
    /// The closures for which a quarantine was asked already.
    pub quarantined: BTreeSet<Closure>,
    /// What operators said, in order.
    pub overrides: Vec<Override>,
}

/// What the log says of one host in the rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostEntry {
    /// Its wave, from 0.
    pub wave: u32,
    /// The last state that the log knows; Pending for a host that did nothing yet.
    pub state: HostState,
    /// Since when, by the log.
    pub since: DateTime<Utc>,
    /// The entry of its newest dispatch; none if it was never dispatched.
    pub dispatch: Option<u64>,
    /// Past this the host refuses that dispatch.
    pub not_after: Option<DateTime<Utc>>,
    /// Whether that dispatch was given up.
    pub withdrawn: bool,
    /// Why it failed; a rollback keeps the failure's cause.
    pub cause: Option<Cause>,
    /// The envelope that the claim of its state names.
    pub evidence: Option<EnvelopeRef>,
    /// Why the rollout does not wait for it.
    pub excused: Option<Excuse>,
}

/// Why a rollout does not wait for a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Excuse {
    /// It was not heard of before it could be dispatched.
    Offline,
    /// Its wave or the rollout went on without it, by an operator's word or since it left the channel.
    Skipped,
    /// It failed or reverted, and the policy allows for as many.
    WithinMaxFailures,
    /// It waits for its reboot: its wave is done, the rollout waits until the deferral runs out of time.
    Deferred,
    /// It waited for its reboot for longer than the policy allows.
    DeferredTooLong,
    /// An operator let the rollout go on without it; its failure counts no more.
    Cleared,
}

/// What an operator said about the rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// What is to happen.
    pub verb: Verb,
    /// Who signed it.
    pub operator: OperatorName,
    /// Why.
    pub reason: String,
    /// The entry's time.
    pub at: DateTime<Utc>,
}

/// What an operator can say about a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// It stops.
    Cancel,
    /// It goes on although too many failed.
    Clear,
}

impl HostEntry {
    /// A host that the log had not spoken of.
    pub(super) fn new(wave: u32, at: DateTime<Utc>) -> Self {
        Self {
            wave,
            state: HostState::Pending,
            since: at,
            dispatch: None,
            not_after: None,
            withdrawn: false,
            cause: None,
            evidence: None,
            excused: None,
        }
    }

    /// Whether the host failed and no operator cleared it.
    pub fn counts_as_failed(&self) -> bool {
        let failed = matches!(self.state, HostState::Failed | HostState::Reverted);
        failed && self.excused != Some(Excuse::Cleared)
    }

    /// Whether the host may be dispatched at that time: it did nothing yet, and no earlier dispatch can start anything.
    ///
    /// One that was only reckoned to have failed, by a leader's clock or since it was not heard of, may have come back.
    pub fn is_dispatchable(&self, at: DateTime<Utc>) -> bool {
        let expired = self.not_after.is_none_or(|not_after| at > not_after);
        let reckoned = self.state == HostState::Failed && self.cause.as_ref().is_some_and(Cause::is_reckoned);
        (self.state == HostState::Pending || reckoned)
            && (self.dispatch.is_none() || self.withdrawn || expired)
    }
}

impl Record {
    /// How many hosts failed, those that an operator cleared left out.
    pub fn failures(&self) -> usize {
        self.hosts.values().filter(|entry| entry.counts_as_failed()).count()
    }

    /// When the log last heard anything of it.
    pub fn last_heard_at(&self) -> DateTime<Utc> {
        let hosts = self.hosts.values().map(|entry| entry.since);
        let people = self.overrides.iter().map(|said| said.at);
        let ends = self.terminal_at.into_iter().chain(self.superseded_at);
        ends.chain(hosts).chain(people).fold(self.opened_at, DateTime::max)
    }

    /// Whether every host of it came to its end, also if that was so long ago that it was pruned.
    pub fn came_to_its_end(&self) -> bool {
        let pruned =
            self.state == RolloutState::Pruned && self.terminal_at.is_some() && self.superseded_at.is_none();
        self.state == RolloutState::Terminal || pruned
    }

    /// Whether it is Failed by an operator's word.
    pub fn is_cancelled(&self) -> bool {
        self.state == RolloutState::Failed
            && self.overrides.last().is_some_and(|last| last.verb == Verb::Cancel)
    }
}
