//! What a host says of itself, where it became durable.

use muster_core::id::{Closure, RolloutId};
use muster_core::ledger::{Table, key};
use muster_core::wire::{DecisionBody, DecisionId, Envelope, FeedBody, HostEventKind, HostState};

use super::{LAG, Own, Truth};
use crate::host::Host;
use crate::machine::works;

impl Truth {
    pub(super) fn own_event(&mut self, host: usize, envelope: &Envelope, hosts: &[Host]) {
        let FeedBody::Rollout(event) = &envelope.body else { return self.begun_anew(host) };
        let rollout = event.rollout_id.clone();
        if let HostEventKind::DispatchAck { current_closure_at_dispatch, log_index, received_at } =
            &event.kind
        {
            self.check_taken(host, &rollout, *log_index, *received_at, hosts);
            return self.acknowledged(host, rollout, *log_index, current_closure_at_dispatch.clone(), hosts);
        }
        let now = self.now;
        let Some(own) = self.own[host].get_mut(&rollout) else { return };
        match &event.kind {
            HostEventKind::ActivationCompleted { .. } => {
                own.state = HostState::Soaking;
                own.completed = Some(now);
            }
            HostEventKind::ActivationFailed { exit_code, .. } => {
                own.state = HostState::Failed;
                own.failed = now;
                own.third = *exit_code == muster_core::host::THIRD_CLOSURE_EXIT_CODE;
            }
            HostEventKind::Failed { policy_applied, .. } => {
                own.state = HostState::Failed;
                own.failed = now;
                own.policy = *policy_applied;
            }
            HostEventKind::ActivationDeferred { .. } => own.state = HostState::Deferred,
            HostEventKind::RollbackComplete { exit_code, reverted_to_closure, .. } => {
                own.rollback = Some(*exit_code);
                if *exit_code == 0 && own.prior.as_ref() == Some(reverted_to_closure) {
                    own.state = HostState::Reverted;
                    let machine = &hosts[host].machine;
                    let knows = !machine.tampered && !self.is_twofold(&hosts[host].name);
                    if machine.running.as_ref() != Some(reverted_to_closure) && knows {
                        let what = format!(
                            "{} says that it is back on {reverted_to_closure} and runs {:?}",
                            hosts[host].name, machine.running
                        );
                        self.broken(9, what);
                    }
                }
            }
            HostEventKind::Converged { .. } => {
                own.state = HostState::Converged;
                let own = own.clone();
                self.converged(host, &rollout, &own, hosts);
            }
            HostEventKind::DispatchAck { .. }
            | HostEventKind::DispatchRejected { .. }
            | HostEventKind::ActivationStarted { .. }
            | HostEventKind::ProbeTopologyDeclared { .. }
            | HostEventKind::ProbeObservedFirst { .. }
            | HostEventKind::ProbeResult { .. }
            | HostEventKind::ProbeFailureFirst { .. } => {}
        }
    }

    pub(super) fn acknowledged(
        &mut self,
        host: usize,
        rollout: RolloutId,
        log_index: u64,
        prior: Option<Closure>,
        hosts: &[Host],
    ) {
        let name = hosts[host].name.clone();
        let Some(plan) = self.plans.get(&rollout).cloned() else {
            return self.broken(1, format!("{name} acknowledges {rollout}, which nobody signed"));
        };
        let Some(target) = plan.targets.get(&name).cloned() else {
            return self.broken(1, format!("{name} acknowledges {rollout}, which has no target for it"));
        };
        let busy = self.own[host].iter().find(|(other, own)| {
            **other != rollout && matches!(own.state, HostState::Activating | HostState::Soaking)
        });
        if let Some((other, own)) = busy.filter(|_| !self.is_twofold(&name)) {
            let what = format!("{name} acknowledges {rollout} while it is {} in {other}", own.state.name());
            return self.broken(6, what);
        }
        self.check_operators(&rollout, &hosts[host]);
        self.check_certificate(&rollout, log_index, &hosts[host]);
        if self.acts_on_old(host, log_index) {
            let what =
                format!("{name} acknowledges entry {log_index}, and holds the document that ended its log");
            return self.broken(2, what);
        }
        let barred = self.quarantines[host].iter().find(|(channel, closure, id)| {
            *channel == plan.channel && *closure == target && !self.lifted.contains(&(channel.clone(), *id))
        });
        if let Some((_, closure, _)) = barred.filter(|_| !self.is_twofold(&name)) {
            let what =
                format!("{name} acknowledges a dispatch to {closure}, which it knows to be quarantined");
            return self.broken(5, what);
        }
        let policy = plan.policy.on_health_failure;
        let own = Own {
            state: HostState::Activating,
            log_index,
            acked: self.now,
            completed: None,
            failed: 0,
            prior,
            target,
            rollback: None,
            policy,
            third: false,
        };
        self.own[host].insert(rollout, own);
        self.check_budgets(host, hosts);
    }

    /// A host knows no more of what it was in the middle of.
    pub(super) fn begun_anew(&mut self, host: usize) {
        for own in self.own[host].values_mut().filter(|own| own.in_flight()) {
            (own.state, own.failed, own.third) = (HostState::Failed, self.now, true);
        }
        for own in self.own[host].values_mut().filter(|own| own.state == HostState::Failed) {
            own.third = true;
        }
    }

    /// Property 1, by the keys that the host knows to be valid: those of the fleet documents on its disk.
    pub(super) fn check_operators(&mut self, rollout: &RolloutId, state: &Host) {
        let under = self.signed_under.get(rollout).copied().unwrap_or(0);
        if self.handovers.iter().skip(under).any(|row| state.disk.row(Table::Documents, row).is_some()) {
            let what = format!("{} acts on {rollout}, whose signer it knows to be replaced", state.name);
            self.broken(1, what);
        }
    }

    /// Property 2, from the host's own disk and the operators' own documents.
    pub(super) fn check_certificate(&mut self, rollout: &RolloutId, log_index: u64, state: &Host) {
        let name = &state.name;
        let certified =
            self.decisions.range(DecisionId { log_index, ordinal: 0 }..).find(|(id, (_, decision))| {
                id.log_index == log_index
                    && matches!(&decision.body, DecisionBody::Dispatch { host, rollout_id, .. }
                    if host == name && rollout_id == rollout)
            });
        let held = certified.is_some_and(|(id, (_, decision))| {
            let row = key::decision(decision.fleet_serial, *id);
            state.disk.row(Table::Decisions, &row).is_some()
        });
        if !held {
            let what =
                format!("{name} acts on entry {log_index} of {rollout} without a certificate on its disk");
            self.broken(2, what);
        }
    }

    /// Property 8.
    pub(super) fn converged(&mut self, host: usize, rollout: &RolloutId, own: &Own, hosts: &[Host]) {
        if self.is_twofold(&hosts[host].name) {
            return;
        }
        let (state, now) = (&hosts[host], self.now);
        let (name, machine) = (&state.name, &state.machine);
        let completed = own.completed.unwrap_or(now);
        let soak = self.plans.get(rollout).and_then(|plan| {
            let wave = plan.wave_of(name)?;
            Some(plan.wave(wave)?.soak_secs)
        });
        // The soak runs by the uptime; who sees the clock jump begins it again. A jump counts that the agent had seen when
        // it judged: not one that was taken back before it looked, and not one that came while its word was being written.
        let began = machine.since.max(machine.booted).max(state.disk.jump_seen);
        let soaked = now.saturating_sub(began);
        let wanted = soak.unwrap_or(0) * 1_000_000;
        let passed = machine.passed.get(&works()).copied();
        let what = if machine
            .said
            .as_ref()
            .is_none_or(|(at, said)| said.as_ref() != Some(&own.target) || *at + LAG < completed)
        {
            format!("its backend last said {:?}", machine.said)
        } else if machine.running.as_ref() != Some(&own.target) && !machine.tampered {
            format!("it runs {:?}", machine.running)
        } else if soaked + wanted / 50 + LAG < wanted {
            format!("it soaked for {soaked} us of {wanted}")
        } else if !machine.tampered && passed.is_none_or(|at| at + LAG < completed) {
            format!("its probe last passed at {passed:?}, before its activation at {completed}")
        } else {
            return;
        };
        self.broken(8, format!("{name} converged on {} in {rollout}, but {what}", own.target));
    }
}
