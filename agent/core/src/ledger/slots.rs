//! Slots: what a dispatch takes from every budget of its host until evidence frees it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::id::{Closure, HostId, RolloutId};
use crate::wire::{DecisionBody, DecisionId};

/// One dispatch of one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// The dispatch.
    pub decision: DecisionId,
    /// The rollout.
    pub rollout: RolloutId,
    /// What was dispatched.
    pub target: Closure,
    /// Past this the host refuses.
    pub not_after: DateTime<Utc>,
    /// Whether the dispatch was given up; this frees nothing by itself.
    pub withdrawn: bool,
}

/// Every slot that no signed result of its host has freed yet.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Slots {
    hosts: BTreeMap<HostId, BTreeMap<DecisionId, Slot>>,
    /// A certificate may arrive long after its log entry: what was freed is never taken again.
    freed: BTreeSet<DecisionId>,
}

impl Slots {
    /// The slots of one host, the oldest first.
    pub fn of(&self, host: &HostId) -> impl Iterator<Item = &Slot> {
        self.hosts.get(host).into_iter().flat_map(BTreeMap::values)
    }

    /// The hosts that hold a slot.
    pub fn hosts(&self) -> impl Iterator<Item = &HostId> {
        self.hosts.keys()
    }

    /// Takes a slot for a dispatch; taking it twice is taking it once.
    pub(super) fn take(&mut self, decision: DecisionId, dispatch: &DecisionBody) {
        if self.freed.contains(&decision) {
            return;
        }
        if let DecisionBody::Dispatch { host, rollout_id, target_closure, not_after, .. } = dispatch {
            self.hosts.entry(host.clone()).or_default().entry(decision).or_insert_with(|| Slot {
                decision,
                rollout: rollout_id.clone(),
                target: target_closure.clone(),
                not_after: *not_after,
                withdrawn: false,
            });
        }
    }

    /// Notes that a dispatch was given up.
    pub(super) fn withdraw(&mut self, decision: DecisionId) {
        if let Some(slot) = self.hosts.values_mut().find_map(|slots| slots.get_mut(&decision)) {
            slot.withdrawn = true;
        }
    }

    /// The host converged in a rollout: this frees its slots there, and those of everything older.
    pub(super) fn free_up_to(&mut self, host: &HostId, rollout: &RolloutId) {
        let last = self.of(host).filter(|slot| slot.rollout == *rollout).map(|slot| slot.decision).max();
        self.retain(host, |slot| Some(slot.decision) > last);
    }

    /// The host rolled back: this frees its slots in that rollout, and older ones in those in which it waited for a reboot:
    /// going back took that back as well.
    pub(super) fn free_of(&mut self, host: &HostId, rollout: &RolloutId, waited_in: &BTreeSet<RolloutId>) {
        let last = self.of(host).filter(|slot| slot.rollout == *rollout).map(|slot| slot.decision).max();
        self.retain(host, |slot| {
            let passed_over = Some(slot.decision) < last && waited_in.contains(&slot.rollout);
            slot.rollout != *rollout && !passed_over
        });
    }

    fn retain(&mut self, host: &HostId, keep: impl Fn(&Slot) -> bool) {
        if let Some(slots) = self.hosts.get_mut(host) {
            let gone = slots.values().filter(|slot| !keep(slot)).map(|slot| slot.decision);
            self.freed.extend(gone);
            slots.retain(|_, slot| keep(slot));
            if slots.is_empty() {
                self.hosts.remove(host);
            }
        }
    }
}
