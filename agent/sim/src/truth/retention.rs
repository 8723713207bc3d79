//! What may be given up: by the log, and not by what any node makes of it.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use muster_core::coordination::log::Entry;
use muster_core::id::{ChannelId, RolloutId};
use muster_core::wire::{HostState, LogPayload, LogStatement, RolloutEvent, codec};

use super::Truth;

/// When rollouts ended, and which is the newest of each channel.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    retention: Duration,
    /// When each ended, and whether an entry said so; else the first of its hosts failed then.
    ends: BTreeMap<RolloutId, (DateTime<Utc>, bool)>,
    newest: BTreeMap<ChannelId, RolloutId>,
    /// How many were pruned.
    pub(crate) pruned: u64,
}

impl Truth {
    /// From now on nothing is given up earlier.
    pub(crate) fn keep_for(&mut self, retention: Duration) {
        self.kept.retention = retention;
    }

    /// An entry was applied for the first time by anybody.
    pub(super) fn entered(&mut self, value: &[u8]) {
        let entry = match codec::decode::<Entry>("log entry", value) {
            Ok(entry) => entry,
            Err(error) => {
                return self.broken(15, format!("an entry that was applied cannot be read: {error}"));
            }
        };
        // A leader's first entry is empty, and what a liar entered may be no statement: neither prunes anything.
        let Ok(payload) = codec::decode::<LogPayload>("log payload", &entry.payload) else { return };
        let LogStatement::Rollout { events } = payload.what else { return };
        for event in &events {
            if let Some(what) = self.kept.follow(event) {
                self.broken(15, what);
            }
        }
    }
}

impl Kept {
    /// Whether the log said that a rollout is over.
    pub(super) fn has_ended(&self, rollout: &RolloutId) -> bool {
        self.ends.get(rollout).is_some_and(|(_, said)| *said)
    }

    /// Follows one event; says what is wrong with it.
    fn follow(&mut self, event: &RolloutEvent) -> Option<String> {
        let (id, at) = (event.rollout_id(), event.at());
        match event {
            RolloutEvent::RolloutOpened { channel, .. } => {
                self.ends.remove(id);
                self.newest.insert(channel.clone(), id.clone());
            }
            RolloutEvent::OperatorClearance { .. } => {
                self.ends.remove(id);
            }
            RolloutEvent::RolloutTerminal { .. }
            | RolloutEvent::SuccessorOpened { .. }
            | RolloutEvent::RolloutCancelled { .. } => {
                let known = self.ends.entry(id.clone()).or_insert((at, true));
                if !known.1 {
                    *known = (at, true);
                }
            }
            RolloutEvent::HostStateChanged { to: HostState::Failed | HostState::Reverted, .. } => {
                self.ends.entry(id.clone()).or_insert((at, false));
            }
            RolloutEvent::HostJoined { .. }
            | RolloutEvent::HostStateChanged { .. }
            | RolloutEvent::WaveAdvanced { .. } => {}
            RolloutEvent::RetentionExpired { .. } => return self.pruned(id, at),
        }
        None
    }

    fn pruned(&mut self, id: &RolloutId, at: DateTime<Utc>) -> Option<String> {
        self.pruned += 1;
        if self.newest.get(&id.channel()) == Some(id) {
            return Some(format!("{id} is the newest of its channel and is pruned"));
        }
        let Some((ended, _)) = self.ends.get(id) else {
            return Some(format!("{id} is pruned and never ended"));
        };
        let age = (at - *ended).to_std().unwrap_or_default();
        (age < self.retention).then(|| format!("{id} is pruned {} s after it ended", age.as_secs()))
    }
}
