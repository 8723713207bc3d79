//! An operator's pause.

use chrono::{DateTime, Utc};

use super::{Blocked, Gate, Reason};
use crate::document::Plan;
use crate::id::HostId;
use crate::planted::Bug;
use crate::view::View;

/// Holds a host back while a pause of its rollout, channel or itself stands; before any log entry.
pub(super) fn admit(view: &View<'_>, plan: &Plan, host: &HostId, now: DateTime<Utc>) -> Result<(), Blocked> {
    match view.ledger.documents().paused(&plan.channel, &plan.rollout_id, host, now) {
        Some((scope, pause)) if !view.ledger.planted().has(Bug::PauseIgnored) => {
            let (scope, reason) = (scope.clone(), pause.reason.clone());
            Err(Blocked::by(Gate::Paused, Reason::Paused { scope, reason, command: pause.hash }))
        }
        Some(_) | None => Ok(()),
    }
}
