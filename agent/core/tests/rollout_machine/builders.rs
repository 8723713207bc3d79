//! A plan of two waves, and rollouts of it in every state.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use muster_core::document::plan::{Plan, Policy, RefOrder, Wave};
use muster_core::id::{Closure, HostId, RolloutId};
use muster_core::rollout::{Effect, Record, Step, StepContext, StepError, step};
use muster_core::wire::{Cause, EnvelopeRef, HealthPolicy, HostState, RolloutEvent, RolloutState};
use muster_signing::Digest;

pub(crate) const SOAK_SECS: u64 = 60;
pub(crate) const DISPATCH_TIMEOUT_SECS: u64 = 600;
pub(crate) const DEFERRED_TIMEOUT_SECS: u64 = 10_000;

pub(crate) fn at(secs: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(secs)
}

pub(crate) fn host(name: &str) -> HostId {
    name.parse().unwrap()
}

pub(crate) fn closure(name: &str) -> Closure {
    format!("dir:{name}").parse().unwrap()
}

pub(crate) fn rollout() -> RolloutId {
    "stable@v2".parse().unwrap()
}

/// Wave 0 has hosts a and b, wave 1 has c and d; d alone gets another closure.
pub(crate) fn plan(max_failures: usize) -> Plan {
    let wave = |hosts: [&str; 2]| Wave {
        hosts: BTreeSet::from(hosts.map(host)),
        soak_secs: SOAK_SECS,
        manual_promotion: false,
    };
    let target = |name, of| (host(name), closure(of));
    Plan {
        fleet: "home".parse().unwrap(),
        rollout_id: rollout(),
        channel: rollout().channel(),
        target_ref: rollout().target_ref(),
        order: RefOrder { fleet_serial: 1, serial: 2 },
        ref_hash: Digest([1; 32]),
        fleet_hash: Digest([2; 32]),
        signed_at: at(0),
        expires_at: None,
        freshness_window_minutes: 60,
        windows: Vec::new(),
        waves: vec![wave(["a", "b"]), wave(["c", "d"])],
        targets: BTreeMap::from([
            target("a", "v2"),
            target("b", "v2"),
            target("c", "v2"),
            target("d", "v2-arm"),
        ]),
        edges: Vec::new(),
        waits_for: Vec::new(),
        budgets: Vec::new(),
        policy: Policy {
            max_failures,
            on_health_failure: HealthPolicy::RollbackAndHalt,
            sustained_failure_secs: 60,
            dispatch_timeout_secs: DISPATCH_TIMEOUT_SECS,
            activation_timeout_secs: 1800,
            deferred_timeout_secs: DEFERRED_TIMEOUT_SECS,
            lost_after_secs: 3600,
            fetch_timeout_secs: 3600,
            deferred_advances: false,
        },
        urgent: false,
    }
}

pub(crate) fn evidence(seq: u64) -> EnvelopeRef {
    EnvelopeRef { incarnation: 1, seq, hash: Digest([7; 32]) }
}

pub(crate) fn reported(seq: u64) -> Cause {
    Cause::Reported { envelope: evidence(seq) }
}

pub(crate) fn opened(secs: i64) -> RolloutEvent {
    RolloutEvent::RolloutOpened {
        rollout_id: rollout(),
        channel: rollout().channel(),
        target_ref: rollout().target_ref(),
        at: at(secs),
    }
}

pub(crate) fn joined(name: &str, secs: i64) -> RolloutEvent {
    let wave = u32::from(name > "b");
    RolloutEvent::HostJoined { rollout_id: rollout(), host_id: host(name), wave, at: at(secs) }
}

pub(crate) fn moved(name: &str, from: HostState, to: HostState, cause: Cause, secs: i64) -> RolloutEvent {
    RolloutEvent::HostStateChanged {
        rollout_id: rollout(),
        host_id: host(name),
        from,
        to,
        cause,
        at: at(secs),
    }
}

pub(crate) fn advanced(from_wave: u32, to_wave: u32, secs: i64) -> RolloutEvent {
    RolloutEvent::WaveAdvanced { rollout_id: rollout(), from_wave, to_wave, at: at(secs) }
}

pub(crate) fn terminal(secs: i64) -> RolloutEvent {
    RolloutEvent::RolloutTerminal { rollout_id: rollout(), at: at(secs) }
}

pub(crate) fn superseded_by(successor: &str, secs: i64) -> RolloutEvent {
    RolloutEvent::SuccessorOpened {
        superseded_rollout_id: rollout(),
        successor_rollout_id: successor.parse().unwrap(),
        at: at(secs),
    }
}

pub(crate) fn expired(secs: i64) -> RolloutEvent {
    RolloutEvent::RetentionExpired { rollout_id: rollout(), at: at(secs) }
}

pub(crate) fn cleared(secs: i64) -> RolloutEvent {
    let (operator, reason) = ("alice".parse().unwrap(), "looked at it".into());
    RolloutEvent::OperatorClearance { rollout_id: rollout(), operator, reason, at: at(secs) }
}

pub(crate) fn cancelled(secs: i64) -> RolloutEvent {
    let (operator, reason) = ("alice".parse().unwrap(), "wrong ref".into());
    RolloutEvent::RolloutCancelled { rollout_id: rollout(), operator, reason, at: at(secs) }
}

pub(crate) fn try_step(
    plan: &Plan,
    record: &Record,
    event: &RolloutEvent,
    index: u64,
) -> Result<Step, StepError> {
    step(plan, Some(record), event, index, &StepContext::default())
}

/// The record and all effects after events at the log indices 1, 2, ...
pub(crate) fn play(plan: &Plan, events: impl IntoIterator<Item = RolloutEvent>) -> (Record, Vec<Effect>) {
    let mut record = None;
    let mut effects = Vec::new();
    for (index, event) in (1..).zip(events) {
        let mut stepped = step(plan, record.as_ref(), &event, index, &StepContext::default()).unwrap();
        effects.append(&mut stepped.effects);
        record = Some(stepped.record);
    }
    (record.unwrap(), effects)
}

/// A rollout in which a has converged and b was dispatched, led on to the state.
pub(crate) fn record_in(state: RolloutState) -> Record {
    use HostState as H;
    let active = || {
        let converged = moved("a", H::Pending, H::Converged, reported(1), 4);
        vec![opened(1), joined("a", 2), joined("b", 3), converged]
    };
    let b_to = |to| moved("b", H::Pending, to, reported(5), 5);
    let rest = match state {
        RolloutState::Opening => return play(&plan(0), [opened(1)]).0,
        RolloutState::Active => vec![],
        RolloutState::Converging => vec![advanced(0, 0, 5)],
        RolloutState::Terminal => vec![advanced(0, 1, 5), advanced(1, 1, 6), terminal(7)],
        RolloutState::Reverted => vec![b_to(H::Reverted)],
        RolloutState::Failed => vec![b_to(H::Failed)],
        RolloutState::Superseded => vec![superseded_by("stable@v3", 5)],
        RolloutState::Pruned => vec![superseded_by("stable@v3", 5), expired(6)],
    };
    let record = play(&plan(0), active().into_iter().chain(rest)).0;
    assert_eq!(record.state, state);
    record
}
