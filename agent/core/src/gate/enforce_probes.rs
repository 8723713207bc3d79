//! Probes of earlier waves.

use chrono::{DateTime, Utc};

use super::{Blocked, Gate, Reason};
use crate::document::Plan;
use crate::id::{HostId, ProbeName};
use crate::view::View;
use crate::wire::{HostState, ProbeMode, ProbeStatus};

/// Holds a host back while a host of an earlier wave has an enforced probe failing now.
pub(super) fn admit(view: &View<'_>, plan: &Plan, host: &HostId, now: DateTime<Utc>) -> Result<(), Blocked> {
    let Some(wave) = plan.wave_of(host) else {
        return Err(Blocked::by(Gate::EnforceProbes, Reason::NotInPlan));
    };
    let failing = (0..wave).find_map(|earlier| {
        view.memo.failing_probe(now, &plan.rollout_id, earlier, || {
            let hosts = plan.wave(earlier).into_iter().flat_map(|wave| &wave.hosts);
            let mut failing = hosts.filter_map(|host| Some((host.clone(), failing_probe(view, plan, host)?)));
            failing.find(|(host, _)| view.excuse(plan, host, now).is_none())
        })
    });
    if let Some((host, probe)) = failing {
        return Err(Blocked::by(Gate::EnforceProbes, Reason::ProbeFails { host, probe }));
    }
    Ok(())
}

/// By its events while it soaks, by its presence after it converged.
fn failing_probe(view: &View<'_>, plan: &Plan, host: &HostId) -> Option<ProbeName> {
    let record = &view.ledger.record(host, &plan.rollout_id)?.record;
    match record.state {
        HostState::Soaking => record
            .probes
            .iter()
            .find(|(_, probe)| probe.mode == ProbeMode::Enforce && probe.status == ProbeStatus::Fail)
            .map(|(name, _)| name.clone()),
        HostState::Converged => view.presences.of(host)?.presence.failing_enforce_probes.first().cloned(),
        HostState::Pending
        | HostState::Activating
        | HostState::Deferred
        | HostState::Failed
        | HostState::Reverted => None,
    }
}
