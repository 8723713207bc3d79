//! Channels that go first.

use chrono::{DateTime, Utc};

use super::{Blocked, Gate, Reason};
use crate::document::Plan;
use crate::id::HostId;
use crate::planted::Bug;
use crate::view::View;
use crate::wire::RolloutState;

/// Holds a host back while a gating channel's newest rollout was opened before this one and is still open, or
/// failed and was not cleared.
pub(super) fn admit(
    view: &View<'_>,
    plan: &Plan,
    _host: &HostId,
    _now: DateTime<Utc>,
) -> Result<(), Blocked> {
    if view.ledger.planted().has(Bug::ChannelEdgeIgnored) {
        return Ok(());
    }
    let mine = view.ledger.rollouts().get(&plan.rollout_id).map(|record| record.opened_log_index);
    for edge in &plan.waits_for {
        let Some(rollout) = view.ledger.newest_rollout(&edge.gates) else { continue };
        let Some(record) = view.ledger.rollouts().get(rollout) else { continue };
        let holds = match record.state {
            // What opened later waits for nobody: the earliest of a chain of successors decides.
            RolloutState::Opening | RolloutState::Active | RolloutState::Converging => {
                mine.is_none_or(|mine| view.ledger.chain_opened_at(rollout) < mine)
            }
            RolloutState::Failed | RolloutState::Reverted => true,
            RolloutState::Terminal | RolloutState::Superseded | RolloutState::Pruned => false,
        };
        if holds {
            let reason = Reason::ChannelFirst {
                channel: edge.gates.clone(),
                rollout: rollout.clone(),
                state: record.state.name(),
                reason: edge.reason.clone(),
            };
            return Err(Blocked::by(Gate::ChannelEdges, reason));
        }
    }
    Ok(())
}
