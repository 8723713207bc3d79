//! Another rollout of the host.

use chrono::{DateTime, Utc};

use super::{Blocked, Gate, Reason};
use crate::document::Plan;
use crate::id::HostId;
use crate::planted::Bug;
use crate::view::View;
use crate::wire::HostState;

/// Holds a host back while it is in flight in another rollout.
pub(super) fn admit(view: &View<'_>, plan: &Plan, host: &HostId, now: DateTime<Utc>) -> Result<(), Blocked> {
    if view.ledger.planted().has(Bug::BusyIgnored) {
        return Ok(());
    }
    match view.busy_in(host, now).find(|rollout| **rollout != plan.rollout_id) {
        Some(rollout) => {
            let state = view.ledger.record(host, rollout).map_or(HostState::Pending, |it| it.record.state);
            Err(Blocked::by(Gate::Busy, Reason::InFlight { rollout: rollout.clone(), state }))
        }
        None => Ok(()),
    }
}
