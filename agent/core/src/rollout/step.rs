//! The one table of the rollout machine, and what each of its events does.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::effect::Effect;
use super::error::StepError;
use super::record::{HostEntry, Override, RETENTION_SECS, Record, Verb};
use crate::document::plan::Plan;
use crate::host::{QueuedDispatch, after};
use crate::id::{HostId, OperatorName, RolloutId};
use crate::wire::{Cause, HostState, RolloutEvent, RolloutState};

/// What a step reads besides the plan, the record, the event and its place in the log.
#[derive(Debug, Clone, Copy, Default)]
pub struct StepContext<'a> {
    /// The open rollout of the same channel, after the events before this one; only `RolloutOpened` looks at it.
    pub open_on_channel: Option<&'a RolloutId>,
    /// The hosts of the plan that people let go by documents that the log adopted: who was skipped, and who left the
    /// channel. Only `WaveAdvanced` and `RolloutTerminal` look at them.
    pub let_go: &'a [HostId],
}

/// A legal step: the record after it, and what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the effects are owed"]
pub struct Step {
    /// The record after the event.
    pub record: Record,
    /// In the order of their decisions.
    pub effects: Vec<Effect>,
}

/// Applies one event of the log to the rollout's record. A refused event changes nothing.
pub fn step(
    plan: &Plan,
    record: Option<&Record>,
    event: &RolloutEvent,
    log_index: u64,
    context: &StepContext<'_>,
) -> Result<Step, StepError> {
    let plans = [&plan.rollout_id].into_iter().chain(record.map(|record| &record.rollout_id));
    for rollout_id in plans {
        if event.rollout_id() != rollout_id {
            return Err(StepError::OtherRollout {
                event: event.rollout_id().clone(),
                plan: rollout_id.clone(),
            });
        }
    }
    let Some(record) = record else { return open(plan, event, log_index, context) };
    let next = record.clone();
    let let_go = context.let_go;
    let mut turn = Turn { plan, let_go, log_index, at: event.at(), next, effects: Vec::new() };
    turn.apply(event)?;
    Ok(Step { record: turn.next, effects: turn.effects })
}

/// The record after a host's dispatch of that log index was given up, so that the host may be dispatched again;
/// unchanged if the host has no such dispatch. The other dispatches of the same entry stand.
#[must_use]
pub fn withdraw(record: &Record, host: &HostId, log_index: u64) -> Record {
    let mut next = record.clone();
    if let Some(entry) = next.hosts.get_mut(host).filter(|entry| entry.dispatch == Some(log_index)) {
        entry.withdrawn = true;
    }
    next
}

fn open(
    plan: &Plan,
    event: &RolloutEvent,
    log_index: u64,
    context: &StepContext<'_>,
) -> Result<Step, StepError> {
    let rollout_id = plan.rollout_id.clone();
    let RolloutEvent::RolloutOpened { channel, target_ref, at, .. } = event else {
        return Err(StepError::IllegalForState { from: None, event: event.kind(), rollout_id });
    };
    if *channel != plan.channel || *target_ref != plan.target_ref {
        return Err(StepError::OtherRollout { event: RolloutId::new(channel, target_ref), plan: rollout_id });
    }
    if let Some(open) = context.open_on_channel {
        return Err(StepError::SupersessionExpected { rollout_id, open: open.clone() });
    }
    let to = RolloutState::Opening;
    let effects =
        vec![Effect::RecordRolloutTransition { rollout_id: rollout_id.clone(), from: None, to, at: *at }];
    let record = Record {
        rollout_id,
        channel: channel.clone(),
        target_ref: target_ref.clone(),
        state: to,
        current_wave: 0,
        opened_log_index: log_index,
        last_transition_log_index: log_index,
        opened_at: *at,
        terminal_at: None,
        superseded_at: None,
        hosts: BTreeMap::new(),
        quarantined: BTreeSet::new(),
        overrides: Vec::new(),
    };
    Ok(Step { record, effects })
}

/// How a rollout takes an event.
enum Meeting {
    Act,
    Ignore,
    Refuse,
}

/// The table: every pair by name.
fn meet(from: RolloutState, event: &RolloutEvent) -> Meeting {
    use Meeting::{Act, Ignore, Refuse};
    use RolloutEvent as E;
    use RolloutState as S;
    match event {
        E::RolloutOpened { .. } => Refuse,
        E::HostJoined { .. } => match from {
            S::Opening | S::Active | S::Converging | S::Terminal => Act,
            S::Superseded | S::Reverted | S::Failed => Ignore,
            S::Pruned => Refuse,
        },
        E::HostStateChanged { cause, .. } => match from {
            // Who was never dispatched can have come to nothing but this.
            S::Opening if *cause == Cause::NotFetched => Act,
            S::Opening => Refuse,
            S::Active | S::Converging | S::Terminal | S::Superseded | S::Reverted | S::Failed => Act,
            S::Pruned => Refuse,
        },
        E::WaveAdvanced { .. } | E::RolloutTerminal { .. } => match from {
            S::Opening | S::Active | S::Converging => Act,
            S::Terminal | S::Superseded | S::Reverted | S::Failed => Ignore,
            S::Pruned => Refuse,
        },
        E::SuccessorOpened { .. } => match from {
            S::Opening | S::Active | S::Converging | S::Terminal | S::Reverted | S::Failed => Act,
            S::Superseded => Ignore,
            S::Pruned => Refuse,
        },
        E::RetentionExpired { .. } => match from {
            S::Terminal | S::Reverted | S::Failed | S::Superseded => Act,
            S::Opening | S::Active | S::Converging | S::Pruned => Refuse,
        },
        E::OperatorClearance { .. } => match from {
            S::Reverted | S::Failed => Act,
            S::Opening | S::Active | S::Converging | S::Terminal | S::Superseded | S::Pruned => Refuse,
        },
        E::RolloutCancelled { .. } => match from {
            S::Opening | S::Active | S::Converging => Act,
            S::Terminal | S::Reverted | S::Failed | S::Superseded | S::Pruned => Refuse,
        },
    }
}

/// A step under way: the record as it will be, and what it asks for.
struct Turn<'a> {
    plan: &'a Plan,
    let_go: &'a [HostId],
    log_index: u64,
    at: DateTime<Utc>,
    next: Record,
    effects: Vec<Effect>,
}

impl Turn<'_> {
    fn apply(&mut self, event: &RolloutEvent) -> Result<(), StepError> {
        use RolloutEvent as E;
        let from = self.next.state;
        match meet(from, event) {
            Meeting::Act => {}
            Meeting::Ignore => return Ok(()),
            Meeting::Refuse => {
                let rollout_id = self.next.rollout_id.clone();
                return Err(StepError::IllegalForState { from: Some(from), event: event.kind(), rollout_id });
            }
        }
        match event {
            // It makes the record, so no record meets it.
            E::RolloutOpened { .. } => Ok(()),
            E::HostJoined { host_id, wave, .. } => {
                self.join(host_id, *wave)?;
                if from == RolloutState::Opening {
                    self.move_to(RolloutState::Active);
                }
                Ok(())
            }
            E::HostStateChanged { host_id, from, to, cause, .. } => {
                self.host_changed(host_id, *from, *to, *cause)
            }
            E::WaveAdvanced { from_wave, to_wave, .. } => self.advance(*from_wave, *to_wave),
            E::RolloutTerminal { .. } => self.terminate(),
            E::SuccessorOpened { successor_rollout_id, .. } => self.supersede(successor_rollout_id),
            E::RetentionExpired { .. } => {
                self.move_to(RolloutState::Pruned);
                Ok(())
            }
            E::OperatorClearance { operator, reason, .. } => {
                self.note(Verb::Clear, operator, reason);
                self.next.clear_failures();
                self.move_to(RolloutState::Active);
                Ok(())
            }
            E::RolloutCancelled { operator, reason, .. } => {
                self.note(Verb::Cancel, operator, reason);
                self.end(RolloutState::Failed);
                Ok(())
            }
        }
    }

    fn note(&mut self, verb: Verb, operator: &OperatorName, reason: &str) {
        let (operator, reason) = (operator.clone(), reason.to_owned());
        self.next.overrides.push(Override { verb, operator, reason, at: self.at });
    }

    fn host_changed(
        &mut self,
        host: &HostId,
        from: HostState,
        to: HostState,
        cause: Cause,
    ) -> Result<(), StepError> {
        use RolloutState as S;
        match self.next.state {
            S::Opening | S::Active | S::Converging => {
                if self.move_host(host, from, to, cause)? {
                    self.judge(to);
                }
            }
            // The rollout is over: a claim that cannot be is ordering noise.
            S::Failed => {
                let moved = self.move_host(host, from, to, cause).unwrap_or(false);
                if moved && to == HostState::Reverted && !self.next.is_cancelled() {
                    self.move_to(S::Reverted);
                    self.quarantine();
                }
            }
            S::Terminal | S::Reverted | S::Superseded | S::Pruned => {
                let _ = self.move_host(host, from, to, cause);
            }
        }
        Ok(())
    }

    fn move_to(&mut self, to: RolloutState) {
        let from = self.next.state;
        self.next.state = to;
        self.next.last_transition_log_index = self.log_index;
        let rollout_id = self.next.rollout_id.clone();
        self.effects.push(Effect::RecordRolloutTransition { rollout_id, from: Some(from), to, at: self.at });
    }

    fn end(&mut self, to: RolloutState) {
        self.move_to(to);
        self.schedule_pruning();
    }

    fn schedule_pruning(&mut self) {
        let rollout_id = self.next.rollout_id.clone();
        self.effects.push(Effect::SchedulePruning { rollout_id, delay_secs: RETENTION_SECS });
    }

    /// The host's wave by the plan.
    fn planned_wave(&self, host: &HostId) -> Result<u32, StepError> {
        let not_in_plan =
            || StepError::NotInPlan { host: host.clone(), rollout_id: self.next.rollout_id.clone() };
        self.plan.wave_of(host).ok_or_else(not_in_plan)
    }

    fn join(&mut self, host: &HostId, got: u32) -> Result<(), StepError> {
        let planned = self.planned_wave(host)?;
        if planned != got {
            return Err(StepError::OtherWave { host: host.clone(), planned, got });
        }
        let (Some(wave), Some(target)) = (self.plan.wave(planned), self.plan.targets.get(host)) else {
            let rollout_id = self.next.rollout_id.clone();
            return Err(StepError::NotInPlan { host: host.clone(), rollout_id });
        };
        let at = self.at;
        let entry = self.next.hosts.entry(host.clone()).or_insert_with(|| HostEntry::new(planned, at));
        if !entry.is_dispatchable(at) {
            return Ok(());
        }
        let not_after = after(at, self.plan.policy.dispatch_timeout_secs);
        *entry = HostEntry {
            dispatch: Some(self.log_index),
            not_after: Some(not_after),
            ..HostEntry::new(planned, at)
        };
        let rollout_id = self.next.rollout_id.clone();
        self.effects.push(Effect::OpenRolloutRecord {
            rollout_id: rollout_id.clone(),
            channel: self.next.channel.clone(),
            host: host.clone(),
        });
        self.effects.push(Effect::QueueDispatch(QueuedDispatch {
            host: host.clone(),
            rollout_id,
            target_closure: target.clone(),
            wave: planned,
            soak_due_at: after(at, wave.soak_secs),
            soak_secs: wave.soak_secs,
            not_after,
        }));
        Ok(())
    }

    fn supersede(&mut self, successor: &RolloutId) -> Result<(), StepError> {
        let superseded = &self.next.rollout_id;
        if successor == superseded || successor.channel() != self.next.channel {
            let (superseded, successor) = (superseded.clone(), successor.clone());
            return Err(StepError::NotASuccessor { superseded, successor });
        }
        self.next.superseded_at = Some(self.at);
        self.end(RolloutState::Superseded);
        Ok(())
    }

    /// Takes a claim about a host; false if it is stale, since the log knows the host in another state by now.
    fn move_host(
        &mut self,
        host: &HostId,
        from: HostState,
        to: HostState,
        cause: Cause,
    ) -> Result<bool, StepError> {
        let planned = self.planned_wave(host)?;
        let reported = matches!(cause, Cause::Reported { .. });
        let at = self.at;
        let unknown = HostEntry::new(planned, at);
        let entry = self.next.hosts.get(host).unwrap_or(&unknown);
        let reported_before = matches!(entry.cause, Some(Cause::Reported { .. }));
        let explains = to == HostState::Failed && reported && !reported_before;
        if entry.state != from || (from == to && !explains) {
            return Ok(false);
        }
        if entry.dispatch.is_none() && cause != Cause::NotFetched {
            let (host, rollout_id) = (host.clone(), self.next.rollout_id.clone());
            return Err(StepError::NotJoined { host, rollout_id });
        }
        let ended = match from {
            HostState::Converged | HostState::Reverted => true,
            HostState::Failed => reported_before,
            HostState::Pending | HostState::Activating | HostState::Deferred | HostState::Soaking => false,
        };
        // What a host says outweighs what was claimed of it, and so does that it says nothing.
        let takes_back = cause == Cause::Unfounded && to == HostState::Pending;
        let reckons = cause != Cause::Unfounded && to == HostState::Failed && !ended;
        if !(reported || takes_back || reckons) {
            return Err(StepError::IllegalMove { host: host.clone(), from, to });
        }
        let mut entry = entry.clone();
        entry.cause = match to {
            HostState::Failed => Some(cause),
            HostState::Reverted => {
                entry.cause.filter(|before| matches!(before, Cause::Reported { .. })).or(Some(cause))
            }
            HostState::Pending
            | HostState::Activating
            | HostState::Deferred
            | HostState::Soaking
            | HostState::Converged => None,
        };
        if to == HostState::Converged {
            entry.excused = None;
        }
        entry.evidence = match cause {
            Cause::Reported { envelope } => Some(envelope),
            Cause::Lost
            | Cause::Rejected
            | Cause::Expired
            | Cause::Overdue
            | Cause::NotFetched
            | Cause::Unfounded => None,
        };
        (entry.state, entry.since) = (to, at);
        self.next.hosts.insert(host.clone(), entry);
        Ok(true)
    }

    /// Ends the rollout if one host too many has failed.
    fn judge(&mut self, to: HostState) {
        let end = match to {
            HostState::Failed => RolloutState::Failed,
            HostState::Reverted => RolloutState::Reverted,
            HostState::Pending
            | HostState::Activating
            | HostState::Deferred
            | HostState::Soaking
            | HostState::Converged => return,
        };
        if self.next.failures() > self.plan.policy.max_failures {
            self.move_to(end);
            self.quarantine();
            self.schedule_pruning();
        }
    }

    /// Asks to bar every closure that failed by its host's own report, once each.
    fn quarantine(&mut self) {
        for (host, entry) in &self.next.hosts {
            let (Some(Cause::Reported { envelope }), true) = (entry.cause, entry.counts_as_failed()) else {
                continue;
            };
            let Some(closure) = self.plan.targets.get(host) else { continue };
            if self.next.quarantined.insert(closure.clone()) {
                self.effects.push(Effect::InsertQuarantineFromRollout {
                    channel: self.next.channel.clone(),
                    closure: closure.clone(),
                    host: host.clone(),
                    evidence: envelope,
                });
            }
        }
    }

    fn advance(&mut self, from_wave: u32, to_wave: u32) -> Result<(), StepError> {
        use RolloutState as S;
        let state = self.next.state;
        let no_wave_left = to_wave == from_wave;
        if from_wave != self.next.current_wave || (state == S::Converging && no_wave_left) {
            return Ok(());
        }
        let waves = self.plan.waves.len();
        if to_wave < from_wave || self.plan.wave(to_wave).is_none() {
            return Err(StepError::NoSuchWave { from_wave, to_wave, waves });
        }
        self.next.excuse_waves_to(self.plan, self.let_go, from_wave, self.at);
        let to = if no_wave_left { S::Converging } else { S::Active };
        if state != to {
            self.move_to(to);
        }
        if !no_wave_left {
            self.next.current_wave = to_wave;
            let rollout_id = self.next.rollout_id.clone();
            self.effects.push(Effect::UpdateCurrentWave { rollout_id, wave: to_wave });
        }
        Ok(())
    }

    fn terminate(&mut self) -> Result<(), StepError> {
        let hosts: Vec<HostId> = self.next.unfinished(self.plan, self.let_go, self.at).cloned().collect();
        if !hosts.is_empty() {
            return Err(StepError::Unfinished { rollout_id: self.next.rollout_id.clone(), hosts });
        }
        self.next.excuse_finished(self.plan, self.let_go, self.at);
        self.next.terminal_at = Some(self.at);
        self.end(RolloutState::Terminal);
        Ok(())
    }
}
