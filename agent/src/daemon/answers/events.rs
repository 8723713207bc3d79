//! `/v1/events`: what this host learnt, in the order in which it did.

use muster_core::coordination::log::Entry;
use muster_core::id::{HostId, RolloutId};
use muster_core::ledger::{Reference, Table};
use muster_core::verify;
use muster_core::wire::{
    Decision, DecisionBody, DocumentKind, Envelope, FeedBody, HostEvent, LogPayload, LogStatement, codec,
};
use muster_signing::{Certificate, DocumentParts, Sealed};

use super::{Asked, documents, store_failed, words};
use crate::control::{EventFilter, Problem, wire};
use crate::storage;

/// Something that was learnt.
pub(super) enum Learnt {
    /// A host's word.
    Envelope(Box<Said>),
    /// A certified decision.
    Decision(Box<Decision>),
    /// An entry of the coordinators' log.
    Entry {
        /// Its time.
        at: chrono::DateTime<chrono::Utc>,
        /// What it says; none if nothing.
        what: Option<LogStatement>,
    },
    /// A signed document.
    Document {
        /// Its kind.
        kind: DocumentKind,
        /// Its content, of which only a few fields are shown.
        content: serde_json::Value,
    },
}

/// An envelope, and whether its signature holds under the present roster.
pub(super) struct Said {
    content: Envelope,
    verified: bool,
}

impl std::ops::Deref for Said {
    type Target = Envelope;

    fn deref(&self) -> &Envelope {
        &self.content
    }
}

impl Said {
    /// The event, if it is one of a rollout.
    pub(super) fn event(&self) -> Option<&HostEvent> {
        match &self.content.body {
            FeedBody::Rollout(event) => Some(event),
            FeedBody::Incarnation(_) => None,
        }
    }
}

/// The events that a filter lets through.
pub(super) fn list(asked: &Asked<'_>, filter: &EventFilter) -> Result<wire::Events, Problem> {
    let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    let mut events = Vec::new();
    let from = filter.after.map_or(0, |after| after.saturating_add(1));
    let mut take = |position, learnt: Learnt| {
        let event = shown(asked, position, &learnt);
        let host = filter.host.as_ref().is_none_or(|host| event.host.as_ref() == Some(host));
        let rollout = filter.rollout.as_ref().is_none_or(|id| event.rollout.as_ref() == Some(id));
        let since = filter.since.is_none_or(|since| event.at >= since);
        if host && rollout && since {
            events.push(event);
        }
        events.len() < limit
    };
    // Who asks for what follows a position wants the next ones; who does not wants the newest.
    if filter.after.is_some() || filter.since.is_some() {
        each_from(asked, from, &mut take)?;
    } else {
        each_backwards(asked, &mut take)?;
        events.reverse();
    }
    Ok(wire::Events { schema: wire::SCHEMA, events })
}

/// Calls `visit` with everything that was learnt, the oldest first, until it says no.
pub(super) fn each(asked: &Asked<'_>, visit: impl FnMut(u64, Learnt) -> bool) -> Result<(), Problem> {
    each_from(asked, 0, visit)
}

fn each_from(asked: &Asked<'_>, from: u64, visit: impl FnMut(u64, Learnt) -> bool) -> Result<(), Problem> {
    let snapshot = asked.hands.store.read().map_err(store_failed)?;
    let first = from.to_be_bytes();
    let rows = snapshot.range(muster_store::Table::Arrivals, first.as_slice()..).map_err(store_failed)?;
    walk(asked, &snapshot, rows, visit)
}

/// The same, the newest first.
pub(super) fn each_backwards(
    asked: &Asked<'_>,
    visit: impl FnMut(u64, Learnt) -> bool,
) -> Result<(), Problem> {
    let snapshot = asked.hands.store.read().map_err(store_failed)?;
    let rows = snapshot.range(muster_store::Table::Arrivals, ..).map_err(store_failed)?;
    walk(asked, &snapshot, rows.rev(), visit)
}

fn walk(
    asked: &Asked<'_>,
    snapshot: &muster_store::Snapshot,
    rows: impl Iterator<Item = Result<muster_store::Row, muster_store::StoreError>>,
    mut visit: impl FnMut(u64, Learnt) -> bool,
) -> Result<(), Problem> {
    for row in rows {
        let (key, value) = row.map_err(store_failed)?;
        let position = key.as_slice().try_into().map(u64::from_be_bytes).map_err(store_failed)?;
        let reference = Reference::read(&value).map_err(store_failed)?;
        let value = snapshot.get(storage::table(reference.table), &reference.key).map_err(store_failed)?;
        let learnt = value.and_then(|value| read(asked, reference.table, &value));
        if let Some(learnt) = learnt
            && !visit(position, learnt)
        {
            break;
        }
    }
    Ok(())
}

fn read(asked: &Asked<'_>, table: Table, value: &[u8]) -> Option<Learnt> {
    match table {
        Table::Feeds => {
            let sealed = Sealed::parse(value).ok()?;
            let content: Envelope = codec::decode("envelope", sealed.payload()).ok()?;
            let verified = verify::envelope(asked.node.ledger().roster(), value).is_ok();
            Some(Learnt::Envelope(Box::new(Said { content, verified })))
        }
        Table::Decisions => {
            let certificate = Certificate::parse(value).ok()?;
            Some(Learnt::Decision(Box::new(codec::decode("decision", certificate.payload()).ok()?)))
        }
        Table::Log => {
            let entry: Entry = codec::decode("log entry", value).ok()?;
            let payload = codec::decode::<LogPayload>("log payload", &entry.payload);
            Some(Learnt::Entry { at: entry.at, what: payload.ok().map(|payload| payload.what) })
        }
        Table::Documents => {
            let parts = DocumentParts::from_wire(value).ok()?;
            let kind = muster_core::document::kind_of(&parts.bytes).ok()?;
            Some(Learnt::Document { kind, content: serde_json::from_slice(&parts.bytes).ok()? })
        }
        Table::Meta
        | Table::FeedHeads
        | Table::HardState
        | Table::Snapshot
        | Table::Endorsed
        | Table::Proofs
        | Table::Arrivals
        | Table::Outbox
        | Table::Marks
        | Table::HostRecords
        | Table::Rollouts
        | Table::Quarantines
        | Table::ProbeFailures => None,
    }
}

fn shown(asked: &Asked<'_>, position: u64, learnt: &Learnt) -> wire::Event {
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
            let verified = said.verified;
            match said.event() {
                Some(reported) => wire::Event {
                    host,
                    verified,
                    rollout: Some(reported.rollout_id.to_string()),
                    ..event(wire::EventKind::Event, said.at, reported.kind.name(), words::event(reported))
                },
                None => wire::Event {
                    host,
                    verified,
                    ..event(wire::EventKind::Event, said.at, "IncarnationStarted", "a new store".to_owned())
                },
            }
        }
        Learnt::Decision(decision) => decision_shown(asked, decision, event),
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
    asked: &Asked<'_>,
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
                failed_at(asked, host, rollout_id),
                name,
                format!("{closure} on {channel}; {certified}"),
            )
        },
        DecisionBody::RolloutTransition { rollout_id, from, to, wave, at } => wire::Event {
            rollout: Some(rollout_id.to_string()),
            ..event(kind, *at, name, format!("{}; {certified}", transition(*from, *to, *wave)))
        },
        DecisionBody::Withdrawn { decision } => event(
            kind,
            entered_at(asked, decision.log_index),
            name,
            format!("decision {}.{}; {certified}", decision.log_index, decision.ordinal),
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
        Some(LogStatement::Withdrawn { log_index, ordinal }) => {
            event(kind, at, "Withdrawn", format!("decision {log_index}.{ordinal}"))
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

/// When a host failed, by its own clock: a quarantine carries no time of its own.
fn failed_at(asked: &Asked<'_>, host: &HostId, rollout: &RolloutId) -> chrono::DateTime<chrono::Utc> {
    let mirrored = asked.node.ledger().record(host, rollout);
    mirrored.and_then(|it| it.record.failed_at).unwrap_or(asked.now.utc)
}

/// When a log entry was written; now, if this host holds no log.
fn entered_at(asked: &Asked<'_>, log_index: u64) -> chrono::DateTime<chrono::Utc> {
    let key = muster_core::ledger::key::number(log_index);
    let row =
        asked.hands.store.read().ok().and_then(|it| it.get(muster_store::Table::Log, &key).ok().flatten());
    let entry = row.and_then(|row| codec::decode::<Entry>("log entry", &row).ok());
    entry.map_or(asked.now.utc, |entry| entry.at)
}

/// A certified decision as a moment of a rollout's timeline.
pub(super) fn decision_on(decision: &Decision, id: &RolloutId) -> Option<wire::Moment> {
    let cause = Some(format!("a quorum of coordinators, log entry {}", decision.log_index));
    match &decision.body {
        DecisionBody::Dispatch { host, rollout_id, soak_due_at, soak_secs, wave, .. } if rollout_id == id => {
            let soak = chrono::TimeDelta::seconds(i64::try_from(*soak_secs).unwrap_or_default());
            let what = format!("{host} is dispatched in wave {}", wave + 1);
            Some(wire::Moment { at: *soak_due_at - soak, what, cause })
        }
        DecisionBody::RolloutTransition { rollout_id, from, to, wave, at } if rollout_id == id => {
            Some(wire::Moment { at: *at, what: transition(*from, *to, *wave), cause })
        }
        DecisionBody::Dispatch { .. }
        | DecisionBody::RolloutTransition { .. }
        | DecisionBody::Quarantine { .. }
        | DecisionBody::Withdrawn { .. } => None,
    }
}
