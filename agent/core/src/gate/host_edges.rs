//! Hosts that go first.

use chrono::{DateTime, Utc};

use super::{Blocked, Gate, Reason};
use crate::document::Plan;
use crate::id::HostId;
use crate::planted::Bug;
use crate::view::{Standing, View};

/// Holds a host back while a host that gates it is neither Converged nor Deferred nor excused; the `wave` gate has
/// seen to it that no more failed than may.
pub(super) fn admit(view: &View<'_>, plan: &Plan, host: &HostId, now: DateTime<Utc>) -> Result<(), Blocked> {
    if view.ledger.planted().has(Bug::HostEdgeIgnored) {
        return Ok(());
    }
    for edge in plan.edges.iter().filter(|edge| edge.gated.contains(host)) {
        let waits =
            edge.gates.iter().filter(|gate| *gate != host && plan.targets.contains_key(*gate)).find(|gate| {
                let waits = match view.standing(plan, gate, now) {
                    Standing::Converged | Standing::Deferred { .. } | Standing::Failed(_) => false,
                    Standing::Waiting | Standing::InFlight(_) => true,
                };
                waits && view.excuse(plan, gate, now).is_none()
            });
        if let Some(gate) = waits {
            let reason = Reason::HostFirst { host: gate.clone(), reason: edge.reason.clone() };
            return Err(Blocked::by(Gate::HostEdges, reason));
        }
    }
    Ok(())
}
