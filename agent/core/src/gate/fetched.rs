//! Whether the host holds its target already.

use chrono::{DateTime, Utc};

use super::{Blocked, Gate, Reason};
use crate::document::Plan;
use crate::id::HostId;
use crate::planted::Bug;
use crate::view::View;

/// Holds a host back while its backend fetches ahead and it does not say that it holds the target.
pub(super) fn admit(view: &View<'_>, plan: &Plan, host: &HostId, now: DateTime<Utc>) -> Result<(), Blocked> {
    let Some(seen) = view.presences.of(host) else { return Ok(()) };
    let Some(target) = plan.targets.get(host) else {
        return Err(Blocked::by(Gate::Fetched, Reason::NotInPlan));
    };
    if seen.holds(target) || view.ledger.planted().has(Bug::UnfetchedDispatched) {
        return Ok(());
    }
    let reason = match view.fetch_ends(plan, host, now) {
        Some(at) if at <= now => Reason::NeverFetched { secs: plan.policy.fetch_timeout_secs },
        counts_as_failed_at => Reason::NotFetched { counts_as_failed_at },
    };
    Err(Blocked::by(Gate::Fetched, reason))
}
