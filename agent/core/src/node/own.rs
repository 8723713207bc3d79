//! This host about itself: what it does once it acts on a dispatch, and what it reports.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use muster_signing::{Purpose, seal};

use super::door::{HostOrder, HostReport, Job};
use super::fetching::Ahead;
use super::turn::Turn;
use super::{Node, Note, Output, Topic};
use crate::document::{Fleet, Held, Plan};
use crate::host::{self, Effect, HostContext, Local, LocalEffect, ProbeRun, Recovery, Vigil};
use crate::id::{Closure, ProbeName, RolloutId};
use crate::ledger::{NO_HASH, Table, key};
use crate::planted::{Bug, Planted};
use crate::verify;
use crate::wire::{
    DecisionId, Envelope, FeedBody, HostEvent, HostEventKind, HostState, IncarnationStarted, ProbeMode,
    ProbeStatus, RolloutState, codec,
};

/// What a host knows of itself beside its feed; gone with the process.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// What runs now; the outer none until the backend has said.
    pub(super) running: Option<Option<Closure>>,
    /// The newest dispatch for which the backend was asked what runs, and the newest for which it has answered.
    pub(super) observing: Option<DecisionId>,
    pub(super) observed: Option<DecisionId>,
    vigil: Option<(RolloutId, Vigil)>,
    generation: u64,
    failing: BTreeSet<ProbeName>,
    pub(super) ahead: Ahead,
    pub(super) reboot_pending: bool,
}

impl Own {
    /// Enforced probes that fail now.
    pub(super) fn failing(&self) -> impl Iterator<Item = &ProbeName> {
        self.failing.iter()
    }
}

impl Node {
    /// Asks the backend what runs.
    pub(super) fn observe(&mut self, turn: &mut Turn) {
        turn.outputs.push(Output::Order(HostOrder::Observe));
    }

    /// Asks what became of jobs that an earlier life left.
    pub(super) fn begin_own(&mut self, turn: &mut Turn) {
        let me = self.settings.host.clone();
        let open: Vec<host::Record> = self
            .ledger
            .records_of(&me)
            .map(|it| it.record.clone())
            .filter(|record| record.is_in_flight() || record.owes_rollback())
            .filter(|record| record.state != HostState::Deferred || !self.is_passed_over(record))
            .collect();
        for record in open {
            let Some(plan) = self.ledger.plan(&record.rollout_id).cloned() else { continue };
            let rollback = record.state == HostState::Failed;
            let boot_id = record.activation_boot_id.clone();
            if let Some(job) = job_of(&plan, &record, rollback, self.ledger.planted()) {
                turn.outputs.push(Output::Order(HostOrder::Inspect { job, rollback, boot_id }));
            }
        }
        let settled = self.ledger.records_of(&me).max_by_key(|it| it.record.log_index);
        if settled.is_some_and(|it| it.record.state == HostState::Converged) {
            self.start_probes(turn);
        }
    }

    /// Whether any fleet document that is held names this host with its key: what it signs under another one nobody
    /// takes, and it could not read it back itself.
    pub(super) fn was_enrolled(&self) -> bool {
        let key = self.signer.public();
        let named =
            |fleet: &Held<Fleet>| fleet.hosts.get(&self.settings.host).is_some_and(|it| it.key == key);
        self.ledger.documents().fleets().any(|fleet| named(fleet))
    }

    /// The first thing that a new incarnation says: it ends what the host's older one left open.
    pub(super) fn begin_incarnation(&mut self, turn: &mut Turn) {
        let Some(current_closure) = self.own.running.clone() else { return };
        let feed = self.ledger.feed(&self.settings.host);
        let begun = feed.is_some_and(|feed| feed.incarnation() >= self.incarnation && feed.head().is_some());
        if !begun && self.is_enrolled() {
            let started_at = self.incarnation_began();
            let started = IncarnationStarted { current_closure, started_at };
            self.append(turn, FeedBody::Incarnation(started), true);
        }
    }

    /// Takes the target of the next boot back once it is known to be bad.
    pub(super) fn take_back_deferred(&mut self, turn: &mut Turn) {
        if self.ledger.planted().has(Bug::DeferredKept) {
            return;
        }
        let mine = self.ledger.records_of(&self.settings.host).map(|it| &it.record);
        let waits =
            |record: &&host::Record| record.state == HostState::Deferred && !self.is_passed_over(record);
        let bad = mine.filter(waits).find(|record| {
            let rollout = self.ledger.rollouts().get(&record.rollout_id).map(|rollout| rollout.state);
            matches!(rollout, Some(RolloutState::Failed | RolloutState::Reverted))
                || self.ledger.is_quarantined(&record.channel, &record.target_closure)
        });
        if let Some(rollout) = bad.map(|record| record.rollout_id.clone()) {
            let kind = HostEventKind::ActivationFailed {
                exit_code: host::NO_EXIT_CODE,
                stderr_tail: "its release failed elsewhere before this host was rebooted".to_owned(),
                failed_at: turn.now.utc,
            };
            self.emit(turn, &rollout, kind);
        }
    }

    /// Whether this host acted on a newer dispatch since: what the next boot brings is that one's affair then.
    fn is_passed_over(&self, record: &host::Record) -> bool {
        self.ledger
            .records_of(&self.settings.host)
            .any(|it| it.record.dispatch_acked_at.is_some() && it.record.log_index > record.log_index)
    }

    pub(super) fn incarnation_began(&self) -> DateTime<Utc> {
        let millis = i64::try_from(self.incarnation).unwrap_or(i64::MAX);
        DateTime::from_timestamp_millis(millis).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// Numbers, signs, stores and publishes an event of this host, and does what follows from it.
    ///
    /// An event that the host machine refuses is not made: something overtook it, and the refusal is told.
    pub(super) fn emit(&mut self, turn: &mut Turn, rollout: &RolloutId, kind: HostEventKind) {
        if !self.was_enrolled() {
            let message = format!("{} of {rollout}, but this host's key is not enrolled", kind.name());
            return turn.tell(Note::Warning { message });
        }
        let me = self.settings.host.clone();
        let (Some(mirrored), Some(plan)) =
            (self.ledger.record(&me, rollout), self.ledger.plan(rollout).cloned())
        else {
            return turn
                .tell(Note::Warning { message: format!("{} of {rollout}, which is not held", kind.name()) });
        };
        let event = HostEvent { rollout_id: rollout.clone(), seq: mirrored.record.last_event_seq + 1, kind };
        let context = HostContext::with(&plan.policy, self.ledger.planted());
        let step = match host::step::<Local>(&mirrored.record, &context, &event) {
            Ok(step) => step,
            Err(error) => {
                let message = format!("{} is not reported: {error}", event.kind.name());
                return turn.tell(Note::Warning { message });
            }
        };
        for effect in step.effects {
            match effect {
                Effect::Role(LocalEffect::EmitEvent { payload, durable, .. }) => {
                    self.append(turn, FeedBody::Rollout(payload), durable);
                }
                Effect::Role(effect) => self.fire(turn, &plan, effect),
                Effect::EmitLog { message, .. } => turn.tell(Note::Warning { message: message.to_owned() }),
                Effect::RecordTransition { .. } | Effect::EmitMetric { .. } => {}
            }
        }
    }

    /// Appends to this host's own feed.
    pub(super) fn append(&mut self, turn: &mut Turn, body: FeedBody, durable: bool) {
        let head = self
            .ledger
            .feed(&self.settings.host)
            .filter(|feed| feed.incarnation() == self.incarnation)
            .and_then(crate::ledger::Feed::head);
        let at = self.sign_time(turn);
        let envelope = Envelope {
            fleet: self.settings.fleet.clone(),
            host: self.settings.host.clone(),
            incarnation: self.incarnation,
            seq: head.map_or(0, |head| head.seq) + 1,
            prev: head.map_or(NO_HASH, |head| head.hash),
            at,
            body,
        };
        let fleet = self.settings.fleet.as_str();
        let bytes = seal(&self.signer, Purpose::Envelope, fleet, &codec::encode(&envelope));
        let opened = verify::own_envelope(&self.settings.fleet, &self.signer.public(), &bytes).ok();
        let appended = opened.as_ref().map(|envelope| self.ledger.envelope(envelope));
        if !matches!(appended, Some(Ok(()))) {
            let message = format!("this host's own envelope {} could not be appended", envelope.seq);
            return turn.tell(Note::Alarm { message });
        }
        if durable {
            self.outbox.insert(envelope.seq);
            turn.rows.put(Table::Outbox, key::number(envelope.seq), Vec::new());
        }
        turn.changed = true;
        turn.outputs.push(Output::Publish { topic: Topic::Events, bytes });
    }

    fn fire(&mut self, turn: &mut Turn, plan: &Plan, effect: LocalEffect) {
        match effect {
            LocalEffect::FireSwitch { rollout_id, .. } => self.fire_switch(turn, plan, &rollout_id),
            LocalEffect::FireRollbackTo { rollout_id, .. } => self.fire_rollback(turn, plan, &rollout_id),
            LocalEffect::ResetProbeCache { rollout_id } => {
                self.own.vigil = Some((rollout_id, Vigil::with(turn.now, self.ledger.planted())));
                self.start_probes(turn);
            }
            // The event itself was appended before what follows from it.
            LocalEffect::EmitEvent { .. } => {}
        }
    }

    /// Starts the switch; a target that runs already is not switched to, only proven.
    fn fire_switch(&mut self, turn: &mut Turn, plan: &Plan, rollout: &RolloutId) {
        let Some(record) = self.own_record(rollout) else { return };
        let (now, target) = (turn.now.utc, record.target_closure.clone());
        // What an earlier switch has set for the next boot only another switch takes back.
        let runs_already = self.own.running == Some(Some(target.clone())) && !self.waits_for_boot(&record);
        let method = if runs_already { "none" } else { self.settings.backend.switch_method() };
        if record.activation_started_at.is_none() {
            let started = HostEventKind::ActivationStarted {
                started_at: now,
                switch_method: method.to_owned(),
                boot_id: self.settings.boot_id.clone(),
            };
            self.emit(turn, rollout, started);
        }
        self.own.vigil = Some((rollout.clone(), Vigil::with(turn.now, self.ledger.planted())));
        if runs_already {
            let completed = HostEventKind::ActivationCompleted {
                observed_current_closure: target,
                exit_code: 0,
                completed_at: now,
            };
            return self.emit(turn, rollout, completed);
        }
        self.stop_probes(turn);
        if let Some(job) = job_of(plan, &record, false, self.ledger.planted()) {
            let contents = self.signed_contents(&plan.ref_hash);
            turn.outputs.push(Output::Order(HostOrder::Switch(Job { contents, ..job })));
        }
    }

    /// Whether this host waited for its reboot in another rollout when it acknowledged this dispatch.
    fn waits_for_boot(&self, record: &host::Record) -> bool {
        let older = self.ledger.records_of(&self.settings.host).map(|it| &it.record).filter(|it| {
            it.dispatch_acked_at.is_some()
                && it.rollout_id != record.rollout_id
                && it.log_index < record.log_index
        });
        older.max_by_key(|it| it.log_index).is_some_and(|it| it.state == HostState::Deferred)
    }

    fn fire_rollback(&mut self, turn: &mut Turn, plan: &Plan, rollout: &RolloutId) {
        let Some(record) = self.own_record(rollout) else { return };
        self.own.vigil = None;
        self.stop_probes(turn);
        if let Some(job) = job_of(plan, &record, true, self.ledger.planted()) {
            turn.outputs.push(Output::Order(HostOrder::RollBack(job)));
        }
    }

    fn own_record(&self, rollout: &RolloutId) -> Option<host::Record> {
        self.ledger.record(&self.settings.host, rollout).map(|it| it.record.clone())
    }

    fn start_probes(&mut self, turn: &mut Turn) {
        self.own.generation += 1;
        self.own.failing.clear();
        turn.outputs.push(Output::Order(HostOrder::StartProbes { generation: self.own.generation }));
    }

    fn stop_probes(&mut self, turn: &mut Turn) {
        self.own.generation += 1;
        self.own.failing.clear();
        turn.outputs.push(Output::Order(HostOrder::StopProbes));
    }

    /// Takes in what this host's workers saw.
    pub(super) fn host_report(&mut self, turn: &mut Turn, report: HostReport) {
        // What cannot be said yet is asked for again once it can.
        let of_the_feed = !matches!(
            report,
            HostReport::Running(_) | HostReport::Fetching { .. } | HostReport::RebootPending(_)
        );
        if of_the_feed && !self.feed_is_open() {
            return;
        }
        match report {
            HostReport::Running(closure) => {
                let first = self.own.running.is_none();
                self.own.running = Some(closure.clone());
                self.own.observed = self.own.observing;
                self.presence_wanted |= first;
                self.observed(turn, closure);
            }
            HostReport::SwitchEnded { rollout, exit_code, stderr_tail, observed } => {
                self.own.running = Some(observed.clone());
                self.presence_wanted = true;
                let Some(record) = self.own_record(&rollout).filter(|it| it.state == HostState::Activating)
                else {
                    return;
                };
                let now = turn.now.utc;
                let kind = host::activation_ended(&record, exit_code, &stderr_tail, observed.as_ref(), now);
                self.emit(turn, &rollout, kind);
            }
            HostReport::SwitchDeferred { rollout, component } => {
                let deferred_at = turn.now.utc;
                if self.own_record(&rollout).is_some_and(|it| it.state == HostState::Activating) {
                    let kind = HostEventKind::ActivationDeferred { component, deferred_at };
                    self.emit(turn, &rollout, kind);
                }
            }
            HostReport::RollbackEnded { rollout, exit_code, observed } => {
                self.own.running = Some(observed.clone());
                self.presence_wanted = true;
                let Some(record) = self.own_record(&rollout) else { return };
                let (exit_code, observed) = if self.ledger.planted().has(Bug::RollbackOnTrust) {
                    (0, record.rollback_target().cloned())
                } else {
                    (exit_code, observed)
                };
                let reverted_to_closure = observed.unwrap_or_else(|| record.target_closure.clone());
                let completed_at = turn.now.utc;
                let kind = HostEventKind::RollbackComplete { reverted_to_closure, exit_code, completed_at };
                self.emit(turn, &rollout, kind);
                self.start_probes(turn);
            }
            HostReport::ProbesDeclared { generation, probes } if generation == self.own.generation => {
                match probes {
                    Ok(probes) => {
                        if let Some((rollout, vigil)) = &mut self.own.vigil {
                            let (rollout, events) = (rollout.clone(), vigil.declared(turn.now, probes));
                            self.emit_all(turn, &rollout, events);
                        }
                    }
                    Err(why) => {
                        if let Some((_, vigil)) = &mut self.own.vigil {
                            vigil.undeclared(turn.now);
                        }
                        turn.tell(Note::Alarm { message: format!("health checks cannot be read: {why}") });
                    }
                }
            }
            HostReport::ProbeRan { generation, run } if generation == self.own.generation => {
                self.probe_ran(turn, run);
            }
            // Of probes that were stopped since.
            HostReport::ProbesDeclared { .. } | HostReport::ProbeRan { .. } => {}
            HostReport::Fetching { closure, fetch } => self.fetching(closure, fetch),
            HostReport::RebootPending(pending) => {
                self.presence_wanted |= pending != self.own.reboot_pending;
                self.own.reboot_pending = pending;
            }
            HostReport::Inspected { rollout, found } => self.inspected(turn, &rollout, &found),
        }
    }

    fn probe_ran(&mut self, turn: &mut Turn, run: ProbeRun) {
        if run.mode == ProbeMode::Enforce {
            match run.status {
                ProbeStatus::Pass => self.own.failing.remove(&run.probe_name),
                ProbeStatus::Fail => self.own.failing.insert(run.probe_name.clone()),
            };
        }
        let Some((rollout, vigil)) = &mut self.own.vigil else { return };
        let rollout = rollout.clone();
        let Some(record) = self.ledger.record(&self.settings.host, &rollout) else { return };
        let events = vigil.probe_ran(turn.now, &record.record, run);
        self.emit_all(turn, &rollout, events);
    }

    /// What became of a job that an earlier life of the agent left.
    fn inspected(&mut self, turn: &mut Turn, rollout: &RolloutId, found: &host::Found) {
        self.own.running = Some(found.observed.clone());
        let (Some(record), Some(plan)) = (self.own_record(rollout), self.ledger.plan(rollout).cloned())
        else {
            return;
        };
        if self.ledger.planted().has(Bug::SwitchTwice) && record.state == HostState::Activating {
            return self.fire_switch(turn, &plan, rollout);
        }
        match host::recover(&record, &plan.policy, found, turn.now.utc) {
            Recovery::Nothing => {}
            Recovery::Fire => self.fire_switch(turn, &plan, rollout),
            Recovery::FireRollback { .. } if self.ledger.planted().has(Bug::ForgetRollbackDebt) => {}
            Recovery::FireRollback { .. } => self.fire_rollback(turn, &plan, rollout),
            Recovery::Wait => {
                // For a reboot nobody has to wait: it starts the agent anew.
                if record.state == HostState::Deferred {
                    return;
                }
                self.own.vigil = Some((rollout.clone(), Vigil::with(turn.now, self.ledger.planted())));
                if let Some(job) = job_of(&plan, &record, false, self.ledger.planted()) {
                    turn.outputs.push(Output::Order(HostOrder::Await { job, rollback: false }));
                }
            }
            Recovery::Emit(kind) => self.emit(turn, rollout, kind),
            Recovery::ResetProbes { .. } => {
                self.own.vigil = Some((rollout.clone(), Vigil::with(turn.now, self.ledger.planted())));
                self.start_probes(turn);
            }
        }
    }

    /// The backend said what runs, which the vigil may have asked for.
    fn observed(&mut self, turn: &mut Turn, closure: Option<Closure>) {
        self.with_vigil(turn, |vigil, now, record, plan| vigil.observed(now, record, &plan.policy, closure));
    }

    /// Lets the vigil look at the time.
    pub(super) fn tick_own(&mut self, turn: &mut Turn) {
        let mut wants = (false, false);
        self.with_vigil(turn, |vigil, now, record, plan| {
            let vigilance = vigil.tick(now, record, &plan.policy);
            wants = (vigilance.observe, vigilance.reset_probes);
            vigilance.events
        });
        if wants.0 {
            turn.outputs.push(Output::Order(HostOrder::Observe));
        }
        if wants.1 {
            self.start_probes(turn);
        }
    }

    fn with_vigil(
        &mut self,
        turn: &mut Turn,
        ask: impl FnOnce(&mut Vigil, crate::time::Now, &host::Record, &Plan) -> Vec<HostEventKind>,
    ) {
        let Some((rollout, vigil)) = &mut self.own.vigil else { return };
        let rollout = rollout.clone();
        let (Some(mirrored), Some(plan)) =
            (self.ledger.record(&self.settings.host, &rollout), self.ledger.plan(&rollout))
        else {
            return;
        };
        let ended = !mirrored.record.is_in_flight();
        let events = ask(vigil, turn.now, &mirrored.record, plan);
        if ended {
            self.own.vigil = None;
        }
        self.emit_all(turn, &rollout, events);
    }

    fn emit_all(&mut self, turn: &mut Turn, rollout: &RolloutId, events: Vec<HostEventKind>) {
        for kind in events {
            self.emit(turn, rollout, kind);
        }
    }

    /// When the vigil wants to look at the time.
    pub(super) fn own_wakes_at(&self) -> Option<crate::time::Mono> {
        // What a host does that was dropped from the fleet it cannot report.
        let (rollout, vigil) =
            self.own.vigil.as_ref().filter(|_| self.was_enrolled() && self.feed_is_open())?;
        let record = &self.ledger.record(&self.settings.host, rollout)?.record;
        vigil.wakes_at(record, &self.ledger.plan(rollout)?.policy)
    }
}

/// The job that a record asks for: the switch to its target, or the way back.
fn job_of(plan: &Plan, record: &host::Record, rollback: bool, planted: Planted) -> Option<Job> {
    if rollback && planted.has(Bug::RollbackElsewhere) {
        let target = "dir:v0".parse().ok()?;
        let (rollout, log_index, previous) = (record.rollout_id.clone(), record.log_index, None);
        let timeout = Duration::from_secs(10);
        return Some(Job { rollout, log_index, target, previous, contents: None, timeout });
    }
    let target = if rollback { record.rollback_target()?.clone() } else { record.target_closure.clone() };
    Some(Job {
        rollout: record.rollout_id.clone(),
        log_index: record.log_index,
        target,
        previous: record.current_closure_at_dispatch.clone(),
        contents: None,
        timeout: Duration::from_secs(plan.policy.activation_timeout_secs),
    })
}
