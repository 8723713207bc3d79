//! The age of the ref.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Blocked, Gate, Reason};
use crate::document::Plan;
use crate::id::HostId;
use crate::planted::Bug;
use crate::view::View;

/// Holds a host back while its ref is outside its channel's freshness window, or expired.
pub(super) fn admit(view: &View<'_>, plan: &Plan, _host: &HostId, now: DateTime<Utc>) -> Result<(), Blocked> {
    if view.ledger.planted().has(Bug::StaleDispatched) {
        return Ok(());
    }
    if let Some(at) = plan.expires_at.filter(|at| now >= *at) {
        return Err(Blocked::by(Gate::Freshness, Reason::Expired { at }));
    }
    let minutes = plan.freshness_window_minutes;
    let window = i64::try_from(minutes).ok().and_then(TimeDelta::try_minutes).unwrap_or(TimeDelta::MAX);
    if now - plan.signed_at > window {
        return Err(Blocked::by(Gate::Freshness, Reason::Stale { minutes }));
    }
    Ok(())
}
