//! `/v1/rollouts`, `/v1/rollouts/{id}` and `/v1/quarantines`.

use chrono::{DateTime, Utc};
use muster_core::document::Plan;
use muster_core::id::RolloutId;
use muster_core::rollout::{Excuse, Record};
use muster_core::wire::{HostState, RolloutState};

use super::events;
use super::history::{Learnt, Source};
use super::words::{self, host_state, rollout_state};
use super::{Asked, not_found};
use crate::control::{Code, Problem, wire};

/// Every rollout, the newest first.
pub(super) fn list(asked: &Asked<'_>) -> wire::Rollouts {
    let mut records: Vec<&Record> = asked.node.ledger().rollouts().values().collect();
    records.sort_by_key(|record| std::cmp::Reverse((record.opened_at, record.opened_log_index)));
    let rollouts = records.into_iter().map(|record| summary(asked, record)).collect();
    wire::Rollouts { schema: wire::SCHEMA, rollouts }
}

/// One rollout: its waves and its hosts; [`timeline`] reads from the store what happened.
pub(super) fn show(asked: &Asked<'_>, id: &str) -> Result<wire::RolloutShow, Problem> {
    let parsed: RolloutId = id.parse().map_err(|error| Problem::new(Code::BadRequest, error))?;
    let ledger = asked.node.ledger();
    let Some(record) = ledger.rollouts().get(&parsed) else {
        return Err(not_found(format_args!(
            "no rollout {id}; `muster rollout list` names those that there are"
        )));
    };
    let plan = ledger.plan(&parsed);
    let waves = asked.node.with_view(asked.now, |view| {
        let waves = plan.into_iter().flat_map(|plan| (0..).zip(&plan.waves));
        let waves = waves.map(|(wave, of)| wire::Wave {
            wave,
            soak_secs: of.soak_secs,
            manual_promotion: of.manual_promotion,
            promoted: view.is_promoted(&parsed, wave, asked.now.utc),
            hosts: of.hosts.iter().map(ToString::to_string).collect(),
        });
        waves.collect()
    });
    Ok(wire::RolloutShow {
        schema: wire::SCHEMA,
        rollout: summary(asked, record),
        waves,
        hosts: plan.map(|plan| hosts(asked, plan, record)).unwrap_or_default(),
        timeline: Vec::new(),
    })
}

fn summary(asked: &Asked<'_>, record: &Record) -> wire::Rollout {
    let ledger = asked.node.ledger();
    let plan = ledger.plan(&record.rollout_id);
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let in_state = |wanted: &[HostState]| {
        let hosts = plan.into_iter().flat_map(|plan| plan.hosts());
        let states = hosts.filter_map(|host| Some(ledger.record(host, &record.rollout_id)?.record.state));
        number(states.filter(|state| wanted.contains(state)).count())
    };
    wire::Rollout {
        id: record.rollout_id.to_string(),
        channel: record.channel.to_string(),
        r#ref: record.target_ref.to_string(),
        state: rollout_state(record.state),
        wave: record.current_wave,
        waves: plan.map_or(0, |plan| number(plan.waves.len())),
        opened_at: record.opened_at,
        ended_at: ended_at(asked, record),
        hosts_total: plan.map_or(0, |plan| number(plan.targets.len())),
        hosts_converged: in_state(&[HostState::Converged]),
        hosts_failed: in_state(&[HostState::Failed, HostState::Reverted]),
    }
}

/// When a rollout ended; one that failed ended when the last of its hosts did, by their own clocks.
fn ended_at(asked: &Asked<'_>, record: &Record) -> Option<DateTime<Utc>> {
    let failed = matches!(record.state, RolloutState::Failed | RolloutState::Reverted);
    let hosts = record.hosts.keys().filter(|_| failed);
    let records = hosts.filter_map(|host| asked.node.ledger().record(host, &record.rollout_id));
    let last = records.filter_map(|it| it.record.reverted_at.or(it.record.failed_at)).max();
    record.terminal_at.or(record.superseded_at).or(last)
}

fn hosts(asked: &Asked<'_>, plan: &Plan, rollout: &Record) -> Vec<wire::RolloutHost> {
    let hosts = plan.targets.iter().map(|(host, target)| {
        let record = asked.node.ledger().record(host, &plan.rollout_id).map(|mirrored| &mirrored.record);
        wire::RolloutHost {
            host: host.to_string(),
            wave: plan.wave_of(host).unwrap_or_default(),
            state: record.map(|record| host_state(record.state)),
            excused: rollout.hosts.get(host).and_then(|entry| entry.excused).map(|it| excuse(it).to_owned()),
            target: target.to_string(),
            dispatched_at: record.map(|record| record.dispatched_at),
            acknowledged_at: record.and_then(|record| record.dispatch_acked_at),
            activated_at: record.and_then(|record| record.activation_completed_at),
            converged_at: record.and_then(|record| record.converged_at),
            failed_at: record.and_then(|record| record.failed_at),
            reverted_at: record.and_then(|record| record.reverted_at),
        }
    });
    let mut hosts: Vec<wire::RolloutHost> = hosts.collect();
    hosts.sort_by(|a, b| (a.wave, &a.host).cmp(&(b.wave, &b.host)));
    hosts
}

fn excuse(excuse: Excuse) -> &'static str {
    match excuse {
        Excuse::Offline => "offline before it was dispatched",
        Excuse::Skipped => "skipped by an operator",
        Excuse::WithinMaxFailures => "failed, as many may",
        Excuse::Deferred => "waits for its reboot",
        Excuse::DeferredTooLong => "waits for its reboot for too long",
        Excuse::Cleared => "failed, cleared by an operator",
    }
}

/// What happened in a rollout with the cause of each, in the order of their times.
pub(super) fn timeline(source: Source, id: &str) -> Result<Vec<wire::Moment>, Problem> {
    let id: RolloutId = id.parse().map_err(|error| Problem::new(Code::BadRequest, error))?;
    let mut moments = Vec::new();
    source.read()?.each_from(0, |_, learnt| {
        let moment = match learnt {
            Learnt::Envelope(said) => {
                said.event().filter(|event| event.rollout_id == id).map(|event| wire::Moment {
                    at: said.at,
                    what: format!("{}: {}", said.host, event.kind.name()),
                    cause: Some(words::event(event)),
                })
            }
            Learnt::Decision(decision) => events::decision_on(&decision, &id),
            Learnt::Entry { .. } | Learnt::Document { .. } => None,
        };
        moments.extend(moment);
        true
    })?;
    moments.sort_by_key(|moment| moment.at);
    Ok(moments)
}

/// Closures that are barred from channels.
pub(super) fn quarantines(asked: &Asked<'_>) -> wire::Quarantines {
    let quarantines =
        asked.node.ledger().quarantines().map(|(channel, closure, decision, quarantine)| wire::Quarantine {
            channel: channel.to_string(),
            closure: closure.to_string(),
            since: quarantine.since.unwrap_or(asked.now.utc),
            rollout: Some(quarantine.rollout_id.to_string()),
            host: Some(quarantine.host.to_string()),
            decision: wire::DecisionId { log_index: decision.log_index, ordinal: decision.ordinal },
        });
    wire::Quarantines { schema: wire::SCHEMA, quarantines: quarantines.collect() }
}
