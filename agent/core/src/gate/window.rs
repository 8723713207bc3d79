//! The channel's maintenance windows.

use chrono::{DateTime, Utc};

use super::{Blocked, Gate, Reason};
use crate::document::Plan;
use crate::id::HostId;
use crate::planted::Bug;
use crate::view::View;

/// Holds a host back while no maintenance window of its channel is open; without any they are always open.
pub(super) fn admit(view: &View<'_>, plan: &Plan, _host: &HostId, now: DateTime<Utc>) -> Result<(), Blocked> {
    if view.ledger.planted().has(Bug::WindowIgnored) {
        return Ok(());
    }
    if plan.windows.is_empty() || plan.windows.iter().any(|window| window.is_open(now)) {
        return Ok(());
    }
    let opens_at = plan.windows.iter().filter_map(|window| window.opens_at(now)).min();
    Err(Blocked::until(Gate::Window, Reason::WindowClosed, opens_at))
}
