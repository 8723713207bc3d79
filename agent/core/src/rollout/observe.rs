//! The rollout as a node sees it that has no log: from certified decisions alone.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::record::{Excuse, HostEntry, Record};
use crate::id::{HostId, RolloutId};
use crate::wire::{DecisionBody, HostState, RolloutState};

impl Record {
    /// Takes a certified transition of a rollout; an older one than the last is late and changes nothing.
    pub fn observe(
        rollouts: &mut BTreeMap<RolloutId, Self>,
        rollout_id: &RolloutId,
        to: RolloutState,
        wave: u32,
        at: DateTime<Utc>,
        log_index: u64,
    ) {
        let record = rollouts.entry(rollout_id.clone()).or_insert_with(|| Self {
            rollout_id: rollout_id.clone(),
            channel: rollout_id.channel(),
            target_ref: rollout_id.target_ref(),
            state: to,
            current_wave: 0,
            opened_log_index: log_index,
            last_transition_log_index: log_index,
            opened_at: at,
            terminal_at: None,
            superseded_at: None,
            hosts: BTreeMap::new(),
            quarantined: BTreeSet::new(),
            overrides: Vec::new(),
        });
        if log_index < record.opened_log_index {
            record.opened_log_index = log_index;
            record.opened_at = at;
        }
        record.current_wave = record.current_wave.max(wave);
        if log_index < record.last_transition_log_index {
            return;
        }
        record.last_transition_log_index = log_index;
        record.state = to;
        match to {
            RolloutState::Terminal => record.terminal_at = Some(at),
            RolloutState::Superseded => record.superseded_at = Some(at),
            RolloutState::Opening
            | RolloutState::Active
            | RolloutState::Converging
            | RolloutState::Reverted
            | RolloutState::Failed
            | RolloutState::Pruned => {}
        }
    }

    /// Takes a certified dispatch of a host into this rollout; an older one than the last is late and changes nothing.
    pub fn dispatched(&mut self, host: &HostId, dispatch: &DecisionBody, log_index: u64) {
        let DecisionBody::Dispatch { wave, not_after, .. } = dispatch else { return };
        let at = self.opened_at;
        let entry = self.hosts.entry(host.clone()).or_insert_with(|| HostEntry::new(*wave, at));
        let newer = entry.dispatch.is_none_or(|last| last < log_index);
        if newer && entry.state == HostState::Pending {
            entry.dispatch = Some(log_index);
            entry.not_after = Some(*not_after);
            entry.withdrawn = false;
            entry.excused = None;
        }
    }

    /// Whether a host's standing dispatch follows from that entry of the log.
    pub fn holds_dispatch(&self, log_index: u64) -> bool {
        self.hosts.values().any(|entry| entry.dispatch == Some(log_index) && !entry.withdrawn)
    }

    /// Whether an operator excused the host after it had failed.
    pub fn is_cleared(&self, host: &HostId) -> bool {
        self.hosts.get(host).is_some_and(|entry| entry.excused == Some(Excuse::Cleared))
    }
}
