//! What one coordinator says to a decision, by its own evidence alone.

use chrono::{DateTime, TimeDelta, Utc};

use crate::document::{Plan, Verb};
use crate::gate::{self, WaveState};
use crate::id::{HostId, RolloutId};
use crate::ledger::{Because, Derived};
use crate::view::{Standing, View};
use crate::wire::{Cause, DecisionBody, DecisionId, EnvelopeRef, HostState, RolloutEvent};

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
        Because::Withdrawn(_) | Because::SnapshotAsked => None,
    };
    if derived.time_went_back {
        return Judgement::Object("its entry's time lies before the entry ahead of it".to_owned());
    }
    if at.is_some_and(|at| at > now + CLOCK_AHEAD_MAX) {
        return Judgement::Object("its entry's time lies ahead of this coordinator's clock".to_owned());
    }
    match (&derived.decision.body, &derived.because) {
        (DecisionBody::Dispatch { .. }, _) => judge_dispatch(view, derived, now),
        (DecisionBody::Quarantine { .. }, _) => judge_quarantine(view, &derived.decision.body, now),
        (DecisionBody::RolloutTransition { .. }, Because::Event(event)) => judge_transition(view, event, now),
        (DecisionBody::Withdrawn { decision }, _) => judge_withdrawal(view, *decision, now),
        (DecisionBody::LogSnapshot { .. }, _) => judge_snapshot(view, derived.decision.log_index),
        (DecisionBody::RolloutTransition { .. }, Because::Withdrawn(_) | Because::SnapshotAsked) => {
            Judgement::Object("only an event moves a rollout".to_owned())
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
    let roster = view.ledger.roster();
    let (of, deciding) = (derived.decision.fleet_serial, view.ledger.deciding_serial());
    let coordinators = |serial| roster.electorate(serial).map(|electorate| &electorate.members);
    if of != deciding && coordinators(of) != coordinators(deciding) {
        return Judgement::Object("other coordinators decide since".to_owned());
    }
    if now > *not_after {
        return Judgement::Object("it is too late for this dispatch".to_owned());
    }
    if plan.targets.get(host) != Some(target_closure) {
        return Judgement::Object("the operators signed another closure for this host".to_owned());
    }
    let (log_index, id) = (derived.decision.log_index, derived.decision.id());
    if view.ledger.slots().of(host).any(|slot| slot.decision == id && slot.withdrawn) {
        return Judgement::Object("the log gave it up".to_owned());
    }
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

fn judge_quarantine(view: &View<'_>, body: &DecisionBody, now: DateTime<Utc>) -> Judgement {
    let DecisionBody::Quarantine { closure, rollout_id, host, evidence, .. } = body else {
        return Judgement::Wait("not a quarantine".to_owned());
    };
    let Some(plan) = view.ledger.plan(rollout_id) else {
        return Judgement::Wait(format!("the ref of {rollout_id} is not held"));
    };
    if plan.targets.get(host) != Some(closure) {
        return Judgement::Object(format!("{host} was to run another closure"));
    }
    if view.ledger.record(host, rollout_id).is_some_and(|it| it.record.is_lost()) {
        return Judgement::Object(format!("{host} lost its disk, which says nothing about {closure}"));
    }
    match reported_failure(view, host, rollout_id, *evidence, false) {
        Judgement::Endorse => too_many_failed(view, plan, now),
        other @ (Judgement::Wait(_) | Judgement::Object(_)) => other,
    }
}

/// Whether the host's own feed says that it failed, or that it went back.
fn reported_failure(
    view: &View<'_>,
    host: &HostId,
    rollout: &RolloutId,
    evidence: EnvelopeRef,
    reverted: bool,
) -> Judgement {
    let state = view.ledger.record(host, rollout).map(|mirrored| mirrored.record.state);
    match state {
        Some(HostState::Reverted) => Judgement::Endorse,
        Some(HostState::Failed) if !reverted => Judgement::Endorse,
        Some(HostState::Converged) => Judgement::Object(format!("{host} converged")),
        Some(
            HostState::Pending
            | HostState::Activating
            | HostState::Deferred
            | HostState::Soaking
            | HostState::Failed,
        )
        | None => {
            let feed = view.ledger.feed(host);
            let held = feed.is_some_and(|feed| {
                let head = feed.head().map_or(0, |head| head.seq);
                feed.backlog() == 0 && (feed.incarnation(), head) >= (evidence.incarnation, evidence.seq)
            });
            match held {
                true => Judgement::Object(format!("the feed of {host} says nothing of it")),
                false => Judgement::Wait(format!("the feed of {host} is not held up to {}", evidence.seq)),
            }
        }
    }
}

/// Whether more hosts failed than may; what an operator cleared since had failed all the same.
fn too_many_failed(view: &View<'_>, plan: &Plan, now: DateTime<Utc>) -> Judgement {
    let (failed, allowed) = (view.ever_failed(plan, now), plan.policy.max_failures);
    if failed > allowed {
        return Judgement::Endorse;
    }
    Judgement::Wait(format!("{failed} hosts failed by this coordinator's evidence, {allowed} may"))
}

fn judge_transition(view: &View<'_>, event: &RolloutEvent, now: DateTime<Utc>) -> Judgement {
    let id = event.rollout_id();
    let (Some(plan), Some(record)) = (view.ledger.plan(id), view.ledger.rollouts().get(id)) else {
        return Judgement::Wait(format!("the ref of {id} is not held"));
    };
    match event {
        // Whether the hosts may be dispatched is asked of each dispatch; the ledger itself refuses to open what is
        // not the newest adopted ref, and closing lets nothing through.
        RolloutEvent::RolloutOpened { .. }
        | RolloutEvent::SuccessorOpened { .. }
        | RolloutEvent::HostJoined { .. }
        | RolloutEvent::RetentionExpired { .. } => Judgement::Endorse,
        RolloutEvent::WaveAdvanced { from_wave, .. } => {
            match gate::wave_state(view, plan, *from_wave, now) {
                WaveState::Done => Judgement::Endorse,
                WaveState::Open(reason) if record.state.is_open() => Judgement::Wait(reason.to_string()),
                // Nothing hangs on it any more, and nobody asks for ever.
                WaveState::Open(reason) => Judgement::Object(reason.to_string()),
            }
        }
        RolloutEvent::RolloutTerminal { .. } => judge_terminal(view, plan, now),
        RolloutEvent::HostStateChanged { host_id, to, cause, .. } => {
            let reported = match cause {
                Cause::Reported { envelope } => {
                    reported_failure(view, host_id, id, *envelope, *to == HostState::Reverted)
                }
                Cause::Lost
                | Cause::Rejected
                | Cause::Expired
                | Cause::Overdue
                | Cause::NotFetched
                | Cause::Unfounded => Judgement::Endorse,
            };
            match reported {
                Judgement::Endorse => too_many_failed(view, plan, now),
                other @ (Judgement::Wait(_) | Judgement::Object(_)) => other,
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
    match holds_the_end(view, plan, now) {
        None => Judgement::Endorse,
        Some(reason) => Judgement::Wait(reason),
    }
}

/// Why a rollout is not Terminal yet by this node's evidence.
pub(crate) fn holds_the_end(view: &View<'_>, plan: &Plan, now: DateTime<Utc>) -> Option<String> {
    let open = (0..).zip(&plan.waves).find_map(|(wave, _)| match gate::wave_state(view, plan, wave, now) {
        WaveState::Done => None,
        WaveState::Open(reason) => Some(reason.to_string()),
    });
    let waits = |host: &&HostId| {
        matches!(view.standing(plan, host, now), Standing::Deferred { .. })
            && view.excuse(plan, host, now).is_none()
    };
    open.or_else(|| plan.hosts().find(waits).map(|host| format!("{host} waits for its reboot")))
}

fn by_command(view: &View<'_>, does: &str, is_it: impl Fn(&Verb) -> bool) -> Judgement {
    if view.ledger.commands().any(|command| is_it(&command.document.verb)) {
        Judgement::Endorse
    } else {
        Judgement::Wait(format!("no adopted command {does} the rollout"))
    }
}

/// The bytes are this coordinator's own; what it asks is whether anybody could miss what they stand for.
fn judge_snapshot(view: &View<'_>, index: u64) -> Judgement {
    match view.ledger.unsettled_before(index, |id| view.void.contains(id)) {
        None => Judgement::Endorse,
        Some(DecisionId { log_index, ordinal }) => {
            Judgement::Wait(format!("decision {log_index}.{ordinal} is not certified yet"))
        }
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
