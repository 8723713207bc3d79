//! `/v1/rollouts`, `/v1/rollouts/{id}` and `/v1/quarantines`.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use muster_core::document::{Command, Plan, Scope, Verb};
use muster_core::id::{HostId, RolloutId};
use muster_core::ledger::Ledger;
use muster_core::rollout::{Excuse, Record};
use muster_core::wire::{Cause, HostState, RolloutState};
use muster_signing::OperatorKey;

use super::events;
use super::history::{History, Learnt};
use super::words;
use super::{Asked, not_found};
use crate::control::{Code, Problem, wire};

/// Every rollout but those that were pruned, the newest first.
pub(super) fn list(ledger: &Ledger) -> wire::Rollouts {
    let kept = ledger.rollouts().values().filter(|record| record.state != RolloutState::Pruned);
    let mut records: Vec<&Record> = kept.collect();
    records.sort_by_key(|record| std::cmp::Reverse((record.opened_at, record.opened_log_index)));
    let rollouts = records.into_iter().map(|record| summary(ledger, record)).collect();
    wire::Rollouts { schema: wire::SCHEMA, rollouts }
}

/// A rollout's id, as it is asked for.
pub(super) fn parsed(id: &str) -> Result<RolloutId, Problem> {
    let form = "a rollout is CHANNEL@REF, such as stable@v2; muster rollout list names them";
    id.parse().map_err(|error| Problem::new(Code::BadRequest, error).hint(form))
}

/// One rollout: its waves and its hosts; a [`Chronicle`](super::chronicle::Chronicle) reads from the store what happened.
pub(super) fn show(ledger: &Ledger, id: &str) -> Result<wire::RolloutShow, Problem> {
    let parsed = parsed(id)?;
    let Some(record) = ledger.rollouts().get(&parsed) else {
        return Err(not_found(format_args!("no rollout {id}")));
    };
    let plan = ledger.plan(&parsed);
    let promoted = |wave| {
        let is_it = |verb: &Verb| matches!(verb, Verb::Promote { rollout, wave: of } if *rollout == parsed && *of == wave);
        ledger.commands().any(|command| is_it(&command.verb))
    };
    let waves = plan.into_iter().flat_map(|plan| (0..).zip(&plan.waves)).map(|(wave, of)| wire::Wave {
        wave,
        soak_secs: of.soak_secs,
        manual_promotion: of.manual_promotion,
        promoted: promoted(wave),
        hosts: of.hosts.iter().map(ToString::to_string).collect(),
    });
    Ok(wire::RolloutShow {
        schema: wire::SCHEMA,
        rollout: summary(ledger, record),
        waves: waves.collect(),
        hosts: plan.map(|plan| hosts(ledger, plan, record)).unwrap_or_default(),
        timeline: signed(ledger, record),
    })
}

fn summary(ledger: &Ledger, record: &Record) -> wire::Rollout {
    let plan = ledger.plan(&record.rollout_id);
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let in_state = |wanted: &[HostState]| {
        let hosts = plan.into_iter().flat_map(|plan| plan.hosts());
        let states = hosts.filter_map(|host| state_of(ledger, record, host));
        number(states.filter(|state| wanted.contains(&state.0)).count())
    };
    wire::Rollout {
        id: record.rollout_id.to_string(),
        channel: record.channel.to_string(),
        r#ref: record.target_ref.to_string(),
        state: wire::RolloutState::from(record.state),
        wave: record.current_wave,
        waves: plan.map_or(0, |plan| number(plan.waves.len())),
        opened_at: record.opened_at,
        ended_at: ended_at(ledger, record),
        hosts_total: plan.map_or(0, |plan| number(plan.targets.len())),
        hosts_converged: in_state(&[HostState::Converged]),
        hosts_failed: in_state(&[HostState::Failed, HostState::Reverted]),
    }
}

/// A host's state in a rollout, and since when it is failed; none before it is dispatched.
fn state_of(ledger: &Ledger, rollout: &Record, host: &HostId) -> Option<(HostState, Option<DateTime<Utc>>)> {
    if let Some(mirrored) = ledger.record(host, &rollout.rollout_id) {
        return Some((mirrored.record.state, mirrored.record.failed_at));
    }
    // One that never held its target was given up without a dispatch, and has nothing to say of it.
    let entry = rollout.hosts.get(host)?;
    let given_up = entry.state == HostState::Failed && entry.cause == Some(Cause::NotFetched);
    given_up.then_some((HostState::Failed, Some(entry.since)))
}

/// When a rollout ended; one that failed ended when the last of its hosts did, by their own clocks.
fn ended_at(ledger: &Ledger, record: &Record) -> Option<DateTime<Utc>> {
    let failed = matches!(record.state, RolloutState::Failed | RolloutState::Reverted);
    let hosts = record.hosts.keys().filter(|_| failed);
    let ends = hosts.filter_map(|host| {
        let reverted = ledger.record(host, &record.rollout_id).and_then(|it| it.record.reverted_at);
        reverted.or(state_of(ledger, record, host)?.1)
    });
    let last = ends.max();
    record.terminal_at.or(record.superseded_at).or(last)
}

fn hosts(ledger: &Ledger, plan: &Plan, rollout: &Record) -> Vec<wire::RolloutHost> {
    let hosts = plan.targets.iter().map(|(host, target)| {
        let record = ledger.record(host, &plan.rollout_id).map(|mirrored| &mirrored.record);
        let state = state_of(ledger, rollout, host);
        wire::RolloutHost {
            host: host.to_string(),
            wave: plan.wave_of(host).unwrap_or_default(),
            state: state.map(|(state, _)| wire::HostState::from(state)),
            excused: rollout.hosts.get(host).and_then(|entry| entry.excused).map(|it| excuse(it).to_owned()),
            target: target.to_string(),
            dispatched_at: record.map(|record| record.dispatched_at),
            acknowledged_at: record.and_then(|record| record.dispatch_acked_at),
            activated_at: record.and_then(|record| record.activation_completed_at),
            converged_at: record.and_then(|record| record.converged_at),
            failed_at: state.and_then(|(_, failed_at)| failed_at),
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

/// What operators signed for a rollout: its ref, and commands that name it.
fn signed(ledger: &Ledger, record: &Record) -> Vec<wire::Moment> {
    let documents = ledger.documents();
    let names = |signers: &BTreeSet<OperatorKey>| -> Vec<String> {
        let fleet = documents.fleet().into_iter();
        let of = fleet.flat_map(|fleet| &fleet.operators).filter(|(_, key)| signers.contains(*key));
        of.map(|(name, _)| name.to_string()).collect()
    };
    let moment = |at, what, cause: String, signers| wire::Moment {
        at,
        what,
        cause: Some(cause),
        host: None,
        signers: names(signers),
    };
    let of_ref = documents.ref_of_rollout(&record.rollout_id).map(|held| {
        let what = format!("the release {} is signed", held.target_ref);
        moment(held.signed_at, what, format!("channel ref, serial {}", held.serial), held.signers())
    });
    let commands = ledger.commands().filter(|held| is_about(held, record));
    let commands = commands.map(|held| {
        let what = format!("an operator's command: {}", held.verb.name());
        moment(
            held.signed_at,
            what,
            format!("command, serial {}: {}", held.serial, held.reason),
            held.signers(),
        )
    });
    of_ref.into_iter().chain(commands).collect()
}

/// Whether a command names the rollout, or its channel while the rollout was under way.
fn is_about(command: &Command, record: &Record) -> bool {
    let (id, since, until) = (&record.rollout_id, record.opened_at, record.terminal_at);
    let meanwhile = command.signed_at >= since && until.is_none_or(|until| command.signed_at <= until);
    match &command.verb {
        Verb::Pause(Scope::Rollout(rollout)) | Verb::Resume(Scope::Rollout(rollout)) => rollout == id,
        Verb::Pause(Scope::Channel(channel)) | Verb::Resume(Scope::Channel(channel)) => {
            meanwhile && *channel == record.channel
        }
        Verb::Cancel { rollout } | Verb::Promote { rollout, .. } | Verb::ClearRollout { rollout } => {
            rollout == id
        }
        Verb::Skip { rollout, .. } => rollout.as_ref() == Some(id),
        Verb::ClearClosure { channel, .. } => meanwhile && *channel == record.channel,
        Verb::Pause(Scope::Host(_)) | Verb::Resume(Scope::Host(_)) | Verb::Readmit { .. } => false,
    }
}

/// What something that was learnt says of a rollout, and whose signatures under it hold.
pub(super) fn moment(history: &History, learnt: &Learnt, id: &RolloutId) -> Option<wire::Moment> {
    match learnt {
        Learnt::Envelope(said) => {
            let event = said.event().filter(|event| event.rollout_id == *id)?;
            Some(wire::Moment {
                at: said.at,
                what: format!("{}: {}", said.host, event.kind.name()),
                cause: Some(words::event(event)),
                host: Some(said.host.to_string()),
                signers: history.holds(said).then(|| said.host.to_string()).into_iter().collect(),
            })
        }
        Learnt::Decision(decided) => events::decision_on(history, decided, id),
        Learnt::Entry { .. } | Learnt::Document { .. } => None,
    }
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
