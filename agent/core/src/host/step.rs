//! The one table of the host machine, and what each of its events does.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::effect::{Effect, Level};
use super::error::{Invariant, StepError};
use super::record::{ProbeRecord, Record, THIRD_CLOSURE_EXIT_CODE};
use super::role::Role;
use crate::document::plan::Policy;
use crate::id::{Closure, ProbeName};
use crate::planted::{Bug, Planted};
use crate::wire::{
    DeclaredProbe, HealthPolicy, HostEvent, HostEventKind, HostState, IncarnationStarted, ProbeMode,
    ProbeStatus, RejectReason,
};

/// What a step reads besides the record and the event.
#[derive(Debug, Clone, Copy)]
pub struct HostContext<'a> {
    /// The policy that the operators signed.
    pub policy: &'a Policy,
    planted: Planted,
}

impl<'a> HostContext<'a> {
    /// The context of a rollout under this policy.
    pub fn new(policy: &'a Policy) -> Self {
        Self::with(policy, Planted::default())
    }

    /// The same with a bug, or none.
    pub(crate) fn with(policy: &'a Policy, planted: Planted) -> Self {
        Self { policy, planted }
    }
}

/// A legal step: the record after it, and what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the effects are owed"]
pub struct Step<E> {
    /// The record after the event.
    pub record: Record,
    /// In order: the event told on, the transition, what follows from it.
    pub effects: Vec<Effect<E>>,
}

/// Applies one event of a host to its record. A refused event changes nothing.
pub fn step<R: Role>(
    record: &Record,
    context: &HostContext<'_>,
    event: &HostEvent,
) -> Result<Step<R::Effect>, StepError> {
    if event.rollout_id != record.rollout_id {
        let (event, record) = (event.rollout_id.clone(), record.rollout_id.clone());
        return Err(StepError::OtherRollout { event, record });
    }
    if event.seq <= record.last_event_seq {
        return Err(StepError::SeqRegression { got: event.seq, last: record.last_event_seq });
    }
    R::check_next(record.last_event_seq, event.seq)?;
    let mut turn = Turn::<R> { next: record.clone(), follows: Vec::new(), planted: context.planted };
    let at = turn.apply(context.policy, &event.kind)?;
    turn.next.last_event_seq = event.seq;

    let mut effects = vec![Effect::Role(R::tell(record, event))];
    effects.extend(transition(record, &turn.next, at));
    effects.append(&mut turn.follows);
    Ok(Step { record: turn.next, effects })
}

/// The record after its host began a new incarnation, which knows nothing of it: what was in flight has failed.
///
/// A Pending record stays: its host did nothing yet, and refuses whatever was entered before its incarnation. The events
/// of the new incarnation count from 1.
#[must_use]
pub fn step_incarnation(record: &Record, event: &IncarnationStarted) -> Record {
    let mut next = record.clone();
    match record.state {
        HostState::Pending => next.last_event_seq = 0,
        HostState::Activating | HostState::Deferred | HostState::Soaking => {
            next.ended_from = Some(record.state);
            next.state = HostState::Failed;
            next.failed_at = Some(event.started_at);
            next.current_closure.clone_from(&event.current_closure);
        }
        HostState::Converged | HostState::Failed | HostState::Reverted => {}
    }
    next
}

/// The record as it was before a new incarnation ended it, for an event of the old one that came late; unchanged if none
/// did.
#[must_use]
pub fn before_incarnation(record: &Record, seq: u64) -> Record {
    let mut before = record.clone();
    if let Some(state) = before.ended_from.take() {
        before.state = state;
        before.failed_at = None;
    } else if before.state == HostState::Pending {
        before.last_event_seq = seq.saturating_sub(1);
    }
    before
}

fn transition<E>(from: &Record, to: &Record, at: DateTime<Utc>) -> Option<Effect<E>> {
    (from.state != to.state).then(|| Effect::RecordTransition {
        host: to.host.clone(),
        rollout_id: to.rollout_id.clone(),
        from: from.state,
        to: to.state,
        at,
    })
}

/// The table: which events a host can report from which state.
fn allows(from: HostState, kind: &HostEventKind) -> bool {
    use HostEventKind as E;
    match from {
        HostState::Pending => matches!(kind, E::DispatchAck { .. } | E::DispatchRejected { .. }),
        HostState::Activating => matches!(
            kind,
            E::ActivationStarted { .. }
                | E::ActivationCompleted { .. }
                | E::ActivationFailed { .. }
                | E::ActivationDeferred { .. }
        ),
        HostState::Deferred => matches!(kind, E::ActivationCompleted { .. } | E::ActivationFailed { .. }),
        HostState::Soaking => matches!(
            kind,
            E::ProbeTopologyDeclared { .. }
                | E::ProbeObservedFirst { .. }
                | E::ProbeResult { .. }
                | E::ProbeFailureFirst { .. }
                | E::Failed { .. }
                | E::Converged { .. }
        ),
        HostState::Failed => matches!(kind, E::RollbackComplete { .. }),
        HostState::Converged | HostState::Reverted => false,
    }
}

/// A step under way: the record as it will be, and what follows.
struct Turn<R: Role> {
    next: Record,
    follows: Vec<Effect<R::Effect>>,
    planted: Planted,
}

impl<R: Role> Turn<R> {
    /// Applies an event that the table has. Answers when it happened.
    fn apply(&mut self, policy: &Policy, kind: &HostEventKind) -> Result<DateTime<Utc>, StepError> {
        use HostEventKind as E;
        let from = self.next.state;
        if !allows(from, kind) {
            return Err(StepError::IllegalForState { from, event: kind.name() });
        }
        let at = match kind {
            E::DispatchAck { current_closure_at_dispatch, received_at, log_index } => {
                self.acknowledge(current_closure_at_dispatch.as_ref(), *received_at, *log_index)?;
                received_at
            }
            E::DispatchRejected { reason, rejected_at, log_index } => {
                self.reject(*reason, *log_index)?;
                rejected_at
            }
            E::ActivationStarted { started_at, switch_method: _, boot_id } => {
                self.next.activation_started_at = Some(*started_at);
                self.next.activation_boot_id = Some(boot_id.clone());
                started_at
            }
            E::ActivationCompleted { observed_current_closure, exit_code, completed_at } => {
                self.complete(observed_current_closure, *exit_code, *completed_at)?;
                completed_at
            }
            E::ActivationFailed { exit_code, stderr_tail: _, failed_at } => {
                self.next.activation_failed_at = Some(*failed_at);
                self.fail(policy.on_health_failure, *exit_code != THIRD_CLOSURE_EXIT_CODE, *failed_at);
                failed_at
            }
            E::ActivationDeferred { component: _, deferred_at } => {
                self.next.state = HostState::Deferred;
                deferred_at
            }
            E::ProbeTopologyDeclared { probes, declared_at } => {
                self.declare(probes)?;
                declared_at
            }
            E::ProbeObservedFirst { probe_name, mode, observed_at } => {
                self.check_probe(probe_name, *mode)?;
                self.next.probe_observed_first_at.get_or_insert(*observed_at);
                observed_at
            }
            E::ProbeResult { probe_name, mode, status, observed_at, failure_reason, sub_results: _ } => {
                self.check_probe(probe_name, *mode)?;
                self.observe(probe_name, *mode, *status, *observed_at, failure_reason.as_ref());
                observed_at
            }
            E::ProbeFailureFirst { probe_name, mode, first_failed_at } => {
                self.check_probe(probe_name, *mode)?;
                if *mode == ProbeMode::Enforce {
                    self.next.probe_failure_first_at.get_or_insert(*first_failed_at);
                }
                first_failed_at
            }
            E::Failed { failed_at, sustained_duration_secs: _, failing_probes: _, policy_applied } => {
                self.lose_health(policy.on_health_failure, *policy_applied, *failed_at)?;
                failed_at
            }
            E::RollbackComplete { reverted_to_closure, exit_code, completed_at } => {
                self.end_rollback(reverted_to_closure, *exit_code, *completed_at);
                completed_at
            }
            E::Converged { converged_at, current_closure } => {
                self.converge(*converged_at, current_closure)?;
                converged_at
            }
        };
        Ok(*at)
    }

    fn reject(&mut self, reason: RejectReason, log_index: u64) -> Result<(), Invariant> {
        self.next.known_dispatch(log_index).ok_or(Invariant::DispatchUnknown { log_index })?;
        self.next.rejected.insert(log_index, reason);
        Ok(())
    }

    fn acknowledge(
        &mut self,
        current: Option<&Closure>,
        received_at: DateTime<Utc>,
        log_index: u64,
    ) -> Result<(), Invariant> {
        let next = &mut self.next;
        let dispatch = next.known_dispatch(log_index).ok_or(Invariant::DispatchUnknown { log_index })?;
        next.take(dispatch);
        next.earlier_dispatches.clear();
        next.current_closure_at_dispatch = current.cloned();
        next.current_closure = current.cloned();
        next.dispatch_acked_at = Some(received_at);
        next.state = HostState::Activating;
        self.follows.extend(R::switch(&self.next).map(Effect::Role));
        Ok(())
    }

    fn complete(
        &mut self,
        observed: &Closure,
        exit_code: i32,
        completed_at: DateTime<Utc>,
    ) -> Result<(), Invariant> {
        let next = &mut self.next;
        if exit_code != 0 {
            return Err(Invariant::SwitchFailed { exit_code });
        }
        check_on_target(next, observed)?;
        next.activation_completed_at = Some(completed_at);
        next.current_closure = Some(observed.clone());
        next.declared_probes = None;
        clear_probes(next);
        next.state = HostState::Soaking;
        self.follows.extend(R::reset_probes(&self.next).map(Effect::Role));
        Ok(())
    }

    fn lose_health(
        &mut self,
        signed: HealthPolicy,
        claimed: HealthPolicy,
        failed_at: DateTime<Utc>,
    ) -> Result<(), Invariant> {
        if claimed != signed {
            return Err(Invariant::OtherPolicy { signed, claimed });
        }
        self.fail(signed, true, failed_at);
        Ok(())
    }

    fn fail(&mut self, policy: HealthPolicy, may_roll_back: bool, failed_at: DateTime<Utc>) {
        let next = &mut self.next;
        next.failed_at = Some(failed_at);
        next.policy_applied = Some(policy);
        next.state = HostState::Failed;
        let target = match policy {
            HealthPolicy::RollbackAndHalt if may_roll_back => next.rollback_target().cloned(),
            HealthPolicy::RollbackAndHalt | HealthPolicy::Halt => None,
        };
        next.rollback_owed = target.is_some();
        if let Some(closure) = target {
            self.follows.extend(R::roll_back(&self.next, &closure).map(Effect::Role));
        }
    }

    /// A set that is declared again follows a reset of the probes, so what was seen before counts no more.
    fn declare(&mut self, probes: &[DeclaredProbe]) -> Result<(), Invariant> {
        let mut names = BTreeSet::new();
        for probe in probes {
            if !names.insert(&probe.probe_name) {
                return Err(Invariant::ProbeDeclaredTwice { probe_name: probe.probe_name.clone() });
            }
        }
        self.next.declared_probes = Some(probes.to_vec());
        clear_probes(&mut self.next);
        Ok(())
    }

    fn check_probe(&self, probe_name: &ProbeName, got: ProbeMode) -> Result<(), Invariant> {
        let declared = self.next.declared_probes.as_ref().ok_or(Invariant::ProbesNotDeclared)?;
        let probe_name = probe_name.clone();
        let Some(probe) = declared.iter().find(|probe| probe.probe_name == probe_name) else {
            return Err(Invariant::ProbeNotDeclared { probe_name });
        };
        if probe.mode != got {
            return Err(Invariant::OtherProbeMode { probe_name, declared: probe.mode, got });
        }
        match got {
            ProbeMode::Disabled => Err(Invariant::ProbeDisabled { probe_name }),
            ProbeMode::Enforce | ProbeMode::Observe => Ok(()),
        }
    }

    fn observe(
        &mut self,
        probe_name: &ProbeName,
        mode: ProbeMode,
        status: ProbeStatus,
        observed_at: DateTime<Utc>,
        failure_reason: Option<&String>,
    ) {
        let next = &mut self.next;
        let last_pass_at = match status {
            ProbeStatus::Pass => Some(observed_at),
            ProbeStatus::Fail => next.probes.get(probe_name).and_then(|probe| probe.last_pass_at),
        };
        let failure_reason = match status {
            ProbeStatus::Pass => None,
            ProbeStatus::Fail => failure_reason.cloned(),
        };
        let result =
            ProbeRecord { status, mode, last_observed_at: observed_at, last_pass_at, failure_reason };
        next.probes.insert(probe_name.clone(), result);
        let fails =
            |probe: &ProbeRecord| probe.mode == ProbeMode::Enforce && probe.status == ProbeStatus::Fail;
        if !next.probes.values().any(fails) {
            next.probe_failure_first_at = None;
        }
    }

    fn converge(&mut self, converged_at: DateTime<Utc>, current: &Closure) -> Result<(), Invariant> {
        let next = &mut self.next;
        check_on_target(next, current)?;
        let (Some(due_at), Some(activation_completed_at)) =
            (next.soak_deadline(), next.activation_completed_at)
        else {
            return Err(Invariant::ActivationNotComplete);
        };
        let unchecked = self.planted.has(Bug::SoakUnchecked) || self.planted.has(Bug::SoakFromDispatch);
        if converged_at < due_at && !unchecked {
            return Err(Invariant::SoakNotOver { converged_at, due_at });
        }
        check_enforced_probes(next, activation_completed_at, self.planted)?;
        next.converged_at = Some(converged_at);
        next.current_closure = Some(current.clone());
        next.state = HostState::Converged;
        Ok(())
    }

    fn end_rollback(&mut self, reverted_to: &Closure, exit_code: i32, completed_at: DateTime<Utc>) {
        let next = &mut self.next;
        next.rollback_owed = false;
        if exit_code == 0 && next.rollback_target() == Some(reverted_to) {
            next.reverted_at = Some(completed_at);
            next.reverted_to = Some(reverted_to.clone());
            next.current_closure = Some(reverted_to.clone());
            next.state = HostState::Reverted;
            self.follows.extend(R::suspect(&self.next).map(Effect::Role));
            return;
        }
        let wanted = next.rollback_target().map_or_else(|| "unknown".to_owned(), ToString::to_string);
        self.follows.push(Effect::EmitLog {
            level: Level::Error,
            target: "host",
            message: "the rollback did not work",
            fields: BTreeMap::from([
                ("host", next.host.to_string()),
                ("rollout", next.rollout_id.to_string()),
                ("exit_code", exit_code.to_string()),
                ("wanted", wanted),
                ("runs", reverted_to.to_string()),
            ]),
        });
    }
}

fn clear_probes(record: &mut Record) {
    record.probes.clear();
    record.probe_observed_first_at = None;
    record.probe_failure_first_at = None;
}

fn check_on_target(record: &Record, observed: &Closure) -> Result<(), Invariant> {
    if *observed == record.target_closure {
        return Ok(());
    }
    Err(Invariant::OffTarget { target: record.target_closure.clone(), observed: observed.clone() })
}

/// Every declared enforced probe passes, as seen since the activation; silence is not health.
pub(super) fn check_enforced_probes(
    record: &Record,
    activation_completed_at: DateTime<Utc>,
    planted: Planted,
) -> Result<(), Invariant> {
    if record.declared_probes.is_none() {
        return Err(Invariant::ProbesNotDeclared);
    }
    for probe_name in record.enforced_probes().cloned() {
        if planted.has(Bug::SilenceIsHealth) && !record.probes.contains_key(&probe_name) {
            continue;
        }
        let Some(probe) = record.probes.get(&probe_name) else {
            return Err(Invariant::ProbeNotPassing { probe_name, status: None });
        };
        if probe.status != ProbeStatus::Pass {
            return Err(Invariant::ProbeNotPassing { probe_name, status: Some(probe.status) });
        }
        let last_observed_at = probe.last_observed_at;
        if last_observed_at < activation_completed_at {
            return Err(Invariant::ProbeStale { probe_name, last_observed_at, activation_completed_at });
        }
    }
    Ok(())
}
