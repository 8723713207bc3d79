//! Whether the host holds its target already.

use chrono::{DateTime, Utc};

use super::{Blocked, Gate, Reason};
use crate::document::Plan;
use crate::id::HostId;
use crate::view::View;

/// Holds a host back while its backend fetches ahead and it does not say that it holds the target.
pub(super) fn admit(view: &View<'_>, plan: &Plan, host: &HostId, _now: DateTime<Utc>) -> Result<(), Blocked> {
    let Some(seen) = view.presences.of(host) else { return Ok(()) };
    let Some(target) = plan.targets.get(host) else {
        return Err(Blocked::by(Gate::Fetched, Reason::NotInPlan));
    };
    let presence = &seen.presence;
    let held = presence.fetched.contains(target) || presence.current_closure.as_ref() == Some(target);
    if presence.prefetches && !held {
        return Err(Blocked::by(Gate::Fetched, Reason::NotFetched));
    }
    Ok(())
}
