//! The operators' signatures on the ref.

use chrono::{DateTime, Utc};

use super::{Blocked, Gate, Reason};
use crate::document::Plan;
use crate::id::HostId;
use crate::view::View;

/// Holds a host back while the operators of the newest fleet document do not sign its ref by their threshold,
/// or do not have the host on the ref's channel, or while that document has expired.
pub(super) fn admit(view: &View<'_>, plan: &Plan, host: &HostId, now: DateTime<Utc>) -> Result<(), Blocked> {
    let documents = view.ledger.documents();
    if !documents.is_still_signed(&plan.ref_hash) {
        return Err(Blocked::by(Gate::Signatures, Reason::Unsigned { rollout: plan.rollout_id.clone() }));
    }
    let expires_at = documents.fleet().and_then(|fleet| fleet.expires_at);
    if let Some(at) = expires_at.filter(|_| documents.fleet_is_expired(now)) {
        return Err(Blocked::by(Gate::Signatures, Reason::FleetExpired { at }));
    }
    let enrolled = documents.fleet().and_then(|fleet| fleet.hosts.get(host));
    if enrolled.is_none_or(|entry| entry.channel != plan.channel) {
        return Err(Blocked::by(Gate::Signatures, Reason::OffChannel { channel: plan.channel.clone() }));
    }
    Ok(())
}
