//! What a command does to the fleet, by a node's evidence now.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::misfit::Stage;
use crate::document::{Command, Held, Plan, Verb};
use crate::gate;
use crate::id::{Closure, HostId};
use crate::view::{Standing, View};

/// What a command does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effect {
    /// Whether it counts already; before that it is on its way through the coordinators' log.
    pub in_effect: bool,
    /// Hosts that it is about, not dispatched, that some gate holds back.
    pub held: BTreeSet<HostId>,
    /// Hosts that it is about, not dispatched, that no gate holds back.
    pub free: BTreeSet<HostId>,
    /// Hosts that it is about and that are under way.
    pub in_flight: BTreeSet<HostId>,
    /// Closures that stay barred in the rollout that it clears.
    pub barred: BTreeSet<Closure>,
}

/// What a command that is held does now.
pub fn effect(view: &View<'_>, command: &Held<Command>, now: DateTime<Utc>) -> Effect {
    let mut effect = Effect { in_effect: is_in_effect(view, command), ..Effect::default() };
    for plan in plans(view) {
        for host in plan.hosts().filter(|host| is_about(&command.verb, plan, host)) {
            let hosts = match view.standing(plan, host, now) {
                Standing::Waiting if gate::admit(view, plan, host, now).is_ok() => &mut effect.free,
                Standing::Waiting => &mut effect.held,
                Standing::InFlight(_) => &mut effect.in_flight,
                Standing::Deferred { .. } | Standing::Converged | Standing::Failed(_) => continue,
            };
            hosts.insert(host.clone());
        }
        if command.clears_rollout() == Some(&plan.rollout_id) {
            let barred = |closure: &&Closure| view.ledger.is_quarantined(&plan.channel, closure);
            effect.barred.extend(plan.targets.values().filter(barred).cloned());
        }
    }
    effect
}

/// The plans in which hosts may still be dispatched, and those that verbs stop.
fn plans<'a>(view: &'a View<'_>) -> impl Iterator<Item = &'a Plan> {
    let newest =
        view.ledger.rollouts().keys().filter(|id| view.ledger.newest_rollout(&id.channel()) == Some(*id));
    newest.filter_map(|id| view.ledger.plan(id)).map(AsRef::as_ref)
}

fn is_about(verb: &Verb, plan: &Plan, host: &HostId) -> bool {
    match verb {
        Verb::Pause(scope) | Verb::Resume(scope) => scope.covers(&plan.channel, &plan.rollout_id, host),
        Verb::Cancel { rollout } | Verb::ClearRollout { rollout } => *rollout == plan.rollout_id,
        Verb::Promote { rollout, wave } => {
            *rollout == plan.rollout_id && plan.wave_of(host) == wave.checked_add(1)
        }
        Verb::ClearClosure { channel, closure, .. } => {
            *channel == plan.channel && plan.targets.get(host) == Some(closure)
        }
        Verb::Skip { .. } | Verb::Readmit { .. } => false,
    }
}

fn is_in_effect(view: &View<'_>, command: &Held<Command>) -> bool {
    let counts = || view.ledger.commands().any(|known| known.hash == command.hash);
    let stage = |rollout| Stage::of(view.ledger.rollouts().get(rollout));
    match &command.verb {
        // A pause holds on every node that knows of it, and is lifted where its resume is known.
        Verb::Pause(_) | Verb::Resume(_) => true,
        Verb::Cancel { rollout } => {
            !matches!(stage(rollout), Stage::Opening | Stage::Active | Stage::Converging)
        }
        Verb::ClearRollout { rollout } => {
            !matches!(stage(rollout), Stage::Failed | Stage::Reverted | Stage::Cancelled)
        }
        Verb::Promote { .. } | Verb::ClearClosure { .. } | Verb::Skip { .. } | Verb::Readmit { .. } => {
            counts()
        }
    }
}
