//! What documents alone say of a dispatch: the host asks before it acts, and so does whatever switches on its behalf.

use chrono::{DateTime, Utc};

use super::documents::Documents;
use super::plan::Plan;
use crate::id::{Closure, HostId};
use crate::view::secs;
use crate::wire::RejectReason;

impl Documents {
    /// Why a host must not switch to a closure for a rollout, as far as the documents that are held can say: whether the
    /// operators of today signed it for that host, and whether their word still counts.
    pub fn forbid(
        &self,
        plan: &Plan,
        host: &HostId,
        target: &Closure,
        now: DateTime<Utc>,
    ) -> Option<RejectReason> {
        let window = secs(plan.freshness_window_minutes.saturating_mul(60));
        if plan.targets.get(host) != Some(target) {
            Some(RejectReason::NotMyTarget)
        } else if !self.is_still_signed(&plan.ref_hash) {
            Some(RejectReason::RefSignature)
        } else if plan.expires_at.is_some_and(|at| now >= at) {
            Some(RejectReason::RefExpired)
        } else if now.signed_duration_since(plan.signed_at) > window {
            Some(RejectReason::RefStale)
        } else {
            None
        }
    }
}
