//! What is known of one host in one rollout.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::after;
use crate::id::{ChannelId, Closure, HostId, ProbeName, RolloutId};
use crate::wire::{DeclaredProbe, HealthPolicy, HostState, ProbeMode, ProbeStatus, RejectReason};

/// The exit code of a switch that has none: it did not end, or nobody saw it.
pub const NO_EXIT_CODE: i32 = -1;
/// The exit code of a failed activation after which neither the target nor what ran before it was found running:
/// somebody else switched the host, so nothing is rolled back. No program can exit with it.
pub const THIRD_CLOSURE_EXIT_CODE: i32 = -2;

/// What one dispatch of the host into the rollout asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// The entry that it follows from.
    pub log_index: u64,
    /// That entry's time.
    pub dispatched_at: DateTime<Utc>,
    /// The entry's time plus the soak.
    pub soak_due_at: DateTime<Utc>,
    /// How long the host soaks after its activation, in seconds of uptime.
    pub soak_secs: u64,
}

/// What a probe's results say since the probes were declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeRecord {
    /// The last status.
    pub status: ProbeStatus,
    /// The declared mode.
    pub mode: ProbeMode,
    /// When it was last seen.
    pub last_observed_at: DateTime<Utc>,
    /// When it last passed.
    pub last_pass_at: Option<DateTime<Utc>>,
    /// Why it fails.
    pub failure_reason: Option<String>,
}

/// What a host owes after a restart, by its record alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owed {
    /// The switch to the target.
    Switch {
        /// The target.
        target: Closure,
    },
    /// The rollback to what ran before.
    Rollback {
        /// What ran before.
        closure: Closure,
    },
}

/// One host in one rollout; the same on the host and on every mirror once the host acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The rollout.
    pub rollout_id: RolloutId,
    /// The host.
    pub host: HostId,
    /// The rollout's channel.
    pub channel: ChannelId,
    /// Where the host stands.
    pub state: HostState,
    /// What it is to run.
    pub target_closure: Closure,
    /// The log index of the dispatch: the newest one, and from the acknowledgement on the acknowledged one.
    pub log_index: u64,
    /// Older dispatches that an acknowledgement on its way may still name; empty from then on.
    pub earlier_dispatches: Vec<Terms>,
    /// The dispatches that the host refused, by log index.
    pub rejected: BTreeMap<u64, RejectReason>,
    /// What ran when the dispatch was acknowledged.
    pub current_closure_at_dispatch: Option<Closure>,
    /// What the host last said that it runs.
    pub current_closure: Option<Closure>,
    /// What a rollback went back to.
    pub reverted_to: Option<Closure>,
    /// The time of the dispatch's entry.
    pub dispatched_at: DateTime<Utc>,
    /// When the host accepted the dispatch.
    pub dispatch_acked_at: Option<DateTime<Utc>>,
    /// When the backend was about to be called.
    pub activation_started_at: Option<DateTime<Utc>>,
    /// The machine's boot id at that moment.
    pub activation_boot_id: Option<String>,
    /// When the host was on its target.
    pub activation_completed_at: Option<DateTime<Utc>>,
    /// When the switch failed.
    pub activation_failed_at: Option<DateTime<Utc>>,
    /// When the first probe was seen since the probes were declared.
    pub probe_observed_first_at: Option<DateTime<Utc>>,
    /// Since when an enforced probe fails.
    pub probe_failure_first_at: Option<DateTime<Utc>>,
    /// The soak ends no sooner than this.
    pub soak_due_at: DateTime<Utc>,
    /// How long the host soaks after its activation, in seconds of uptime.
    pub soak_secs: u64,
    /// When the host converged.
    pub converged_at: Option<DateTime<Utc>>,
    /// When the host failed.
    pub failed_at: Option<DateTime<Utc>>,
    /// The policy that applied when it failed.
    pub policy_applied: Option<HealthPolicy>,
    /// Whether the host has to roll back and has not yet said how that ended.
    pub rollback_owed: bool,
    /// When the host was back on what ran before.
    pub reverted_at: Option<DateTime<Utc>>,
    /// The probes that the host runs.
    pub declared_probes: Option<Vec<DeclaredProbe>>,
    /// Their results.
    pub probes: BTreeMap<ProbeName, ProbeRecord>,
    /// The number of the last event that was applied; 0 before the first.
    pub last_event_seq: u64,
    /// What the host was when a new incarnation of it ended the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_from: Option<HostState>,
}

impl Record {
    /// Opens the record of a host that was just dispatched, by the entry `log_index`.
    #[expect(clippy::too_many_arguments, reason = "they are what a dispatch says")]
    pub fn open(
        rollout_id: RolloutId,
        host: HostId,
        channel: ChannelId,
        target_closure: Closure,
        dispatched_at: DateTime<Utc>,
        soak_due_at: DateTime<Utc>,
        soak_secs: u64,
        log_index: u64,
    ) -> Self {
        Self {
            rollout_id,
            host,
            channel,
            state: HostState::Pending,
            target_closure,
            log_index,
            earlier_dispatches: Vec::new(),
            rejected: BTreeMap::new(),
            current_closure_at_dispatch: None,
            current_closure: None,
            reverted_to: None,
            dispatched_at,
            dispatch_acked_at: None,
            activation_started_at: None,
            activation_boot_id: None,
            activation_completed_at: None,
            activation_failed_at: None,
            probe_observed_first_at: None,
            probe_failure_first_at: None,
            soak_due_at,
            soak_secs,
            converged_at: None,
            failed_at: None,
            policy_applied: None,
            rollback_owed: false,
            reverted_at: None,
            declared_probes: None,
            probes: BTreeMap::new(),
            last_event_seq: 0,
            ended_from: None,
        }
    }

    /// The record after the host was dispatched once more; unchanged unless it is Pending and the dispatch is newer.
    ///
    /// A host calls it before it answers the newer dispatch, a mirror when the log brings it.
    #[must_use]
    pub fn redispatch(
        &self,
        dispatched_at: DateTime<Utc>,
        soak_due_at: DateTime<Utc>,
        soak_secs: u64,
        log_index: u64,
    ) -> Self {
        let mut next = self.clone();
        if self.state == HostState::Pending && log_index > self.log_index {
            next.earlier_dispatches.push(self.terms());
            next.take(Terms { log_index, dispatched_at, soak_due_at, soak_secs });
        }
        next
    }

    /// The record after a dispatch of the host became known, in whatever order they do; unchanged unless it is
    /// Pending and the dispatch is new.
    #[must_use]
    pub(crate) fn dispatched_by(&self, terms: Terms) -> Self {
        let mut next = self.clone();
        if self.state != HostState::Pending || self.known_dispatch(terms.log_index).is_some() {
            return next;
        }
        if terms.log_index > self.log_index {
            return self.redispatch(terms.dispatched_at, terms.soak_due_at, terms.soak_secs, terms.log_index);
        }
        next.earlier_dispatches.push(terms);
        next.earlier_dispatches.sort_by_key(|terms| terms.log_index);
        next
    }

    /// The dispatch that the record stands on.
    pub fn terms(&self) -> Terms {
        Terms {
            log_index: self.log_index,
            dispatched_at: self.dispatched_at,
            soak_due_at: self.soak_due_at,
            soak_secs: self.soak_secs,
        }
    }

    /// A dispatch that the record knows.
    pub(crate) fn known_dispatch(&self, log_index: u64) -> Option<Terms> {
        let newest = self.terms();
        let mut known = self.earlier_dispatches.iter().copied().chain([newest]);
        known.find(|terms| terms.log_index == log_index)
    }

    /// Makes the record stand on a dispatch.
    pub(super) fn take(&mut self, terms: Terms) {
        self.log_index = terms.log_index;
        self.dispatched_at = terms.dispatched_at;
        self.soak_due_at = terms.soak_due_at;
        self.soak_secs = terms.soak_secs;
    }

    /// When the soak ends by the calendar; none before the activation is complete.
    pub fn soak_deadline(&self) -> Option<DateTime<Utc>> {
        let completed_at = self.activation_completed_at?;
        Some(self.soak_due_at.max(after(completed_at, self.soak_secs)))
    }

    /// Where a rollback goes: what ran at the acknowledgement, and never the target itself.
    pub fn rollback_target(&self) -> Option<&Closure> {
        self.current_closure_at_dispatch.as_ref().filter(|closure| **closure != self.target_closure)
    }

    /// Whether it counts as failed only since a new incarnation of its host knows nothing of it.
    pub fn is_lost(&self) -> bool {
        self.state == HostState::Failed && self.ended_from.is_some()
    }

    /// The declared probes that gate.
    pub fn enforced_probes(&self) -> impl Iterator<Item = &ProbeName> {
        let declared = self.declared_probes.iter().flatten();
        declared.filter(|probe| probe.mode == ProbeMode::Enforce).map(|probe| &probe.probe_name)
    }

    /// What the host still has to do to itself.
    pub fn owes(&self) -> Option<Owed> {
        match self.state {
            HostState::Activating => Some(Owed::Switch { target: self.target_closure.clone() }),
            HostState::Failed if self.rollback_owed => {
                self.rollback_target().map(|closure| Owed::Rollback { closure: closure.clone() })
            }
            HostState::Failed
            | HostState::Pending
            | HostState::Deferred
            | HostState::Soaking
            | HostState::Converged
            | HostState::Reverted => None,
        }
    }

    /// Whether the host has to roll back and has not yet said how that ended.
    pub fn owes_rollback(&self) -> bool {
        matches!(self.owes(), Some(Owed::Rollback { .. }))
    }

    /// Whether the host acknowledged, and neither converged nor failed yet.
    pub fn is_in_flight(&self) -> bool {
        match self.state {
            HostState::Activating | HostState::Deferred | HostState::Soaking => true,
            HostState::Pending | HostState::Converged | HostState::Failed | HostState::Reverted => false,
        }
    }
}
