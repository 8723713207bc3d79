//! The host machine: every (state, event) pair of both sides, what is refused, and what holds over any sequence.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod builders;
mod recovery;
mod sequences;

use std::collections::BTreeMap;

use builders::*;
use chrono::{DateTime, Utc};
use muster_core::host::{
    Effect, HostContext, Invariant, Level, Local, LocalEffect, Mirror, Owed, Record, RemoteEffect, StepError,
    THIRD_CLOSURE_EXIT_CODE, step,
};
use muster_core::wire::{
    DeclaredProbe, HealthPolicy, HostEvent, HostEventKind, HostState, ProbeMode, ProbeStatus,
};

fn transition<E>(from: HostState, to: HostState, at: DateTime<Utc>) -> Option<Effect<E>> {
    let host = "web-01".parse().unwrap();
    (from != to).then(|| Effect::RecordTransition { host, rollout_id: rollout(), from, to, at })
}

fn local_consequence(kind: &HostEventKind) -> Option<LocalEffect> {
    match kind.name() {
        "DispatchAck" => Some(LocalEffect::FireSwitch { rollout_id: rollout(), target: closure("v2") }),
        "ActivationCompleted" => Some(LocalEffect::ResetProbeCache { rollout_id: rollout() }),
        "ActivationFailed" | "Failed" => {
            Some(LocalEffect::FireRollbackTo { rollout_id: rollout(), closure: closure("v1") })
        }
        _ => None,
    }
}

fn mirror_consequence(kind: &HostEventKind) -> Option<RemoteEffect> {
    (kind.name() == "RollbackComplete")
        .then(|| RemoteEffect::InsertQuarantine { channel: rollout().channel(), closure: closure("v2") })
}

#[test]
fn every_pair_has_exactly_its_effects_or_exactly_its_refusal() {
    let policy = policy(HealthPolicy::RollbackAndHalt);
    let context = HostContext::new(&policy);
    for state in HostState::ALL {
        for (kind, at) in samples() {
            let record = record_in(state);
            let event = event(&record, kind.clone());
            let local = step::<Local>(&record, &context, &event);
            let mirror = step::<Mirror>(&record, &context, &event);
            let pair = format!("{} in {}", kind.name(), state.name());
            let Some(to) = target(state, &kind) else {
                let refused = StepError::IllegalForState { from: state, event: kind.name() };
                assert_eq!(local.unwrap_err(), refused, "{pair}");
                assert_eq!(mirror.unwrap_err(), refused, "{pair}");
                continue;
            };
            let (local, mirror) = (local.unwrap(), mirror.unwrap());
            assert_eq!(local.record.state, to, "{pair}");
            assert_eq!(local.record.last_event_seq, event.seq, "{pair}");
            assert_eq!(local.record, mirror.record, "{pair}");

            let durable = !kind.name().starts_with("Probe") || kind.name() == "ProbeTopologyDeclared";
            let told = LocalEffect::EmitEvent { rollout_id: rollout(), payload: event.clone(), durable };
            let mut effects = vec![Effect::Role(told)];
            effects.extend(transition(state, to, at));
            effects.extend(local_consequence(&kind).map(Effect::Role));
            assert_eq!(local.effects, effects, "{pair}");

            let kept = RemoteEffect::AppendEventLog {
                host: record.host.clone(),
                rollout_id: rollout(),
                payload: event,
            };
            let mut effects = vec![Effect::Role(kept)];
            effects.extend(transition(state, to, at));
            effects.extend(mirror_consequence(&kind).map(Effect::Role));
            assert_eq!(mirror.effects, effects, "{pair}");
        }
    }
}

#[test]
fn numbers_are_checked_before_the_table() {
    let policy = policy(HealthPolicy::Halt);
    let context = HostContext::new(&policy);
    let record = record_in(HostState::Converged);
    let numbered = |seq| HostEvent { rollout_id: rollout(), seq, kind: ack(7) };
    let last = record.last_event_seq;
    for got in [0, 1, last] {
        let refused = StepError::SeqRegression { got, last };
        assert_eq!(step::<Local>(&record, &context, &numbered(got)).unwrap_err(), refused);
        assert_eq!(step::<Mirror>(&record, &context, &numbered(got)).unwrap_err(), refused);
    }
    let refused = StepError::SeqGap { expected: last + 1, got: last + 2 };
    assert_eq!(step::<Mirror>(&record, &context, &numbered(last + 2)).unwrap_err(), refused);
    let other = HostEvent { rollout_id: "stable@v3".parse().unwrap(), ..numbered(last + 1) };
    assert!(matches!(step::<Mirror>(&record, &context, &other), Err(StepError::OtherRollout { .. })));
}

fn off_target() -> Invariant {
    Invariant::OffTarget { target: closure("v2"), observed: closure("v1") }
}

fn completed_with(observed: &str, exit_code: i32) -> HostEventKind {
    let observed_current_closure = closure(observed);
    HostEventKind::ActivationCompleted { observed_current_closure, exit_code, completed_at: at(10) }
}

#[test]
fn moves_that_cannot_be_are_refused_by_name() {
    let other_policy =
        Invariant::OtherPolicy { signed: HealthPolicy::RollbackAndHalt, claimed: HealthPolicy::Halt };
    let soak_not_over = Invariant::SoakNotOver { converged_at: at(69), due_at: at(70) };
    let cases = [
        (pending(), ack(8), Invariant::DispatchUnknown { log_index: 8 }),
        (record_in(HostState::Activating), completed_with("v1", 0), off_target()),
        (record_in(HostState::Deferred), completed_with("v1", 0), off_target()),
        (record_in(HostState::Activating), completed_with("v2", 4), Invariant::SwitchFailed { exit_code: 4 }),
        (healthy(), converged(69, "v2"), soak_not_over),
        (healthy(), converged(70, "v1"), off_target()),
        (healthy(), health_failed(HealthPolicy::Halt), other_policy),
    ];
    for (record, kind, invariant) in cases {
        assert_eq!(refusal(&record, kind), StepError::Invariant(invariant));
    }
}

#[test]
fn probes_that_cannot_be_are_refused_by_name() {
    use ProbeMode::{Disabled, Enforce, Observe};
    use ProbeStatus::{Fail, Pass};
    let undeclared = || after_events([ack(7), completed()]);
    let unseen = || after_events([ack(7), completed(), declared()]);
    let seen =
        |status, secs| after_events([ack(7), completed(), declared(), result("http", Enforce, status, secs)]);
    let twice = HostEventKind::ProbeTopologyDeclared {
        probes: vec![DeclaredProbe { probe_name: probe("a"), kind: "tcp".into(), mode: Enforce }; 2],
        declared_at: at(11),
    };
    let http = || probe("http");
    let not_passing = |status| Invariant::ProbeNotPassing { probe_name: http(), status };
    let stale = Invariant::ProbeStale {
        probe_name: http(),
        last_observed_at: at(9),
        activation_completed_at: at(10),
    };
    let other_mode = Invariant::OtherProbeMode { probe_name: http(), declared: Enforce, got: Observe };
    let late = || converged(70, "v2");
    let cases = [
        (undeclared(), late(), Invariant::ProbesNotDeclared),
        (undeclared(), result("http", Enforce, Pass, 20), Invariant::ProbesNotDeclared),
        (undeclared(), twice, Invariant::ProbeDeclaredTwice { probe_name: probe("a") }),
        (unseen(), late(), not_passing(None)),
        (seen(Fail, 20), late(), not_passing(Some(Fail))),
        (seen(Pass, 9), late(), stale),
        (
            unseen(),
            result("tcp", Enforce, Pass, 20),
            Invariant::ProbeNotDeclared { probe_name: probe("tcp") },
        ),
        (unseen(), failure_first("http", Observe, 20), other_mode),
        (unseen(), result("old", Disabled, Pass, 20), Invariant::ProbeDisabled { probe_name: probe("old") }),
    ];
    for (record, kind, invariant) in cases {
        assert_eq!(refusal(&record, kind), StepError::Invariant(invariant));
    }
}

#[test]
fn the_soak_ends_at_the_later_of_its_two_dates() {
    assert_eq!(pending().soak_deadline(), None);
    assert_eq!(healthy().soak_deadline(), Some(at(70)));
    let mut late = healthy();
    late.soak_due_at = at(500);
    assert_eq!(late.soak_deadline(), Some(at(500)));
    late.soak_secs = u64::MAX;
    assert_eq!(late.soak_deadline(), Some(DateTime::<Utc>::MAX_UTC));
}

#[test]
fn only_enforced_probes_start_and_stop_the_failure_clock() {
    use ProbeMode::{Enforce, Observe};
    use ProbeStatus::{Fail, Pass};
    let apply = |record: &Record, kind| try_apply(record, kind, HealthPolicy::Halt).unwrap();
    let observed =
        apply(&apply(&healthy(), result("disk", Observe, Fail, 30)), failure_first("disk", Observe, 30));
    assert_eq!(observed.probe_failure_first_at, None);
    let failing =
        apply(&apply(&observed, result("http", Enforce, Fail, 31)), failure_first("http", Enforce, 31));
    assert_eq!(failing.probe_failure_first_at, Some(at(31)));
    assert_eq!(failing.probes[&probe("http")].last_pass_at, Some(at(20)));
    assert_eq!(failing.probes[&probe("http")].failure_reason.as_deref(), Some("why"));
    let again = apply(&failing, failure_first("http", Enforce, 35));
    assert_eq!(again.probe_failure_first_at, Some(at(31)));
    let passing = apply(&again, result("http", Enforce, Pass, 40));
    assert_eq!(passing.probe_failure_first_at, None);
    assert_eq!(passing.probes[&probe("http")].failure_reason, None);
    let reset = apply(&passing, declared());
    assert!(reset.probes.is_empty(), "a new declaration follows a reset of the probes");
}

#[test]
fn a_rollback_is_owed_until_its_end_is_known() {
    let failed = record_in(HostState::Failed);
    assert_eq!(failed.owes(), Some(Owed::Rollback { closure: closure("v1") }));
    assert!(failed.owes_rollback());
    let policy = policy(HealthPolicy::RollbackAndHalt);
    let context = HostContext::new(&policy);
    for (to, exit_code) in [("v1", 1), ("v2", 0), ("v3", 0)] {
        let event = event(&failed, rolled_back(to, exit_code));
        let stayed = step::<Local>(&failed, &context, &event).unwrap();
        assert_eq!(stayed.record.state, HostState::Failed);
        assert_eq!(stayed.record.owes(), None);
        let fields = BTreeMap::from([
            ("host", "web-01".to_owned()),
            ("rollout", "stable@v2".to_owned()),
            ("exit_code", exit_code.to_string()),
            ("wanted", "dir:v1".to_owned()),
            ("runs", format!("dir:{to}")),
        ]);
        let log = Effect::EmitLog {
            level: Level::Error,
            target: "host",
            message: "the rollback did not work",
            fields,
        };
        assert_eq!(stayed.effects.last(), Some(&log));
        assert_eq!(stayed.effects.len(), 2);
        let mirrored = step::<Mirror>(&failed, &context, &event).unwrap();
        assert_eq!((mirrored.record, mirrored.effects.len()), (stayed.record, 2));
    }
}

#[test]
fn nothing_is_rolled_back_under_halt_or_without_a_target_or_over_a_third_closure() {
    let halted =
        try_apply(&record_in(HostState::Activating), activation_failed(1), HealthPolicy::Halt).unwrap();
    let same = HostEventKind::DispatchAck {
        current_closure_at_dispatch: Some(closure("v2")),
        received_at: at(1),
        log_index: 7,
    };
    let targetless = after_events([same, activation_failed(1)]);
    let third = after_events([ack(7), activation_failed(THIRD_CLOSURE_EXIT_CODE)]);
    for record in [halted, targetless, third] {
        assert_eq!(record.state, HostState::Failed);
        assert_eq!(record.owes(), None);
    }
    let left = try_apply(&healthy(), health_failed(HealthPolicy::Halt), HealthPolicy::Halt).unwrap();
    assert_eq!((left.policy_applied, left.owes()), (Some(HealthPolicy::Halt), None));
}

#[test]
fn an_acknowledgement_picks_its_dispatch_among_several() {
    let again = pending().redispatch(at(100), at(160), SOAK_SECS, 9);
    for (log_index, due) in [(7, 60), (9, 160)] {
        let acked = try_apply(&again, ack(log_index), HealthPolicy::Halt).unwrap();
        assert_eq!((acked.log_index, acked.soak_due_at), (log_index, at(due)));
        assert!(acked.earlier_dispatches.is_empty());
        assert_eq!(
            acked.redispatch(at(200), at(260), SOAK_SECS, 11),
            acked,
            "only a Pending host is dispatched anew"
        );
    }
    assert_eq!(again.redispatch(at(0), at(60), SOAK_SECS, 9), again, "an old dispatch changes nothing");
}
