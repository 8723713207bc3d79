//! A quarantine of the closure.

use chrono::{DateTime, Utc};

use super::{Blocked, Gate, Reason};
use crate::document::Plan;
use crate::id::HostId;
use crate::planted::Bug;
use crate::view::View;

/// Holds a host back while its target is quarantined on its channel, or suspect by this node's own evidence.
pub(super) fn admit(view: &View<'_>, plan: &Plan, host: &HostId, _now: DateTime<Utc>) -> Result<(), Blocked> {
    let Some(target) = plan.targets.get(host) else {
        return Err(Blocked::by(Gate::Quarantine, Reason::NotInPlan));
    };
    if view.ledger.planted().has(Bug::QuarantineIgnored) {
        return Ok(());
    }
    let mut standing = view.ledger.quarantines();
    if let Some((channel, _, decision, quarantine)) =
        standing.find(|(channel, closure, ..)| **channel == plan.channel && *closure == target)
    {
        let reason =
            Reason::Quarantined { channel: channel.clone(), host: quarantine.host.clone(), decision };
        return Err(Blocked::by(Gate::Quarantine, reason));
    }
    match view.ledger.suspicion(&plan.channel, target) {
        Some((rollout, host)) => {
            let reason = Reason::Suspect { host: host.clone(), rollout: rollout.clone() };
            Err(Blocked::by(Gate::Quarantine, reason))
        }
        None => Ok(()),
    }
}
