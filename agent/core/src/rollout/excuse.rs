//! Whom a rollout does not wait for.

use chrono::{DateTime, Utc};

use super::record::{Excuse, HostEntry, Record};
use crate::document::plan::{Plan, Policy};
use crate::host::after;
use crate::id::HostId;
use crate::wire::HostState;

impl Record {
    /// The hosts of the plan that a rollout still waits for at that time before it is Terminal; not for whom people let
    /// go.
    pub fn unfinished<'a>(
        &'a self,
        plan: &'a Plan,
        let_go: &'a [HostId],
        at: DateTime<Utc>,
    ) -> impl Iterator<Item = &'a HostId> {
        plan.hosts().filter(|host| !let_go.contains(host)).filter(move |host| {
            let entry = self.hosts.get(*host);
            !entry.is_some_and(|entry| is_finished(entry, &plan.policy, at))
        })
    }

    /// A wave is done: whoever of it and the waves before did not converge is excused.
    pub(super) fn excuse_waves_to(&mut self, plan: &Plan, let_go: &[HostId], last: u32, at: DateTime<Utc>) {
        for (wave, hosts) in (0..=last).zip(&plan.waves) {
            for host in &hosts.hosts {
                let entry = self.hosts.entry(host.clone()).or_insert_with(|| HostEntry::new(wave, at));
                excuse_anew(entry, let_go.contains(host), &plan.policy, at);
            }
        }
    }

    /// The rollout is done: whoever failed or still waits for its reboot is excused from it.
    pub(super) fn excuse_finished(&mut self, plan: &Plan, let_go: &[HostId], at: DateTime<Utc>) {
        for (host, entry) in &mut self.hosts {
            excuse_anew(entry, let_go.contains(host), &plan.policy, at);
        }
    }

    /// An operator lets the rollout go on: the failures so far count no more.
    pub(super) fn clear_failures(&mut self) {
        for entry in self.hosts.values_mut().filter(|entry| entry.counts_as_failed()) {
            entry.excused = Some(Excuse::Cleared);
        }
    }
}

/// A deferral may have run out of time since, or nobody waits for it any more; every other excuse stands.
fn excuse_anew(entry: &mut HostEntry, is_let_go: bool, policy: &Policy, at: DateTime<Utc>) {
    if matches!(entry.excused, None | Some(Excuse::Deferred)) {
        entry.excused = excuse(entry, is_let_go, policy, at);
    }
}

fn excuse(entry: &HostEntry, is_let_go: bool, policy: &Policy, at: DateTime<Utc>) -> Option<Excuse> {
    match entry.state {
        HostState::Converged => None,
        HostState::Failed | HostState::Reverted => Some(Excuse::WithinMaxFailures),
        HostState::Deferred if is_let_go => Some(Excuse::Skipped),
        HostState::Deferred if deferral_is_over(entry, policy, at) => Some(Excuse::DeferredTooLong),
        HostState::Deferred => Some(Excuse::Deferred),
        HostState::Pending if entry.dispatch.is_none() => Some(Excuse::Offline),
        HostState::Pending | HostState::Activating | HostState::Soaking => Some(Excuse::Skipped),
    }
}

/// While a rollout is open, whoever failed did so within its policy's `max_failures`.
fn is_finished(entry: &HostEntry, policy: &Policy, at: DateTime<Utc>) -> bool {
    let excused = entry.excused.is_some_and(|excuse| excuse != Excuse::Deferred);
    excused
        || match entry.state {
            HostState::Converged | HostState::Failed | HostState::Reverted => true,
            HostState::Deferred => deferral_is_over(entry, policy, at),
            // A late host whose dispatch came to nothing is dispatched again when it returns; nobody waits for it.
            HostState::Pending => entry.dispatch.is_some() && entry.is_dispatchable(at),
            HostState::Activating | HostState::Soaking => false,
        }
}

fn deferral_is_over(entry: &HostEntry, policy: &Policy, at: DateTime<Utc>) -> bool {
    at >= after(entry.since, policy.deferred_timeout_secs)
}
