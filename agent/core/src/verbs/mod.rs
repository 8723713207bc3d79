//! What an operator's verb means right now: whether it fits what is under way, and what it does.
//!
//! Whoever publishes a command is told at once that it would do nothing, and why. What others pass on is never asked
//! this: they may have heard of things that this node has not.

mod effect;
mod misfit;
mod rules;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

pub use effect::{Effect, effect};
pub use misfit::{Misfit, RolloutVerb, Stage};
pub use rules::{Coordinating, Lifted, Readiness, Skippable, on_rollout, promotes, readmits, skips};

use crate::document::{Command, Plan, Scope, Verb};
use crate::id::{HostId, RolloutId};
use crate::view::{Standing, View};

/// Whether a command that is about to be published fits what is under way, by this node's evidence.
pub fn fits(
    view: &View<'_>,
    command: &Command,
    coordinating: impl Fn(&HostId) -> Coordinating,
    now: DateTime<Utc>,
) -> Result<(), Misfit> {
    match &command.verb {
        Verb::Pause(scope) => pause(view, command, scope, now),
        Verb::Resume(scope) => resume(view, scope, now),
        Verb::Cancel { rollout } => stage_allows(view, RolloutVerb::Cancel, rollout),
        Verb::Promote { rollout, wave } => promote(view, rollout, *wave, now),
        Verb::ClearRollout { rollout } => clear_rollout(view, rollout),
        Verb::ClearClosure { .. } => clear_closure(view, command),
        Verb::Skip { host, rollout } => skip(view, host, rollout.as_ref(), now),
        Verb::Readmit { host } => readmits(host, coordinating(host)),
    }
}

fn stage_allows(view: &View<'_>, verb: RolloutVerb, rollout: &RolloutId) -> Result<(), Misfit> {
    let newest = view.ledger.newest_rollout(&rollout.channel());
    on_rollout(verb, Stage::of(view.ledger.rollouts().get(rollout)), rollout, newest)
}

fn pause(view: &View<'_>, command: &Command, scope: &Scope, now: DateTime<Utc>) -> Result<(), Misfit> {
    if let Scope::Rollout(rollout) = scope {
        stage_allows(view, RolloutVerb::Pause, rollout)?;
    }
    let pauses = view.ledger.documents().pauses(now);
    let lasts = |standing: &Command| match (standing.expires_at, command.expires_at) {
        (None, _) => true,
        (Some(ends), Some(asked)) => ends >= asked,
        (Some(_), None) => false,
    };
    match pauses.get(scope).filter(|standing| lasts(standing)) {
        Some(standing) => {
            Err(Misfit::PausedAlready { scope: scope.clone(), reason: standing.reason.clone() })
        }
        None => Ok(()),
    }
}

fn resume(view: &View<'_>, scope: &Scope, now: DateTime<Utc>) -> Result<(), Misfit> {
    let pauses = view.ledger.documents().pauses(now);
    if pauses.contains_key(scope) {
        return Ok(());
    }
    let others = pauses.into_keys().filter(|other| overlap(view, scope, other)).cloned().collect();
    Err(Misfit::NotPaused { scope: scope.clone(), others })
}

/// Whether a pause of one may be what somebody means who resumes the other.
fn overlap(view: &View<'_>, a: &Scope, b: &Scope) -> bool {
    let channel = |scope: &Scope| match scope {
        Scope::Channel(channel) => Some(channel.clone()),
        Scope::Rollout(rollout) => Some(rollout.channel()),
        Scope::Host(host) => Some(view.ledger.documents().fleet()?.hosts.get(host)?.channel.clone()),
    };
    channel(a).is_some_and(|of_a| channel(b) == Some(of_a))
}

fn promote(view: &View<'_>, rollout: &RolloutId, wave: u32, now: DateTime<Utc>) -> Result<(), Misfit> {
    stage_allows(view, RolloutVerb::Promote, rollout)?;
    let Some(plan) = view.ledger.plan(rollout) else { return Ok(()) };
    let waves = u32::try_from(plan.waves.len()).unwrap_or(u32::MAX);
    let readiness = match plan.wave(wave) {
        None => Readiness::NoSuchWave,
        Some(_) if wave + 1 == waves => Readiness::Last,
        Some(it) if !it.manual_promotion => Readiness::OpensByItself,
        Some(_) if view.is_promoted(rollout, wave, now) => Readiness::Promoted,
        Some(_) => Readiness::Waits,
    };
    promotes(rollout, wave, waves, readiness)
}

fn clear_rollout(view: &View<'_>, rollout: &RolloutId) -> Result<(), Misfit> {
    stage_allows(view, RolloutVerb::Clear, rollout)?;
    match view.ledger.newest_rollout(&rollout.channel()) {
        Some(newest) if newest != rollout => {
            Err(Misfit::NotNewest { rollout: rollout.clone(), newest: newest.clone() })
        }
        Some(_) | None => Ok(()),
    }
}

fn clear_closure(view: &View<'_>, command: &Command) -> Result<(), Misfit> {
    let Some((channel, closure, named)) = command.lifts() else { return Ok(()) };
    let standing = view.ledger.quarantines().filter(|(on, of, ..)| *on == channel && *of == closure);
    let standing: BTreeSet<_> = standing.map(|(_, _, decision, _)| decision).collect();
    let lifted =
        Lifted { named, standing: &standing, suspect: view.ledger.suspicion(channel, closure).is_some() };
    lifted.check(channel, closure)
}

fn skip(
    view: &View<'_>,
    host: &HostId,
    rollout: Option<&RolloutId>,
    now: DateTime<Utc>,
) -> Result<(), Misfit> {
    let holds_slot = |id: &RolloutId| view.is_dispatched(host, id, now);
    if let Some(id) = rollout {
        if !holds_slot(id) {
            stage_allows(view, RolloutVerb::Skip, id)?;
        }
        let plan = view.ledger.plan(id);
        let has_part = plan.is_none_or(|plan| plan.targets.contains_key(host));
        let skippable = match has_part || holds_slot(id) {
            false => Skippable::NoPart,
            true if view.is_skipped(host, id, now) => Skippable::Skipped,
            true if plan.is_some_and(|plan| has_converged(view, plan, host, now)) => Skippable::Converged,
            true => Skippable::Waits,
        };
        return skips(host, Some(id), skippable);
    }
    let plans = view.ledger.rollouts().iter().filter_map(|(id, record)| {
        let plan = view.ledger.plan(id)?;
        let open = record.state.is_open() && plan.targets.contains_key(host);
        (open || holds_slot(id)).then_some(plan)
    });
    let plans: Vec<_> = plans.collect();
    let skippable = match plans.first() {
        None => Skippable::NoPart,
        Some(_) if plans.iter().all(|plan| view.is_skipped(host, &plan.rollout_id, now)) => {
            Skippable::Skipped
        }
        Some(_) if plans.iter().all(|plan| has_converged(view, plan, host, now)) => Skippable::Converged,
        Some(_) => Skippable::Waits,
    };
    skips(host, None, skippable)
}

fn has_converged(view: &View<'_>, plan: &Plan, host: &HostId, now: DateTime<Utc>) -> bool {
    view.standing(plan, host, now) == Standing::Converged
}
