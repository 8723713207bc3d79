//! A person's promotion.

use chrono::{DateTime, Utc};

use super::wave::has_converged_on;
use super::{Blocked, Gate, Reason};
use crate::document::Plan;
use crate::id::HostId;
use crate::planted::Bug;
use crate::view::View;

/// Holds a host back while a wave before its own asks for a person's promotion and has none.
pub(super) fn admit(view: &View<'_>, plan: &Plan, host: &HostId, now: DateTime<Utc>) -> Result<(), Blocked> {
    let Some(wave) = plan.wave_of(host) else {
        return Err(Blocked::by(Gate::Promotion, Reason::NotInPlan));
    };
    if view.ledger.planted().has(Bug::PromotionIgnored) {
        return Ok(());
    }
    if plan.urgent && plan.targets.get(host).is_some_and(|target| has_converged_on(view, host, target)) {
        return Ok(());
    }
    let missing = (0..wave).find(|earlier| {
        plan.wave(*earlier).is_some_and(|wave| wave.manual_promotion)
            && !view.is_promoted(&plan.rollout_id, *earlier, now)
    });
    match missing {
        Some(earlier) => Err(Blocked::by(Gate::Promotion, Reason::NeedsPromotion { wave: earlier + 1 })),
        None => Ok(()),
    }
}
