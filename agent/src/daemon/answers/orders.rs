//! What commands do, in words.

use muster_core::document::{Scope, Verb};
use muster_core::id::{ChannelId, HostId};
use muster_core::verbs::Effect;
use muster_signing::Digest;

use super::Asked;
use crate::control::wire;

/// What a command that is held does now; none for other documents.
pub(super) fn effect(asked: &Asked<'_>, hash: &Digest) -> Option<wire::CommandEffect> {
    let effect = asked.node.effect(asked.now, hash)?;
    let command = asked.node.ledger().documents().command(hash)?;
    Some(told(&command.verb, &effect))
}

fn told(verb: &Verb, effect: &Effect) -> wire::CommandEffect {
    let names = |hosts: &std::collections::BTreeSet<HostId>| hosts.iter().map(ToString::to_string).collect();
    wire::CommandEffect {
        in_effect: effect.in_effect,
        summary: summary(verb, effect.in_effect),
        detail: detail(verb, effect),
        held: names(&effect.held),
        free: names(&effect.free),
        in_flight: names(&effect.in_flight),
    }
}

fn summary(verb: &Verb, in_effect: bool) -> String {
    let is = if in_effect { "is" } else { "is about to be" };
    match verb {
        Verb::Pause(scope) => format!("{} {is} paused", short(scope)),
        Verb::Resume(scope) => format!("{} is no longer paused", short(scope)),
        Verb::Cancel { rollout } => format!("{rollout} {is} cancelled"),
        Verb::Promote { rollout, wave } => {
            format!("wave {} of {rollout} {is} promoted", wave.saturating_add(1))
        }
        Verb::ClearRollout { rollout } => format!("{rollout} {is} cleared"),
        Verb::ClearClosure { channel, closure, .. } => format!("{closure} {is} cleared on {channel}"),
        Verb::Skip { host, rollout: Some(rollout) } => format!("{host} {is} skipped in {rollout}"),
        Verb::Skip { host, rollout: None } => format!("{host} {is} skipped"),
        Verb::Readmit { host } => format!("{host} {is} readmitted"),
    }
}

fn short(scope: &Scope) -> String {
    match scope {
        Scope::Channel(channel) => channel.to_string(),
        Scope::Rollout(rollout) => rollout.to_string(),
        Scope::Host(host) => host.to_string(),
    }
}

fn detail(verb: &Verb, effect: &Effect) -> Option<String> {
    let (held, free, in_flight) = (effect.held.len(), effect.free.len(), effect.in_flight.len());
    let finish = say(in_flight, "in flight finishes by itself", "in flight finish by themselves");
    let may_go = say(free, "may be dispatched now", "may be dispatched now");
    let others = say(held, "still waits for something else", "still wait for something else");
    let parts = match verb {
        Verb::Pause(_) => {
            let waits = say(held, "not dispatched waits", "not dispatched wait");
            let none = || Some("it holds nobody back right now".to_owned());
            vec![waits.or_else(none), finish]
        }
        Verb::Resume(_) | Verb::ClearClosure { .. } | Verb::Promote { .. } => vec![may_go, others],
        Verb::Cancel { .. } => {
            vec![say(held + free, "is not dispatched any more", "are not dispatched any more"), finish]
        }
        Verb::ClearRollout { rollout } => {
            let mut parts = vec![may_go, others];
            parts.extend(effect.barred.iter().map(|closure| Some(barred(&rollout.channel(), closure))));
            parts
        }
        Verb::Skip { .. } => vec![Some("nobody waits for it, and its slot is free".to_owned())],
        Verb::Readmit { .. } => Vec::new(),
    };
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn barred(channel: &ChannelId, closure: &impl std::fmt::Display) -> String {
    format!("{closure} stays quarantined until it is cleared: muster clear {channel} {closure}")
}

/// "1 host waits", "2 hosts wait"; nothing for none.
fn say(count: usize, one: &str, many: &str) -> Option<String> {
    match count {
        0 => None,
        1 => Some(format!("1 host {one}")),
        _ => Some(format!("{count} hosts {many}")),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn hosts(names: &[&str]) -> std::collections::BTreeSet<HostId> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn every_verb_says_what_it_came_to() {
        let (channel, rollout) = ("stable".parse::<ChannelId>().unwrap(), "stable@v2".parse().unwrap());
        let closure: muster_core::id::Closure = "dir:v2".parse().unwrap();
        let host: HostId = "db-01".parse().unwrap();
        let effect = Effect {
            in_effect: true,
            held: hosts(&["a", "b", "c"]),
            in_flight: hosts(&["d"]),
            barred: [closure.clone()].into(),
            ..Effect::default()
        };
        let freed = Effect { free: hosts(&["a"]), held: hosts(&[]), ..effect.clone() };
        let quarantines = std::collections::BTreeSet::new();
        let cases = [
            (
                Verb::Pause(Scope::Channel(channel.clone())),
                &effect,
                "stable is paused; 3 hosts not dispatched wait, 1 host in flight finishes by itself",
            ),
            (
                Verb::Resume(Scope::Host(host.clone())),
                &freed,
                "db-01 is no longer paused; 1 host may be dispatched now",
            ),
            (
                Verb::Cancel { rollout },
                &effect,
                "stable@v2 is cancelled; 3 hosts are not dispatched any more, 1 host in flight finishes by itself",
            ),
            (
                Verb::Promote { rollout: "stable@v2".parse().unwrap(), wave: 0 },
                &freed,
                "wave 1 of stable@v2 is promoted; 1 host may be dispatched now",
            ),
            (
                Verb::ClearRollout { rollout: "stable@v2".parse().unwrap() },
                &effect,
                "stable@v2 is cleared; 3 hosts still wait for something else, dir:v2 stays quarantined until it is \
              cleared: muster clear stable dir:v2",
            ),
            (
                Verb::ClearClosure { channel, closure, quarantines },
                &freed,
                "dir:v2 is cleared on stable; 1 host may be dispatched now",
            ),
            (
                Verb::Skip { host: host.clone(), rollout: None },
                &effect,
                "db-01 is skipped; nobody waits for it, and its slot is free",
            ),
            (Verb::Readmit { host }, &effect, "db-01 is readmitted"),
        ];
        for (verb, effect, expected) in cases {
            let told = told(&verb, effect);
            let text = [Some(told.summary), told.detail].into_iter().flatten().collect::<Vec<_>>().join("; ");
            assert_eq!(text, expected);
        }
    }
}
