//! What a ledger would be if a ref opened its rollout now; nothing of it is ever written.

use chrono::{DateTime, Utc};

use super::Ledger;
use crate::document::{Accepted, Document};
use crate::rollout::{self, StepContext};
use crate::wire::{RolloutEvent, RolloutState};

impl Ledger {
    /// The ledger as it is right after the ref was adopted, the rollout before it closed and its own opened; none if that makes no
    /// rollout.
    pub(crate) fn supposing(mut self, accepted: Accepted, at: DateTime<Utc>) -> Option<Self> {
        let Document::ChannelRef(held) = accepted.document().clone() else { return None };
        self.documents.insert_supposed(accepted);
        let plan = self.documents.plan_by_ref(&held.hash)?;
        let (channel, id) = (plan.channel.clone(), plan.rollout_id.clone());
        self.adopted.refs.insert(channel.clone(), held.hash);
        self.plans.insert(id.clone(), plan.clone());
        // A refresh goes on where its rollout stands.
        if self.rollouts.contains_key(&id) {
            return Some(self);
        }
        let last = self.rollouts.values().map(|record| record.opened_log_index).max().unwrap_or(0);
        let index = self.applied.max(last) + 1;
        for record in self.rollouts.values_mut().filter(|it| it.channel == channel && it.state.is_open()) {
            record.state = RolloutState::Superseded;
            record.superseded_at = Some(at);
        }
        let opened = RolloutEvent::RolloutOpened {
            rollout_id: id.clone(),
            channel,
            target_ref: plan.target_ref.clone(),
            at,
        };
        let step = rollout::step(&plan, None, &opened, index, &StepContext::default()).ok()?;
        self.rollouts.insert(id.clone(), step.record);
        self.note_newest(&id);
        Some(self)
    }
}
