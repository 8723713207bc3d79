//! Whether the host can be reached.

use chrono::{DateTime, Utc};

use super::{Blocked, Gate, Reason};
use crate::document::Plan;
use crate::id::HostId;
use crate::planted::Bug;
use crate::presence::Reach;
use crate::view::View;

/// Holds a host back while it has not been heard of for three heartbeats: it blocks nobody, and is dispatched
/// to the newest ref when it returns.
pub(super) fn admit(view: &View<'_>, _plan: &Plan, host: &HostId, now: DateTime<Utc>) -> Result<(), Blocked> {
    if view.ledger.is_forked(host) {
        return Err(Blocked::by(Gate::Online, Reason::Forked));
    }
    if view.ledger.planted().has(Bug::SilentDispatched) {
        return Ok(());
    }
    if view.is_unsettled(host, now) {
        return Err(Blocked::by(Gate::Online, Reason::NotHeardYet));
    }
    match view.presences.reach(host, view.mono) {
        Reach::Online => Ok(()),
        Reach::Offline => Err(Blocked::by(Gate::Online, Reason::Offline)),
        Reach::Unknown => Err(Blocked::by(Gate::Online, Reason::NotHeardYet)),
    }
}
