//! The planner: what the elected coordinator proposes next, by its own evidence.
//!
//! It is a pure function from evidence to log entries, asked again whenever the evidence changed and whatever
//! it proposed before has been applied; what was lost on the way it finds missing and proposes anew.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use muster_signing::Digest;

use crate::coordination::approval::holds_the_end;
use crate::document::{Plan, Verb};
use crate::gate::{self, WaveState};
use crate::id::{ChannelId, HostId, RolloutId};
use crate::ledger::Mirrored;
use crate::planted::Bug;
use crate::rollout::{HostEntry, Record};
use crate::view::{Failure, Standing, View};
use crate::wire::{
    Cause, DecisionId, DocumentKind, EnvelopeRef, HostState, LogStatement, RolloutEvent, RolloutState,
};

/// The most events in one batch, so that an entry stays far below the log's limit.
const EVENTS_MAX: usize = 256;

/// Proposes what the log lacks.
pub fn propose(view: &View<'_>, hold: &BTreeSet<HostId>, now: DateTime<Utc>) -> Vec<LogStatement> {
    let mut statements = adoptions(view, now);
    // In a batch of their own, however many there are: a predecessor closes where its successor opens.
    let opened = openings(view, &adopting(&statements), now);
    let adopts = !statements.is_empty();
    if !opened.is_empty() {
        statements.push(LogStatement::Rollout { events: opened });
    }
    if adopts {
        // What a newly adopted document means for the hosts is asked once it counts.
        return statements;
    }
    statements.extend(withdrawals(view, now));
    let mut events = operators_orders(view, now);
    for (id, record) in view.ledger.rollouts() {
        let Some(plan) = view.ledger.plan(id) else { continue };
        events.extend(mirrored(view, plan, record, now));
    }
    events.extend(advances(view, now));
    events.extend(joins(view, hold, now));
    statements.extend(batches(events));
    statements
}

/// The same; if there is nothing, the end of rollouts that are over for long and that nothing refers to any more.
pub(crate) fn propose_or_expire(
    view: &View<'_>,
    hold: &BTreeSet<HostId>,
    retention: TimeDelta,
    at: DateTime<Utc>,
) -> Vec<LogStatement> {
    let statements = propose(view, hold, at);
    if !statements.is_empty() {
        return statements;
    }
    let early = view.ledger.planted().has(Bug::RetentionIgnored);
    let before = if early { at } else { at.checked_sub_signed(retention).unwrap_or_default() };
    let expired = view.ledger.expired(before);
    batches(expired.map(|id| RolloutEvent::RetentionExpired { rollout_id: id.clone(), at }).collect())
}

/// The hosts that every gate lets through now, as the events that would dispatch them.
pub fn dispatches(view: &View<'_>, now: DateTime<Utc>) -> Vec<RolloutEvent> {
    joins(view, &BTreeSet::new(), now)
}

fn batches(events: Vec<RolloutEvent>) -> Vec<LogStatement> {
    events.chunks(EVENTS_MAX).map(|batch| LogStatement::Rollout { events: batch.to_vec() }).collect()
}

/// The documents that the statements adopt.
fn adopting(statements: &[LogStatement]) -> BTreeSet<Digest> {
    let hashes = statements.iter().filter_map(|statement| match statement {
        LogStatement::DocumentAdopted { hash, .. } => Some(*hash),
        LogStatement::Rollout { .. }
        | LogStatement::Withdrawn { .. }
        | LogStatement::RulesRaised { .. }
        | LogStatement::SnapshotAsked {} => None,
    });
    hashes.collect()
}

/// Documents that were accepted and do not count for the log yet: fleet documents first, since refs name them.
fn adoptions(view: &View<'_>, now: DateTime<Utc>) -> Vec<LogStatement> {
    let (documents, adopted) = (view.ledger.documents(), view.ledger.adopted());
    let mut statements = Vec::new();
    let mut adopt = |kind, channel: Option<&ChannelId>, serial, hash| {
        statements.push(LogStatement::DocumentAdopted { kind, channel: channel.cloned(), serial, hash });
    };
    let fleet = documents.fleet().filter(|_| !documents.is_fleet_blocked());
    if let Some(fleet) = fleet.filter(|fleet| adopted.fleet != Some(fleet.hash)) {
        adopt(DocumentKind::Fleet, None, fleet.document.serial, fleet.hash);
    }
    for (channel, newest) in documents.channel_refs() {
        let names_newest = fleet.is_some_and(|fleet| fleet.hash == newest.document.fleet_hash);
        let known = adopted.refs.get(channel) == Some(&newest.hash);
        if names_newest && !known && !documents.is_blocked(channel) {
            adopt(DocumentKind::ChannelRef, Some(channel), newest.document.serial, newest.hash);
        }
    }
    let commands = documents.commands_in_force(now);
    for command in commands.filter(|command| !adopted.commands.contains(&command.hash)) {
        adopt(DocumentKind::Command, None, command.document.serial, command.hash);
    }
    statements
}

/// Dispatches that came to nothing by evidence, so that the log may dispatch their hosts again.
fn withdrawals(view: &View<'_>, now: DateTime<Utc>) -> Vec<LogStatement> {
    let slots = view.ledger.slots();
    let spent =
        slots.hosts().flat_map(|host| slots.of(host).map(move |slot| (host, slot))).filter(|(host, slot)| {
            let pending = view
                .ledger
                .record(host, &slot.rollout)
                .is_none_or(|it| it.record.state == HostState::Pending);
            !slot.withdrawn && pending && view.is_free(host, slot, now)
        });
    let decisions = spent.map(|(_, slot)| slot.decision);
    decisions
        .map(|DecisionId { log_index, ordinal }| LogStatement::Withdrawn { log_index, ordinal })
        .collect()
}

/// Rollouts of refs that count, or are adopted just before; only the newest ref of a channel opens, and only for the
/// newest fleet document.
fn openings(view: &View<'_>, adopting: &BTreeSet<Digest>, at: DateTime<Utc>) -> Vec<RolloutEvent> {
    let (ledger, documents) = (view.ledger, view.ledger.documents());
    let fleet = documents.fleet().map(|fleet| fleet.hash).filter(|hash| adopting.contains(hash));
    let fleet = fleet.or(ledger.adopted().fleet);
    let mut events = Vec::new();
    for (channel, held) in documents.channel_refs() {
        if ledger.adopted().refs.get(channel) != Some(&held.hash) && !adopting.contains(&held.hash) {
            continue;
        }
        let id = held.document.rollout_id();
        let current = fleet == Some(held.document.fleet_hash);
        let spoken_of = ledger.rollouts().contains_key(&id) || ledger.is_pruned(&id);
        if !current || documents.is_blocked(channel) || spoken_of {
            continue;
        }
        let open =
            ledger.rollouts().values().filter(|record| record.channel == *channel && record.state.is_open());
        events.extend(open.map(|record| RolloutEvent::SuccessorOpened {
            superseded_rollout_id: record.rollout_id.clone(),
            successor_rollout_id: id.clone(),
            at,
        }));
        events.push(RolloutEvent::RolloutOpened {
            rollout_id: id,
            channel: channel.clone(),
            target_ref: held.document.target_ref.clone(),
            at,
        });
    }
    events
}

/// Cancellations and clearances, each once, in the order of the commands.
fn operators_orders(view: &View<'_>, at: DateTime<Utc>) -> Vec<RolloutEvent> {
    let mut events = Vec::new();
    let mut touched = BTreeSet::new();
    let commands = view.ledger.commands_in_force(at);
    for command in commands.filter(|command| !view.ledger.adopted().handled.contains(&command.hash)) {
        let (Verb::Cancel { rollout } | Verb::ClearRollout { rollout }) = &command.document.verb else {
            continue;
        };
        let Some(record) = view.ledger.rollouts().get(rollout) else { continue };
        // What a newer rollout has taken the place of is over: going on with it would be going back.
        if matches!(command.document.verb, Verb::ClearRollout { .. })
            && view.ledger.newest_rollout(&record.channel) != Some(rollout)
        {
            continue;
        }
        let Some(operator) = view.ledger.documents().signer_name(command.signers()) else { continue };
        let (rollout_id, reason) = (rollout.clone(), command.document.reason.clone());
        let event = match (&command.document.verb, record.state) {
            (Verb::Cancel { .. }, state) if state.is_open() => {
                RolloutEvent::RolloutCancelled { rollout_id, operator: operator.clone(), reason, at }
            }
            (Verb::ClearRollout { .. }, RolloutState::Failed | RolloutState::Reverted) => {
                RolloutEvent::OperatorClearance { rollout_id, operator: operator.clone(), reason, at }
            }
            _ => continue,
        };
        if touched.insert(rollout.clone()) {
            events.push(event);
        }
    }
    events
}

/// Hosts of a rollout that moved since the log last heard of them.
fn mirrored(view: &View<'_>, plan: &Plan, record: &Record, at: DateTime<Utc>) -> Vec<RolloutEvent> {
    if record.state == RolloutState::Pruned {
        return Vec::new();
    }
    let waits = plan.hosts().filter(|host| record.hosts.get(*host).is_none_or(|it| it.dispatch.is_none()));
    let never_fetched = waits.filter(|host| {
        let pending = record.hosts.get(*host).is_none_or(|it| it.state == HostState::Pending);
        record.state.is_open()
            && pending
            && view.standing(plan, host, at) == Standing::Failed(Failure::NotFetched)
    });
    let never_fetched = never_fetched.map(|host| RolloutEvent::HostStateChanged {
        rollout_id: plan.rollout_id.clone(),
        host_id: host.clone(),
        from: HostState::Pending,
        to: HostState::Failed,
        cause: Cause::NotFetched,
        at,
    });
    let dispatched = record.hosts.iter().filter(|(_, entry)| entry.dispatch.is_some());
    let moved = dispatched.filter_map(|(host, entry)| {
        let (to, cause) = claim(view, plan, host, entry, at)?;
        Some(RolloutEvent::HostStateChanged {
            rollout_id: plan.rollout_id.clone(),
            host_id: host.clone(),
            from: entry.state,
            to,
            cause,
            at,
        })
    });
    moved.chain(never_fetched).collect()
}

fn claim(
    view: &View<'_>,
    plan: &Plan,
    host: &HostId,
    entry: &HostEntry,
    at: DateTime<Utc>,
) -> Option<(HostState, Cause)> {
    let mirrored = view.ledger.record(host, &plan.rollout_id)?;
    let reported = mirrored.evidence.map(|envelope| {
        // A lost disk says nothing about the release.
        let lost = mirrored.record.is_lost();
        (mirrored.record.state, if lost { Cause::Lost } else { Cause::Reported { envelope } })
    });
    if is_unfounded(view, host, entry, mirrored) {
        let says = reported.filter(|(_, cause)| !cause.is_reckoned());
        return Some(says.unwrap_or((HostState::Pending, Cause::Unfounded)));
    }
    if matches!(entry.state, HostState::Converged | HostState::Reverted) {
        return None;
    }
    let unexplained = !matches!(entry.cause, Some(Cause::Reported { .. }));
    let counted = match view.standing(plan, host, at) {
        Standing::Failed(Failure::Lost) => Some((HostState::Failed, Cause::Lost)),
        Standing::Failed(Failure::Rejected) => Some((HostState::Failed, Cause::Rejected)),
        Standing::Failed(Failure::Expired) => Some((HostState::Failed, Cause::Expired)),
        Standing::Failed(Failure::Overdue) => Some((HostState::Failed, Cause::Overdue)),
        Standing::Failed(Failure::NotFetched) => Some((HostState::Failed, Cause::NotFetched)),
        Standing::Failed(Failure::Reported | Failure::Reverted)
        | Standing::Waiting
        | Standing::InFlight(_)
        | Standing::Deferred { .. }
        | Standing::Converged => reported,
    };
    counted.filter(|(to, cause)| {
        let explains = *to == HostState::Failed && unexplained && matches!(cause, Cause::Reported { .. });
        *to != entry.state || explains
    })
}

/// Whether the log says of a host what its feed does not, although all is held that the claim can have meant: a leader
/// that lied is no leader for ever, and what it claimed would hold the rollout back.
fn is_unfounded(view: &View<'_>, host: &HostId, entry: &HostEntry, mirrored: &Mirrored) -> bool {
    let Some(claimed) = entry.evidence else { return false };
    let feed = view.ledger.feed(host);
    let place = |envelope: EnvelopeRef| (envelope.incarnation, envelope.seq);
    let head = feed.map_or((0, 0), |feed| (feed.incarnation(), feed.head().map_or(0, |head| head.seq)));
    // A place that the host had not reached when it spoke after the claim, nobody can have seen.
    let beyond = view.presences.of(host).is_some_and(|seen| {
        let told = (seen.incarnation, seen.presence.head_seq);
        seen.at > entry.since && told < place(claimed) && (told <= head || told.1 == 0)
    });
    let all_is_held = feed.is_none_or(|feed| feed.backlog() == 0) && (head >= place(claimed) || beyond);
    let state = mirrored.record.state;
    let denied = match entry.state {
        HostState::Converged | HostState::Reverted => state != entry.state,
        HostState::Failed => !matches!(state, HostState::Failed | HostState::Reverted),
        HostState::Pending | HostState::Activating | HostState::Deferred | HostState::Soaking => {
            state != entry.state && mirrored.evidence.is_none_or(|says| place(says) < place(claimed))
        }
    };
    all_is_held && denied
}

/// Waves that are done, and rollouts of which no wave is left.
fn advances(view: &View<'_>, at: DateTime<Utc>) -> Vec<RolloutEvent> {
    let mut events = Vec::new();
    for (id, record) in view.ledger.rollouts().iter().filter(|(_, record)| record.state.is_open()) {
        let Some(plan) = view.ledger.plan(id) else { continue };
        let last = u32::try_from(plan.waves.len()).unwrap_or(u32::MAX).saturating_sub(1);
        let wave = record.current_wave;
        let done = || {
            gate::wave_state(view, plan, wave, at) == WaveState::Done
                || view.ledger.planted().has(Bug::WaveIgnored)
        };
        if record.state == RolloutState::Converging {
            let let_go = view.ledger.let_go(plan);
            let over =
                || holds_the_end(view, plan, at).is_none() || view.ledger.planted().has(Bug::WaveIgnored);
            if record.unfinished(plan, &let_go, at).next().is_none()
                && over()
                && !view.ledger.planted().has(Bug::NoTerminal)
            {
                events.push(RolloutEvent::RolloutTerminal { rollout_id: id.clone(), at });
            }
        } else if done() && !view.ledger.planted().has(Bug::NoAdvance) {
            let to_wave = last.min(wave + 1);
            events.push(RolloutEvent::WaveAdvanced { rollout_id: id.clone(), from_wave: wave, to_wave, at });
        }
    }
    events
}

/// Hosts that every gate lets through, each counted as in flight for those after it.
fn joins(view: &View<'_>, hold: &BTreeSet<HostId>, at: DateTime<Utc>) -> Vec<RolloutEvent> {
    let mut events = Vec::new();
    let mut tentative = view.tentative.clone();
    let mut newest: BTreeMap<&ChannelId, &RolloutId> = BTreeMap::new();
    for id in view.ledger.rollouts().keys() {
        let channel = view.ledger.newest_rollout(&id.channel());
        if channel == Some(id)
            && let Some(record) = view.ledger.rollouts().get(id)
        {
            newest.insert(&record.channel, id);
        }
    }
    for id in newest.into_values() {
        let (Some(plan), Some(record)) = (view.ledger.plan(id), view.ledger.rollouts().get(id)) else {
            continue;
        };
        let takes = record.state.is_open() || record.state == RolloutState::Terminal;
        for (wave, hosts) in (0..=record.current_wave).zip(&plan.waves).filter(|_| takes) {
            for host in hosts.hosts.iter().filter(|host| !hold.contains(*host)) {
                let view = View { tentative: &tentative, ..view.clone() };
                if may_join(&view, plan, record, host, at) {
                    let (rollout_id, host_id) = (id.clone(), host.clone());
                    events.push(RolloutEvent::HostJoined { rollout_id, host_id, wave, at });
                    tentative.insert(host.clone());
                }
            }
        }
    }
    events
}

fn may_join(view: &View<'_>, plan: &Plan, record: &Record, host: &HostId, at: DateTime<Utc>) -> bool {
    record.hosts.get(host).is_none_or(|entry| entry.is_dispatchable(at))
        && view.standing(plan, host, at) == Standing::Waiting
        && !view.excuse(plan, host, at).is_some_and(crate::view::Excuse::by_operator)
        && gate::admit(view, plan, host, at).is_ok()
}
