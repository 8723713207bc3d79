//! `/v1/events`: what this host learnt, in the order in which it did.

use muster_core::id::{HostId, RolloutId};
use muster_core::wire::{Decision, DecisionBody, LogStatement};

use super::history::{Decided, History, Learnt, Source};
use super::{documents, words};
use crate::control::{EventFilter, Problem, wire};

/// The events that a filter lets through; reads the store.
pub(super) fn list(source: Source, filter: &EventFilter) -> Result<wire::Events, Problem> {
    let history = source.read()?;
    let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    let mut events = Vec::new();
    let mut take = |position, learnt: Learnt| {
        let mut event = shown(&history, position, &learnt);
        let host = filter.host.as_ref().is_none_or(|host| event.host.as_ref() == Some(host));
        let rollout = filter.rollout.as_ref().is_none_or(|id| event.rollout.as_ref() == Some(id));
        let since = filter.since.is_none_or(|since| event.at >= since);
        if host && rollout && since {
            if let Learnt::Envelope(said) = &learnt {
                event.verified = history.holds(said);
            }
            events.push(event);
        }
        events.len() < limit
    };
    // Who asks for what follows a position wants the next ones; who does not wants the newest.
    if filter.after.is_some() || filter.since.is_some() {
        history.each_from(filter.after.map_or(0, |after| after.saturating_add(1)), &mut take)?;
    } else {
        history.each_backwards(&mut take)?;
        events.reverse();
    }
    Ok(wire::Events { schema: wire::SCHEMA, events })
}

/// An event without a look at its signature.
fn shown(history: &History, position: u64, learnt: &Learnt) -> wire::Event {
    let event = |kind, at, name: &str, detail: String| wire::Event {
        position,
        at,
        kind,
        host: None,
        rollout: None,
        name: name.to_owned(),
        detail,
        verified: true,
    };
    match learnt {
        Learnt::Envelope(said) => {
            let host = Some(said.host.to_string());
            match said.event() {
                Some(reported) => wire::Event {
                    host,
                    rollout: Some(reported.rollout_id.to_string()),
                    ..event(wire::EventKind::Event, said.at, reported.kind.name(), words::event(reported))
                },
                None => wire::Event {
                    host,
                    ..event(wire::EventKind::Event, said.at, "IncarnationStarted", "a new store".to_owned())
                },
            }
        }
        Learnt::Decision(decision) => decision_shown(history, decision, event),
        Learnt::Entry { at, what } => entry_shown(*at, what.as_ref(), event),
        Learnt::Document { kind, content } => {
            let at = content["signedAt"].as_str().and_then(|at| at.parse().ok()).unwrap_or_default();
            let what = content["ref"].as_str().or(content["verb"].as_str()).unwrap_or_default();
            let rollout = content["channel"].as_str().zip(content["ref"].as_str());
            wire::Event {
                rollout: rollout.map(|(channel, name)| format!("{channel}@{name}")),
                ..event(
                    wire::EventKind::Document,
                    at,
                    documents::kind(*kind),
                    format!("serial {} {what}", content["serial"]).trim_end().to_owned(),
                )
            }
        }
    }
}

fn decision_shown(
    history: &History,
    decision: &Decision,
    event: impl Fn(wire::EventKind, chrono::DateTime<chrono::Utc>, &str, String) -> wire::Event,
) -> wire::Event {
    let name = decision.body.name();
    let kind = wire::EventKind::Decision;
    let certified = format!("certified, log entry {}", decision.log_index);
    match &decision.body {
        DecisionBody::Dispatch { host, rollout_id, target_closure, soak_due_at, soak_secs, .. } => {
            wire::Event {
                host: Some(host.to_string()),
                rollout: Some(rollout_id.to_string()),
                ..event(
                    kind,
                    *soak_due_at - chrono::TimeDelta::seconds(i64::try_from(*soak_secs).unwrap_or_default()),
                    name,
                    format!("{target_closure}; {certified}"),
                )
            }
        }
        DecisionBody::Quarantine { channel, closure, rollout_id, host, .. } => wire::Event {
            host: Some(host.to_string()),
            rollout: Some(rollout_id.to_string()),
            ..event(
                kind,
                history.failed_at(host, rollout_id),
                name,
                format!("{closure} on {channel}; {certified}"),
            )
        },
        DecisionBody::RolloutTransition { rollout_id, from, to, wave, at } => wire::Event {
            rollout: Some(rollout_id.to_string()),
            ..event(kind, *at, name, format!("{}; {certified}", transition(*from, *to, *wave)))
        },
        DecisionBody::Withdrawn { decision: of } => event(
            kind,
            history.entered_at(of.log_index),
            name,
            format!("decision {}.{}; {certified}", of.log_index, of.ordinal),
        ),
        DecisionBody::LogSnapshot { .. } => event(
            kind,
            history.entered_at(decision.log_index),
            name,
            format!("of the entries up to {}; {certified}", decision.log_index),
        ),
    }
}

fn transition(
    from: Option<muster_core::wire::RolloutState>,
    to: muster_core::wire::RolloutState,
    wave: u32,
) -> String {
    match from {
        Some(from) if from == to => format!("wave {} begins", wave + 1),
        Some(from) => format!("{} to {}", from.name(), to.name()),
        None => to.name().to_owned(),
    }
}

fn entry_shown(
    at: chrono::DateTime<chrono::Utc>,
    what: Option<&LogStatement>,
    event: impl Fn(wire::EventKind, chrono::DateTime<chrono::Utc>, &str, String) -> wire::Event,
) -> wire::Event {
    let kind = wire::EventKind::Log;
    match what {
        None => event(kind, at, "Noop", "a coordinator was elected".to_owned()),
        Some(LogStatement::DocumentAdopted { kind: of, serial, .. }) => {
            event(kind, at, "DocumentAdopted", format!("{} serial {serial}", documents::kind(*of)))
        }
        Some(LogStatement::RulesRaised { rules, .. }) => {
            event(kind, at, "RulesRaised", format!("to version {rules}"))
        }
        Some(LogStatement::Withdrawn { log_index, ordinal }) => {
            event(kind, at, "Withdrawn", format!("decision {log_index}.{ordinal}"))
        }
        Some(LogStatement::SnapshotAsked {}) => {
            event(kind, at, "SnapshotAsked", "one is to take the place of the entries up to here".to_owned())
        }
        Some(LogStatement::Rollout { events }) => {
            let names: Vec<&str> = events.iter().map(muster_core::wire::RolloutEvent::kind).collect();
            let details: Vec<String> = events.iter().map(words::rollout_event).collect();
            wire::Event {
                rollout: events.first().map(|first| first.rollout_id().to_string()),
                ..event(kind, at, names.first().copied().unwrap_or("Rollout"), details.join("; "))
            }
        }
    }
}

/// A certified decision as a moment of a rollout's timeline.
pub(super) fn decision_on(history: &History, decided: &Decided, id: &RolloutId) -> Option<wire::Moment> {
    let moment = |at, host: Option<&HostId>, what| wire::Moment {
        at,
        what,
        cause: Some(format!("a quorum of coordinators, log entry {}", decided.log_index)),
        host: host.map(HostId::to_string),
        signers: history.signers(decided),
    };
    match &decided.body {
        DecisionBody::Dispatch { host, rollout_id, soak_due_at, soak_secs, wave, .. } if rollout_id == id => {
            let soak = chrono::TimeDelta::seconds(i64::try_from(*soak_secs).unwrap_or_default());
            Some(moment(
                *soak_due_at - soak,
                Some(host),
                format!("{host} is dispatched in wave {}", wave + 1),
            ))
        }
        DecisionBody::RolloutTransition { rollout_id, from, to, wave, at } if rollout_id == id => {
            Some(moment(*at, None, transition(*from, *to, *wave)))
        }
        DecisionBody::Quarantine { closure, rollout_id, host, .. } if rollout_id == id => {
            let failed_at = history.failed_at(host, rollout_id);
            Some(moment(failed_at, Some(host), format!("{closure} is quarantined: it failed on {host}")))
        }
        DecisionBody::Dispatch { .. }
        | DecisionBody::RolloutTransition { .. }
        | DecisionBody::Quarantine { .. }
        | DecisionBody::Withdrawn { .. }
        | DecisionBody::LogSnapshot { .. } => None,
    }
}
