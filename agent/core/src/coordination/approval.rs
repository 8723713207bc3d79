//! What one coordinator says to a decision, by its own evidence alone.

use chrono::{DateTime, TimeDelta, Utc};

use crate::document::{Plan, Verb};
use crate::gate::{self, WaveState};
use crate::ledger::{Because, Derived};
use crate::view::View;
use crate::wire::{DecisionBody, DecisionId, HostState, RolloutEvent, RolloutState};

/// How far an entry's time may lie ahead of a coordinator's own clock.
pub const CLOCK_AHEAD_MAX: TimeDelta = TimeDelta::seconds(30);

/// What a coordinator says to a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It signs.
    Endorse,
    /// Its evidence is not here yet; it asks again.
    Wait(String),
    /// It holds evidence against, and never signs.
    Object(String),
}

/// Judges a decision that the log led to.
pub fn judge(view: &View<'_>, derived: &Derived, now: DateTime<Utc>) -> Judgement {
    let at = match &derived.because {
        Because::Event(event) => Some(event.at()),
        Because::Withdrawn(_) => None,
    };
    if derived.time_went_back {
        return Judgement::Object("its entry's time lies before the entry ahead of it".to_owned());
    }
    if at.is_some_and(|at| at > now + CLOCK_AHEAD_MAX) {
        return Judgement::Object("its entry's time lies ahead of this coordinator's clock".to_owned());
    }
    match (&derived.decision.body, &derived.because) {
        (DecisionBody::Dispatch { .. }, _) => judge_dispatch(view, derived, now),
        (DecisionBody::Quarantine { .. }, _) => judge_quarantine(view, &derived.decision.body),
        (DecisionBody::RolloutTransition { .. }, Because::Event(event)) => judge_transition(view, event, now),
        (DecisionBody::Withdrawn { decision }, _) => judge_withdrawal(view, *decision, now),
        (DecisionBody::RolloutTransition { .. }, Because::Withdrawn(_)) => {
            Judgement::Object("no withdrawal moves a rollout".to_owned())
        }
    }
}

fn judge_dispatch(view: &View<'_>, derived: &Derived, now: DateTime<Utc>) -> Judgement {
    let DecisionBody::Dispatch { host, rollout_id, target_closure, not_after, .. } = &derived.decision.body
    else {
        return Judgement::Wait("not a dispatch".to_owned());
    };
    let Some(plan) = view.ledger.plan(rollout_id) else {
        return Judgement::Wait(format!("the ref of {rollout_id} is not held"));
    };
    if now > *not_after {
        return Judgement::Object("it is too late for this dispatch".to_owned());
    }
    if plan.targets.get(host) != Some(target_closure) {
        return Judgement::Object("the operators signed another closure for this host".to_owned());
    }
    let log_index = derived.decision.log_index;
    let older = view.ledger.slots().of(host).find(|slot| {
        slot.rollout == *rollout_id && slot.decision.log_index != log_index && !view.is_free(host, slot, now)
    });
    if let Some(slot) = older {
        return Judgement::Wait(format!(
            "the dispatch of log entry {} still stands",
            slot.decision.log_index
        ));
    }
    match gate::admit(view, plan, host, now) {
        Ok(()) => Judgement::Endorse,
        Err(blocked) if blocked.is_against() => Judgement::Object(blocked.to_string()),
        Err(blocked) => Judgement::Wait(blocked.to_string()),
    }
}

fn judge_quarantine(view: &View<'_>, body: &DecisionBody) -> Judgement {
    let DecisionBody::Quarantine { closure, rollout_id, host, evidence, .. } = body else {
        return Judgement::Wait("not a quarantine".to_owned());
    };
    let Some(mirrored) = view.ledger.record(host, rollout_id) else {
        return Judgement::Wait(format!("{host} has no record in {rollout_id} here"));
    };
    if mirrored.record.target_closure != *closure {
        return Judgement::Object(format!("{host} was to run another closure"));
    }
    match mirrored.record.state {
        HostState::Failed | HostState::Reverted => Judgement::Endorse,
        HostState::Converged => Judgement::Object(format!("{host} converged on it")),
        HostState::Pending | HostState::Activating | HostState::Deferred | HostState::Soaking => {
            Judgement::Wait(format!("the feed of {host} is not held up to {}", evidence.seq))
        }
    }
}

fn judge_transition(view: &View<'_>, event: &RolloutEvent, now: DateTime<Utc>) -> Judgement {
    let id = event.rollout_id();
    let (Some(plan), Some(record)) = (view.ledger.plan(id), view.ledger.rollouts().get(id)) else {
        return Judgement::Wait(format!("the ref of {id} is not held"));
    };
    match event {
        // Whether the hosts may be dispatched is asked of each dispatch; opening and closing let nothing through.
        RolloutEvent::RolloutOpened { .. }
        | RolloutEvent::SuccessorOpened { .. }
        | RolloutEvent::HostJoined { .. }
        | RolloutEvent::RetentionExpired { .. } => Judgement::Endorse,
        RolloutEvent::WaveAdvanced { from_wave, .. } => {
            match gate::wave_state(view, plan, *from_wave, now) {
                WaveState::Done => Judgement::Endorse,
                // The rollout went on since: what was true then is no longer asked.
                WaveState::Open(_) if !record.state.is_open() => Judgement::Endorse,
                WaveState::Open(reason) => Judgement::Wait(reason.to_string()),
            }
        }
        RolloutEvent::RolloutTerminal { .. } => judge_terminal(view, plan, now),
        RolloutEvent::HostStateChanged { .. } => {
            let (failed, allowed) = (view.failures(plan, now), plan.policy.max_failures);
            if failed > allowed || record.state == RolloutState::Active {
                Judgement::Endorse
            } else {
                Judgement::Wait(format!(
                    "{failed} hosts failed by this coordinator's evidence, {allowed} may"
                ))
            }
        }
        RolloutEvent::RolloutCancelled { .. } => {
            by_command(view, "cancels", |verb| matches!(verb, Verb::Cancel { rollout } if rollout == id))
        }
        RolloutEvent::OperatorClearance { .. } => {
            by_command(view, "clears", |verb| matches!(verb, Verb::ClearRollout { rollout } if rollout == id))
        }
    }
}

fn judge_terminal(view: &View<'_>, plan: &Plan, now: DateTime<Utc>) -> Judgement {
    let open = (0..).zip(&plan.waves).find_map(|(wave, _)| match gate::wave_state(view, plan, wave, now) {
        WaveState::Done => None,
        WaveState::Open(reason) => Some(reason),
    });
    match open {
        None => Judgement::Endorse,
        Some(reason) => Judgement::Wait(reason.to_string()),
    }
}

fn by_command(view: &View<'_>, does: &str, is_it: impl Fn(&Verb) -> bool) -> Judgement {
    if view.ledger.commands().any(|command| is_it(&command.document.verb)) {
        Judgement::Endorse
    } else {
        Judgement::Wait(format!("no adopted command {does} the rollout"))
    }
}

fn judge_withdrawal(view: &View<'_>, decision: DecisionId, now: DateTime<Utc>) -> Judgement {
    let slots = view.ledger.slots();
    let held = slots.hosts().flat_map(|host| slots.of(host).map(move |slot| (host, slot)));
    match held.into_iter().find(|(_, slot)| slot.decision == decision) {
        Some((host, slot)) if !view.is_free(host, slot, now) => {
            Judgement::Wait(format!("{host} may still act on the dispatch"))
        }
        Some(_) | None => Judgement::Endorse,
    }
}
