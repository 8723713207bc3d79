//! Which dispatches this host acts on: its own last word.

use chrono::{DateTime, TimeDelta, Utc};

use super::door::HostOrder;
use super::turn::Turn;
use super::{Node, Note, Output};
use crate::document::Plan;
use crate::id::RolloutId;
use crate::ledger::Mirrored;
use crate::planted::Bug;
use crate::view::secs;
use crate::wire::{DecisionBody, DecisionId, HostEventKind, HostState, RejectReason};

/// How far this host's clock may be off before it refuses to be dispatched.
const OWN_CLOCK_OFF_MAX: TimeDelta = TimeDelta::minutes(5);

/// What this host says to a dispatch.
enum Answer {
    Acknowledge,
    Reject(RejectReason),
    /// What is missing may still come.
    Hold,
}

impl Node {
    /// Answers every certified dispatch to this host that it has not answered yet.
    pub(super) fn consider_dispatches(&mut self, turn: &mut Turn) {
        let owed: Vec<(DecisionId, DecisionBody)> =
            self.ledger.owed_dispatches().map(|(id, body)| (id, body.clone())).collect();
        for (id, body) in owed {
            let DecisionBody::Dispatch { rollout_id, .. } = &body else { continue };
            // Somebody may have switched by hand since: where a rollback would go is asked of the backend now.
            if self.own.observing.is_none_or(|asked| asked < id) {
                self.own.observing = Some(id);
                turn.outputs.push(Output::Order(HostOrder::Observe));
            }
            if self.own.observed.is_none_or(|answered| answered < id) {
                continue;
            }
            let log_index = id.log_index;
            let now = turn.now.utc;
            match self.answer(turn, &body) {
                Answer::Hold => {}
                Answer::Acknowledge => {
                    let current_closure_at_dispatch = self.own.running.clone().flatten();
                    let kind = HostEventKind::DispatchAck {
                        current_closure_at_dispatch,
                        received_at: now,
                        log_index,
                    };
                    self.emit(turn, rollout_id, kind);
                }
                Answer::Reject(reason) => {
                    let kind = HostEventKind::DispatchRejected { reason, rejected_at: now, log_index };
                    self.emit(turn, rollout_id, kind);
                    turn.tell(Note::DispatchRejected { rollout: rollout_id.clone(), reason });
                }
            }
        }
    }

    /// Every check before a host acts on a dispatch, in the order in which a person would want to hear of them.
    fn answer(&self, turn: &Turn, dispatch: &DecisionBody) -> Answer {
        use RejectReason as R;
        let DecisionBody::Dispatch { host, rollout_id, target_closure, not_after, .. } = dispatch else {
            return Answer::Hold;
        };
        let (now, documents) = (turn.now.utc, self.ledger.documents());
        // Without the ref nothing can be said, not even no; and of a rollout that this host is in already, or was,
        // every further dispatch has its answer.
        let Some(plan) = self.ledger.plan(rollout_id) else { return Answer::Hold };
        let pending = |it: &Mirrored| it.record.state == HostState::Pending;
        if !self.ledger.record(host, rollout_id).is_some_and(pending) || !self.was_enrolled() {
            return Answer::Hold;
        }
        let greatest = self.greatest_at.max(Some(now));
        if greatest > Some(*not_after) && !self.ledger.planted().has(Bug::LateTaken) {
            return Answer::Reject(R::TooLate);
        }
        if self.presences.own_offset(turn.now).is_some_and(|offset| offset.abs() > OWN_CLOCK_OFF_MAX) {
            return Answer::Reject(R::Clock);
        }
        let Some(fleet) = documents.fleet() else { return Answer::Hold };
        let enrolled = fleet.document.hosts.get(host).filter(|entry| entry.key == self.signer.public());
        if enrolled.is_none() {
            return Answer::Reject(R::Revoked);
        }
        // A newer fleet document may still come; and a switch would run into the rollback of what failed before it.
        if self.own.running.is_none() || documents.fleet_is_expired(now) || self.rolls_back(rollout_id) {
            return Answer::Hold;
        }
        let reason = if let Some(reason) = documents.forbid(plan, host, target_closure, now) {
            Some(reason)
        } else if self.ran_newer(plan) {
            Some(R::RefDowngrade)
        } else if self.ledger.is_quarantined(&plan.channel, target_closure)
            && !self.ledger.planted().has(Bug::QuarantineIgnored)
        {
            Some(R::Quarantined)
        } else if self.entered_at(plan, *not_after) < self.incarnation_began() {
            Some(R::TooLate)
        } else if self.busy_elsewhere(rollout_id) {
            Some(R::Busy)
        } else if !self.settings.backend.accepts(target_closure) {
            Some(R::Backend)
        } else {
            None
        };
        if let Some(reason) = reason {
            return Answer::Reject(reason);
        }
        match documents.paused(&plan.channel, rollout_id, host, now) {
            Some(_) if !self.ledger.planted().has(Bug::PauseIgnored) => Answer::Hold,
            Some(_) | None => Answer::Acknowledge,
        }
    }

    fn ran_newer(&self, plan: &Plan) -> bool {
        self.ledger.records_of(&self.settings.host).any(|it| {
            // A recovery begins the order of refs anew.
            let of_this_log = it.record.log_index > self.ledger.log_begins_behind();
            let ran =
                it.record.dispatch_acked_at.is_some() && it.record.channel == plan.channel && of_this_log;
            ran && self.ledger.plan(&it.record.rollout_id).is_some_and(|other| other.order > plan.order)
        })
    }

    /// Whether this host still goes back from another rollout.
    fn rolls_back(&self, rollout: &RolloutId) -> bool {
        let mut own = self.ledger.records_of(&self.settings.host);
        own.any(|it| it.record.rollout_id != *rollout && it.record.owes_rollback())
    }

    fn busy_elsewhere(&self, rollout: &RolloutId) -> bool {
        self.ledger.records_of(&self.settings.host).any(|it| {
            it.record.rollout_id != *rollout
                && it.record.is_in_flight()
                && it.record.state != HostState::Deferred
                && !self.ledger.planted().has(Bug::BusyIgnored)
        })
    }

    fn entered_at(&self, plan: &Plan, not_after: DateTime<Utc>) -> DateTime<Utc> {
        not_after.checked_sub_signed(secs(plan.policy.dispatch_timeout_secs)).unwrap_or(not_after)
    }
}
