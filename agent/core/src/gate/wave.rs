//! The waves before.

use chrono::{DateTime, Utc};

use super::{Blocked, Gate, Reason};
use crate::document::Plan;
use crate::id::{Closure, HostId};
use crate::planted::Bug;
use crate::presence::Reach;
use crate::view::{Excuse, Standing, View};
use crate::wire::HostState;

/// What a wave has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaveState {
    /// Every host of it is Converged or excused.
    Done,
    /// It is not done, and why.
    Open(Reason),
}

/// Holds a host back while an earlier wave is not done.
pub(super) fn admit(view: &View<'_>, plan: &Plan, host: &HostId, now: DateTime<Utc>) -> Result<(), Blocked> {
    let Some(wave) = plan.wave_of(host) else {
        return Err(Blocked::by(Gate::Wave, Reason::NotInPlan));
    };
    let (failed, allowed) = (view.failures(plan, now), plan.policy.max_failures);
    if failed > allowed {
        return Err(Blocked::by(Gate::Wave, Reason::TooManyFailures { failed, allowed }));
    }
    if plan.urgent && plan.targets.get(host).is_some_and(|target| has_converged_on(view, host, target)) {
        return Ok(());
    }
    if view.ledger.planted().has(Bug::WaveIgnored) {
        return Ok(());
    }
    (0..wave).try_for_each(|earlier| match wave_state(view, plan, earlier, now) {
        WaveState::Done => Ok(()),
        WaveState::Open(reason) => Err(Blocked::by(Gate::Wave, reason)),
    })
}

/// Whether a wave is done, by this node's own evidence.
///
/// It is when every host of it is Converged or excused, at least one has Converged, and no more hosts failed
/// than the policy allows. A wave whose hosts were all excused by people is done as well.
pub fn wave_state(view: &View<'_>, plan: &Plan, wave: u32, now: DateTime<Utc>) -> WaveState {
    view.memo.wave(now, &plan.rollout_id, wave, || look_at(view, plan, wave, now))
}

fn look_at(view: &View<'_>, plan: &Plan, wave: u32, now: DateTime<Utc>) -> WaveState {
    let people_count_from_1 = wave + 1;
    let Some(hosts) = plan.wave(wave).map(|wave| &wave.hosts) else { return WaveState::Done };
    let mut tally = Tally::default();
    for host in hosts {
        tally.count(view, plan, host, now);
    }
    if tally.by_operator == hosts.len() {
        return WaveState::Done;
    }
    let (failed, allowed) = (view.failures(plan, now), plan.policy.max_failures);
    if failed > allowed {
        return WaveState::Open(Reason::TooManyFailures { failed, allowed });
    }
    if !(plan.policy.deferred_advances || tally.converged > 0) {
        tally.waits_for.append(&mut tally.deferred);
    }
    if !tally.waits_for.is_empty() {
        return WaveState::Open(Reason::WaveNotDone { wave: people_count_from_1, hosts: tally.waits_for });
    }
    let proven = view.ledger.planted().has(Bug::EmptyCanaryProves)
        || tally.converged > 0
        || (plan.policy.deferred_advances && !tally.deferred.is_empty());
    match (proven, tally.offline) {
        (true, _) => WaveState::Done,
        (false, 0) => WaveState::Open(Reason::NoConvergence { wave: people_count_from_1 }),
        (false, _) => WaveState::Open(Reason::WaveUnreachable {
            wave: people_count_from_1,
            hosts: hosts.iter().cloned().collect(),
        }),
    }
}

#[derive(Default)]
struct Tally {
    converged: usize,
    offline: usize,
    by_operator: usize,
    deferred: Vec<HostId>,
    waits_for: Vec<HostId>,
}

impl Tally {
    fn count(&mut self, view: &View<'_>, plan: &Plan, host: &HostId, now: DateTime<Utc>) {
        let standing = view.standing(plan, host, now);
        if standing == Standing::Converged {
            self.converged += 1;
            return;
        }
        match view.excuse(plan, host, now) {
            Some(Excuse::Skipped | Excuse::Removed | Excuse::Cleared) => self.by_operator += 1,
            Some(Excuse::Offline) => self.offline += 1,
            Some(Excuse::DeferredTooLong) => {}
            None => match standing {
                Standing::Deferred { .. } => self.deferred.push(host.clone()),
                // How many may fail is asked of the whole rollout.
                Standing::Failed(_) | Standing::Converged => {}
                Standing::InFlight(_) if view.ledger.planted().has(Bug::InFlightIsDone) => {}
                Standing::Waiting | Standing::InFlight(_) => self.waits_for.push(host.clone()),
            },
        }
    }
}

/// Whether this node holds the host's own word that it converged on exactly this closure before.
pub(super) fn has_converged_on(view: &View<'_>, host: &HostId, target: &Closure) -> bool {
    view.presences.reach(host, view.mono) == Reach::Online
        && (view.ledger.has_proven(host, target)
            || view.ledger.records_of(host).any(|mirrored| {
                mirrored.record.state == HostState::Converged && mirrored.record.target_closure == *target
            }))
}
