//! The mirror: every host's signed events, run through the host machine in the order of its feed.

use super::feed::Waiting;
use super::views::Subject;
use super::{Happening, Ledger, Mirrored};
use crate::document::Plan;
use crate::host;
use crate::host::{HostContext, Mirror, Terms};
use crate::id::{HostId, RolloutId};
use crate::wire::{
    DecisionBody, EnvelopeRef, FeedBody, HostEvent, HostEventKind, HostState, IncarnationStarted,
};
use chrono::{DateTime, Utc};

impl Ledger {
    /// Whether the host has come to an end in this or a newer dispatch already: the certificate of an older one
    /// that comes late takes no slot.
    pub(super) fn is_behind(&self, host: &HostId, rollout: &RolloutId, log_index: u64) -> bool {
        self.records_of(host).any(|mirrored| {
            let record = &mirrored.record;
            let ended = match record.state {
                HostState::Converged => true,
                HostState::Reverted => record.rollout_id == *rollout,
                HostState::Pending
                | HostState::Activating
                | HostState::Deferred
                | HostState::Soaking
                | HostState::Failed => false,
            };
            ended && record.log_index >= log_index
        })
    }

    /// Whether an event answers a dispatch that is not known here but may still come.
    pub(super) fn answers_unknown(&self, record: &host::Record, event: &HostEvent) -> bool {
        let (HostEventKind::DispatchAck { log_index, .. }
        | HostEventKind::DispatchRejected { log_index, .. }) = &event.kind
        else {
            return false;
        };
        // Of what it has applied entry by entry, who follows the log knows all: anything else is no dispatch.
        let may_come = !self.knows_dispatches_at(*log_index);
        may_come && record.state == HostState::Pending && record.known_dispatch(*log_index).is_none()
    }

    /// Runs a host's waiting events through the mirror, up to the first whose record is not open yet.
    pub(super) fn advance(&mut self, host: &HostId) {
        while let Some(waiting) = self.feeds.get(host).and_then(|feed| feed.waiting.front()).cloned() {
            let incarnation = self.feeds.get(host).map_or(0, |feed| feed.applied_incarnation);
            let is_late = waiting.reference.incarnation < incarnation;
            match &waiting.body {
                // What is open by now is a newer incarnation's.
                FeedBody::Incarnation(_) if is_late => {}
                FeedBody::Incarnation(started) => {
                    self.end_records(host, started, waiting.reference, waiting.at);
                }
                FeedBody::Rollout(event) => {
                    let (Some(mirrored), Some(plan)) = (
                        self.record(host, &event.rollout_id).cloned(),
                        self.plans.get(&event.rollout_id).cloned(),
                    ) else {
                        // Of what was given up nothing more is to be known.
                        if self.retired.contains(&event.rollout_id) {
                            if let Some(feed) = self.feeds.get_mut(host) {
                                feed.forget(&event.rollout_id);
                                feed.waiting.pop_front();
                            }
                            continue;
                        }
                        if self.is_of_ended_log(host, event) {
                            if let Some(feed) = self.feeds.get_mut(host) {
                                feed.stray(event);
                                feed.waiting.pop_front();
                            }
                            continue;
                        }
                        return;
                    };
                    if self.answers_unknown(&mirrored.record, event) {
                        return;
                    }
                    if is_late {
                        self.mirror_late(&plan, mirrored, event, &waiting);
                    } else {
                        self.mirror(&plan, mirrored, event, &waiting);
                    }
                }
            }
            if let Some(feed) = self.feeds.get_mut(host) {
                feed.applied_incarnation = feed.applied_incarnation.max(waiting.reference.incarnation);
                feed.waiting.pop_front();
            }
        }
    }

    /// Whether an event can only be of a rollout that a recovery has ended: nothing of the new log was answered for it.
    fn is_of_ended_log(&self, host: &HostId, event: &HostEvent) -> bool {
        let of_new =
            self.feeds.get(host).is_some_and(|feed| feed.answered_behind(&event.rollout_id, self.base));
        self.is_recovered() && !of_new
    }

    /// Mirrors what a host said before its new incarnation began, where that came first: what it had come to counts, and
    /// only what was still open then has failed.
    fn mirror_late(&mut self, plan: &Plan, mirrored: Mirrored, event: &HostEvent, waiting: &Waiting) {
        let ended = mirrored.record.clone();
        let before = host::before_incarnation(&ended, event.seq);
        let Ok(step) = host::step::<Mirror>(&before, &HostContext::with(&plan.policy, self.planted()), event)
        else {
            return;
        };
        let mut next = step.record;
        if next.state == HostState::Pending {
            next.last_event_seq = ended.last_event_seq;
        } else if next.is_in_flight() {
            let started = IncarnationStarted {
                current_closure: ended.current_closure.clone(),
                started_at: ended.failed_at.unwrap_or(waiting.at),
            };
            next = host::step_incarnation(&next, &started);
        }
        let host = next.host.clone();
        let moved = next.state != ended.state;
        let settled = Mirrored {
            evidence: if moved { Some(waiting.reference) } else { mirrored.evidence },
            reported_at: if moved { Some(waiting.at) } else { mirrored.reported_at },
            record: next,
        };
        if moved {
            self.settle(&host, &settled.record, ended.state);
        }
        self.put_record(&host, settled);
    }

    pub(super) fn mirror(
        &mut self,
        plan: &Plan,
        mut mirrored: Mirrored,
        event: &HostEvent,
        waiting: &Waiting,
    ) {
        let (host, before) = (mirrored.record.host.clone(), mirrored.record.state);
        let step = match host::step::<Mirror>(
            &mirrored.record,
            &HostContext::with(&plan.policy, self.planted()),
            event,
        ) {
            Ok(step) => step,
            Err(error) => {
                self.alarm(format!("{host} reports what cannot be in {}: {error}", event.rollout_id));
                return;
            }
        };
        mirrored.record = step.record;
        if mirrored.record.state != before {
            mirrored.evidence = Some(waiting.reference);
            mirrored.reported_at = Some(waiting.at);
            self.settle(&host, &mirrored.record, before);
        }
        self.put_record(&host, mirrored);
    }

    /// What follows for slots and suspicion when a host has moved.
    pub(super) fn settle(&mut self, host: &HostId, record: &host::Record, from: HostState) {
        self.happenings.push(Happening::HostMoved {
            rollout: record.rollout_id.clone(),
            host: host.clone(),
            from,
            to: record.state,
        });
        match record.state {
            HostState::Converged => self.slots.free_up_to(host, &record.rollout_id),
            HostState::Reverted => {
                let waited_in = self
                    .records_of(host)
                    .filter(|it| {
                        it.record.state == HostState::Deferred && it.record.log_index < record.log_index
                    })
                    .map(|it| it.record.rollout_id.clone())
                    .collect();
                self.slots.free_of(host, &record.rollout_id, &waited_in);
                self.suspects
                    .entry((record.channel.clone(), record.target_closure.clone()))
                    .or_insert_with(|| (record.rollout_id.clone(), host.clone()));
            }
            HostState::Pending
            | HostState::Activating
            | HostState::Deferred
            | HostState::Soaking
            | HostState::Failed => {}
        }
    }

    pub(super) fn end_records(
        &mut self,
        host: &HostId,
        started: &IncarnationStarted,
        reference: EnvelopeRef,
        at: DateTime<Utc>,
    ) {
        let open: Vec<Mirrored> =
            self.records_of(host).filter(|mirrored| is_open(mirrored.record.state)).cloned().collect();
        for mut mirrored in open {
            let before = mirrored.record.state;
            mirrored.record = host::step_incarnation(&mirrored.record, started);
            if mirrored.record.state != before {
                mirrored.evidence = Some(reference);
                mirrored.reported_at = Some(at);
                self.settle(host, &mirrored.record, before);
            }
            self.put_record(host, mirrored);
        }
    }

    /// Opens the record of a dispatched host, or refreshes it if the host is dispatched anew.
    pub(super) fn open_record(&mut self, log_index: u64, dispatch: &DecisionBody) {
        let DecisionBody::Dispatch { host, rollout_id, target_closure, soak_due_at, soak_secs, .. } =
            dispatch
        else {
            return;
        };
        let soak = crate::view::secs(*soak_secs);
        let dispatched_at = soak_due_at.checked_sub_signed(soak).unwrap_or(*soak_due_at);
        let mirrored = match self.record(host, rollout_id).cloned() {
            Some(mut mirrored) => {
                let terms =
                    Terms { log_index, dispatched_at, soak_due_at: *soak_due_at, soak_secs: *soak_secs };
                let next = mirrored.record.dispatched_by(terms);
                if next == mirrored.record {
                    return;
                }
                mirrored.record = next;
                mirrored
            }
            None => Mirrored {
                record: host::Record::open(
                    rollout_id.clone(),
                    host.clone(),
                    rollout_id.channel(),
                    target_closure.clone(),
                    dispatched_at,
                    *soak_due_at,
                    *soak_secs,
                    log_index,
                ),
                evidence: None,
                reported_at: None,
            },
        };
        self.put_record(host, mirrored);
    }

    pub(super) fn put_record(&mut self, host: &HostId, mirrored: Mirrored) {
        let rollout = mirrored.record.rollout_id.clone();
        self.touch(Subject::HostRecord(rollout.clone(), host.clone()), self.last_position());
        self.records.entry(host.clone()).or_default().insert(rollout, mirrored);
    }
}

/// Whether a host may still act in the rollout.
fn is_open(state: HostState) -> bool {
    match state {
        HostState::Pending | HostState::Activating | HostState::Deferred | HostState::Soaking => true,
        HostState::Converged | HostState::Failed | HostState::Reverted => false,
    }
}
