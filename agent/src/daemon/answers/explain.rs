//! `/v1/explain/{host or rollout}`: why it does not move.

use muster_core::document::Plan;
use muster_core::gate::{self, Blocked, Reason};
use muster_core::id::{HostId, RolloutId};
use muster_core::view::{Failure, Standing, View};
use muster_core::wire::{HostEventKind, HostState};

use super::history::Source;
use super::{Asked, not_found, words};
use crate::control::{Problem, wire};

/// Explains a host or a rollout, but for what the host said last: [`last_report`] reads that from the store.
pub(super) fn explain(asked: &Asked<'_>, subject: &str) -> Result<wire::Explain, Problem> {
    let ledger = asked.node.ledger();
    let unknown = || {
        not_found(format_args!(
            "{subject:?} is neither a host of the fleet nor a rollout; see `muster status`"
        ))
    };
    if subject.contains('@') {
        let id: RolloutId = subject.parse().map_err(|_| unknown())?;
        return if ledger.rollouts().contains_key(&id) { Ok(rollout(asked, &id)) } else { Err(unknown()) };
    }
    let id: HostId = subject.parse().map_err(|_| unknown())?;
    if ledger.roster().key_of(&id).is_none() {
        return Err(unknown());
    }
    Ok(host(asked, &id))
}

fn host(asked: &Asked<'_>, id: &HostId) -> wire::Explain {
    let ledger = asked.node.ledger();
    let channel = ledger.documents().fleet().and_then(|fleet| Some(fleet.hosts.get(id)?.channel.clone()));
    let newest = channel.as_ref().and_then(|channel| ledger.newest_rollout(channel));
    let plan = newest.and_then(|rollout| ledger.plan(rollout));
    let state = newest.and_then(|rollout| Some(ledger.record(id, rollout)?.record.state));
    let now = asked.now.utc;
    let blocked = asked.node.with_view(asked.now, |view| {
        let waits_in = plan.filter(|plan| waits(view.standing(plan, id, now)));
        waits_in.map(|plan| gate::all_blocked(view, plan, id, now))
    });
    let blocked = newest.zip(blocked.as_ref());
    let gates: Vec<wire::BlockedGate> = blocked
        .map(|(of, blocked)| blocked.iter().map(|it| told(asked, it, of, id)).collect())
        .unwrap_or_default();
    wire::Explain {
        schema: wire::SCHEMA,
        subject: id.to_string(),
        host: Some(id.to_string()),
        rollout: newest.map(ToString::to_string),
        summary: summary(asked, id, newest, state, blocked.is_some(), &gates),
        gates,
        last_report: None,
    }
}

fn summary(
    asked: &Asked<'_>,
    id: &HostId,
    rollout: Option<&RolloutId>,
    state: Option<HostState>,
    waits: bool,
    gates: &[wire::BlockedGate],
) -> String {
    let Some(rollout) = rollout else { return format!("no rollout of {id}'s channel is known here") };
    match (state, gates.first()) {
        (Some(HostState::Converged), _) => format!("{id} has converged in {rollout}"),
        (Some(HostState::Activating), _) => format!("{id} switches to its target of {rollout}"),
        (Some(HostState::Soaking), _) => format!("{id} runs its target of {rollout} and soaks"),
        (Some(HostState::Deferred), _) => format!("{id} waits for its reboot into {rollout}"),
        (Some(HostState::Failed), _) => format!("{id} failed in {rollout}"),
        (Some(HostState::Reverted), _) => format!("{id} went back from {rollout}"),
        (None | Some(HostState::Pending), Some(gate)) => format!("{id} waits in {rollout}: {}", gate.reason),
        (Some(HostState::Pending), None) if waits => {
            format!("{id}'s dispatch into {rollout} came to nothing; no gate holds it back from another")
        }
        (Some(HostState::Pending), None) => {
            format!("{id} is dispatched into {rollout} and has not answered yet")
        }
        (None, None) => {
            let waiting = asked
                .node
                .waiting_decisions()
                .find_map(|decision| Some(format!("{}: {}", decision.about, decision.waits_for?)));
            match waiting {
                Some(waiting) => format!("{id} waits in {rollout} for signatures; {waiting}"),
                None => format!("no gate holds {id} back; its dispatch into {rollout} is on its way"),
            }
        }
    }
}

fn rollout(asked: &Asked<'_>, id: &RolloutId) -> wire::Explain {
    let ledger = asked.node.ledger();
    let record = &ledger.rollouts()[id];
    let plan = ledger.plan(id);
    let gates: Vec<wire::BlockedGate> = asked.node.with_view(asked.now, |view| {
        plan.filter(|_| record.state.is_open()).map(|plan| first_gates(view, asked, plan)).unwrap_or_default()
    });
    let summary = match gates.first() {
        _ if !record.state.is_open() => format!("{id} is {}; it does not move any more", record.state.name()),
        Some(gate) => {
            format!("{id} is {} in wave {}; {}", record.state.name(), record.current_wave + 1, gate.reason)
        }
        None => {
            format!("{id} is {} in wave {}; no gate holds it", record.state.name(), record.current_wave + 1)
        }
    };
    wire::Explain {
        schema: wire::SCHEMA,
        subject: id.to_string(),
        host: None,
        rollout: Some(id.to_string()),
        summary,
        gates,
        last_report: None,
    }
}

/// The first gate that holds each host back that was not dispatched, or whose dispatch came to nothing.
fn first_gates(view: &View<'_>, asked: &Asked<'_>, plan: &Plan) -> Vec<wire::BlockedGate> {
    let waiting = plan.hosts().filter(|host| waits(view.standing(plan, host, asked.now.utc)));
    let blocked = waiting.filter_map(|host| {
        let blocked = gate::admit(view, plan, host, asked.now.utc).err()?;
        Some(told(asked, &blocked, &plan.rollout_id, host))
    });
    blocked.collect()
}

/// Whether a gate is what holds a host: also one that counts as failed since it fetched nothing is taken in once it has.
pub(super) fn waits(standing: Standing) -> bool {
    matches!(standing, Standing::Waiting | Standing::Failed(Failure::NotFetched))
}

/// The same with what the host itself says of its fetching, which no gate hears of.
fn told(asked: &Asked<'_>, blocked: &Blocked, of: &RolloutId, host: &HostId) -> wire::BlockedGate {
    let mut gate = shown(blocked, of, host);
    if matches!(blocked.reason, Reason::NotFetched { .. } | Reason::NeverFetched { .. })
        && let Some(fetching) = asked.node.fetching_of(host)
    {
        gate.waits_for = Some(format!("the host itself: {fetching}"));
    }
    gate
}

pub(super) fn shown(blocked: &Blocked, of: &RolloutId, host: &HostId) -> wire::BlockedGate {
    wire::BlockedGate {
        gate: blocked.gate.name().to_owned(),
        host: Some(host.to_string()),
        reason: blocked.reason.to_string(),
        waits_for: Some(blocked.holder()),
        way_out: Some(blocked.way_out(of)),
        opens_at: blocked.opens_at,
    }
}

/// What a host said last.
pub(super) fn last_report(source: Source, host: &str) -> Result<Option<wire::LastReport>, Problem> {
    let Ok(host) = host.parse::<HostId>() else { return Ok(None) };
    let history = source.read()?;
    let Some(said) = history.last_event(&host)? else { return Ok(None) };
    let Some(event) = said.event() else { return Ok(None) };
    let mut detail = format!("{}: {}", event.rollout_id, words::event(event));
    if let HostEventKind::RollbackComplete { .. } = event.kind
        && let Some(failed) = history.last_failure(&host)?
        && let Some(before) = failed.event().filter(|before| before.rollout_id == event.rollout_id)
    {
        detail.push_str(&format!(", after {}: {}", before.kind.name(), words::event(before)));
    }
    Ok(Some(wire::LastReport { name: event.kind.name().to_owned(), at: said.at, detail }))
}
