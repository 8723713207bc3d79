//! Disruption budgets.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::{Blocked, Gate, Reason};
use crate::document::Plan;
use crate::document::plan::Budget;
use crate::id::HostId;
use crate::planted::Bug;
use crate::view::View;
use crate::wire::HostState;

/// Holds a host back while one of its budgets is full, in the plan's fleet document or in the newest that counts.
///
/// Counted is every host of the budget with a slot that nothing has freed, whichever rollout took it; a host
/// never stands in its own way.
pub(super) fn admit(view: &View<'_>, plan: &Plan, host: &HostId, now: DateTime<Utc>) -> Result<(), Blocked> {
    let newest = view.ledger.budgets().iter().filter(|budget| budget.hosts.contains(host));
    for budget in plan.budgets_of(host).chain(newest) {
        let others = view.slot_takers().filter(|other| *other != host && budget.hosts.contains(*other));
        let in_flight: BTreeSet<HostId> = others
            .filter(|other| view.holds_slot(other, now) && !overlooked(view, plan, other))
            .cloned()
            .chain(unsettled(view, budget, host, now))
            .collect();
        if in_flight.len() >= budget.limit + usize::from(view.ledger.planted().has(Bug::BudgetOffByOne)) {
            let reason = Reason::BudgetFull {
                budget: budget.index + 1,
                limit: budget.limit,
                in_flight: in_flight.into_iter().collect(),
            };
            return Err(Blocked::by(Gate::Budget, reason));
        }
    }
    Ok(())
}

/// The hosts of a budget of which nobody knows, since a recovery, what they do.
fn unsettled(view: &View<'_>, budget: &Budget, host: &HostId, now: DateTime<Utc>) -> Vec<HostId> {
    if !view.ledger.is_recovered() {
        return Vec::new();
    }
    let others = budget.hosts.iter().filter(|other| *other != host);
    others.filter(|other| view.is_unsettled(other, now)).cloned().collect()
}

/// A planted bug's way to miss a host; nobody is overlooked otherwise.
fn overlooked(view: &View<'_>, plan: &Plan, host: &HostId) -> bool {
    let is = |state| view.ledger.records_of(host).any(|it| it.record.state == state);
    let slots = || view.ledger.slots().of(host);
    (view.ledger.planted().has(Bug::BudgetIgnoresFailed) && is(HostState::Failed))
        || (view.ledger.planted().has(Bug::BudgetIgnoresOthers)
            && slots().all(|slot| slot.rollout != plan.rollout_id))
        || (view.ledger.planted().has(Bug::BudgetForgetsPending) && is(HostState::Pending))
}
