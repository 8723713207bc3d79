//! What else binds whoever signs a dispatch: its time, channels that go first, and hosts that are silent or fetch ahead.

use chrono::TimeDelta;
use muster_core::document::{Plan, Verb};
use muster_core::id::HostId;
use muster_core::wire::{Decision, DecisionBody, HostState, RolloutState};

use super::{LAG, Own, Truth};
use crate::host::{Host, true_time};

/// By how much a signer's clock may differ from true time, on either side, in seconds.
const CLOCKS_DIFFER: i64 = 60;

impl Truth {
    /// Property 14, as far as a signer sees it by its clock and by what it hears of others.
    pub(super) fn check_gates(&mut self, signer: usize, said: u64, decision: &Decision, hosts: &[Host]) {
        let DecisionBody::Dispatch { host, rollout_id, .. } = &decision.body else { return };
        let Some(plan) = self.plans.get(rollout_id).cloned() else { return };
        let state = &hosts[signer];
        // Who stood still, had its clock turned, or says again what it said long ago, may have judged at another time.
        let at_once =
            self.now <= said + LAG && [state.paused_until, state.jumped].iter().all(|it| it + LAG < said);
        if !at_once || said <= LAG {
            return;
        }
        let against = self
            .out_of_time(said, &plan)
            .or_else(|| self.before_channel(&plan, decision.log_index, hosts))
            .or_else(|| self.unheard_of(said, host, state, hosts))
            .or_else(|| self.lacks_target(said, &plan, host, hosts));
        if let Some(against) = against {
            let what = format!("{} signs a dispatch of {host} into {rollout_id}, {against}", state.name);
            self.broken(14, what);
        }
    }

    fn out_of_time(&self, said: u64, plan: &Plan) -> Option<String> {
        let at = true_time(said) + self.calendar;
        let age = at - plan.signed_at - TimeDelta::seconds(CLOCKS_DIFFER);
        if age.num_minutes() >= i64::try_from(plan.freshness_window_minutes).unwrap_or(i64::MAX) {
            return Some(format!("whose ref was signed at {} and is stale", plan.signed_at));
        }
        let mut around =
            (-CLOCKS_DIFFER..=CLOCKS_DIFFER).step_by(10).map(|secs| at + TimeDelta::seconds(secs));
        let closed = !plan.windows.is_empty()
            && around.all(|at| !plan.windows.iter().any(|window| window.is_open(at)));
        closed.then(|| "whose channel's window is closed".to_owned())
    }

    /// A host that is truly under way in the newest rollout of a channel that goes first, if that was opened before this
    /// one.
    fn before_channel(&self, plan: &Plan, log_index: u64, hosts: &[Host]) -> Option<String> {
        let mine = self.opened.get(&plan.rollout_id)?;
        plan.waits_for.iter().find_map(|edge| {
            let of_channel = self.plans.values().filter(|first| first.channel == edge.gates);
            let first = of_channel.max_by_key(|first| first.order)?;
            let rollout = &first.rollout_id;
            let by_people = |verb: &Verb| matches!(verb, Verb::ClearRollout { rollout: of } if of == rollout);
            // Who returns late joins a rollout that is over, which holds nobody back any more.
            let over = self.kept.has_ended(rollout) || self.verbs.iter().any(by_people);
            if over || self.opened.get(rollout)? >= mine {
                return None;
            }
            // Where nobody may fail, a host that was given up as lost has failed its rollout, which holds just as well.
            let may_fail = first.policy.max_failures > 0 || self.changed.contains(rollout);
            let under_way = hosts.iter().zip(&self.own).find(|(host, own)| {
                let let_go = self.is_let_go(&host.name, rollout) || self.is_twofold(&host.name);
                own.get(rollout).is_some_and(|own| {
                    let waits = own.in_flight() && own.state != HostState::Deferred;
                    let given_up = may_fail && self.is_lost(own, first, &host.name);
                    waits && own.log_index < log_index && !let_go && !given_up
                })
            });
            under_way
                .map(|(host, _)| format!("while {} is under way in {rollout}, which goes first", host.name))
        })
    }

    /// Whether others may take a host to be lost that is under way.
    pub(super) fn is_lost(&self, own: &Own, plan: &Plan, host: &HostId) -> bool {
        let limits = &plan.policy;
        let soak = plan.wave_of(host).and_then(|wave| plan.wave(wave)).map_or(0, |wave| wave.soak_secs);
        let patience = limits
            .lost_after_secs
            .min(limits.activation_timeout_secs + soak + 2 * limits.sustained_failure_secs);
        self.now.saturating_sub(own.acked) + 100_000_000 >= patience * 1_000_000
    }

    fn unheard_of(&self, said: u64, host: &HostId, signer: &Host, hosts: &[Host]) -> Option<String> {
        let number = hosts.iter().position(|it| it.name == *host && !it.is_dormant)?;
        if hosts[number].name == signer.name || hosts[number].lies() {
            return None;
        }
        let silent = said.saturating_sub(signer.heard_at[number]);
        (silent > self.patience).then(|| format!("of which it has not heard for {} s", silent / 1_000_000))
    }

    /// Whether a host fetches ahead, and its target cannot have come to it by then.
    fn lacks_target(&self, said: u64, plan: &Plan, host: &HostId, hosts: &[Host]) -> Option<String> {
        let state = hosts.iter().find(|it| it.name == *host && !it.is_dormant)?;
        let target = plan.targets.get(host)?;
        let lacks = state.backend.prefetches() && !state.lies() && !self.is_twofold(host);
        (lacks && !state.machine.holds(target, said)).then(|| format!("which does not hold {target}"))
    }

    /// Whether an entry is of the log that a recovery has ended.
    pub(super) fn is_of_old_log(&self, log_index: u64) -> bool {
        self.recovered.as_ref().is_some_and(|recovered| log_index < recovered.behind)
    }

    /// Whether a host acts on what was certified before a recovery, although it held that when it did.
    pub(super) fn acts_on_old(&self, host: usize, log_index: u64) -> bool {
        self.recovered.as_ref().filter(|_| self.is_of_old_log(log_index)).is_some_and(|recovered| {
            let known = self.known_at.get(&(host, recovered.row.clone()));
            known.is_some_and(|known| *known < self.now)
        })
    }

    /// Notes when a rollout opened by the log.
    pub(super) fn note_opened(&mut self, decision: &Decision) {
        if let DecisionBody::RolloutTransition { rollout_id, to, .. } = &decision.body
            && matches!(to, RolloutState::Opening | RolloutState::Active)
            && !self.is_of_old_log(decision.log_index)
        {
            let opened = self.opened.entry(rollout_id.clone()).or_insert(decision.log_index);
            *opened = (*opened).min(decision.log_index);
        }
    }
}
