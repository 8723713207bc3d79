//! For whom no rollout waits, by what people signed.

use super::Ledger;
use crate::document::{Plan, Verb};
use crate::id::HostId;
use crate::wire::RolloutEvent;

impl Ledger {
    /// The hosts of a plan that people let go by what the log adopted: who was skipped, whatever has expired since, and
    /// who left the channel. It is the same on every coordinator, and all that the log can say; what lets anything
    /// through each coordinator asks of its own evidence.
    pub(crate) fn let_go(&self, plan: &Plan) -> Vec<HostId> {
        let commands = self.adopted.commands.iter().filter_map(|hash| self.documents.command(hash));
        let skipped: Vec<&HostId> = commands
            .filter_map(|command| {
                let Verb::Skip { host, rollout } = &command.verb else { return None };
                rollout.as_ref().is_none_or(|only| *only == plan.rollout_id).then_some(host)
            })
            .collect();
        let adopted = self.adopted.fleet.and_then(|hash| self.documents.fleet_by_hash(&hash));
        let left = |host: &HostId| {
            adopted
                .is_some_and(|fleet| fleet.hosts.get(host).is_none_or(|entry| entry.channel != plan.channel))
        };
        plan.hosts().filter(|host| left(host) || skipped.contains(host)).cloned().collect()
    }

    /// The same for an event that asks for whom its rollout waits; nobody for any other.
    pub(super) fn let_go_for(&self, event: &RolloutEvent, plan: &Plan) -> Vec<HostId> {
        match event {
            RolloutEvent::WaveAdvanced { .. } | RolloutEvent::RolloutTerminal { .. } => self.let_go(plan),
            RolloutEvent::RolloutOpened { .. }
            | RolloutEvent::HostJoined { .. }
            | RolloutEvent::HostStateChanged { .. }
            | RolloutEvent::RolloutCancelled { .. }
            | RolloutEvent::OperatorClearance { .. }
            | RolloutEvent::SuccessorOpened { .. }
            | RolloutEvent::RetentionExpired { .. } => Vec::new(),
        }
    }
}
