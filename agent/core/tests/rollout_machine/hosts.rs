//! How a rollout counts its hosts: dispatches, failures, excuses, quarantines.

use std::collections::BTreeMap;

use muster_core::rollout::{Effect, Excuse, Record, StepContext, step, withdraw};
use muster_core::wire::{Cause, DecisionBody, HostState as H, RolloutEvent, RolloutState};

use crate::builders::*;
use crate::{dispatch, quarantine};

fn dispatches(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::QueueDispatch(_))).count()
}

fn failed(name: &str, cause: Cause) -> RolloutEvent {
    moved(name, H::Pending, H::Failed, cause, 5)
}

fn excuse_of(record: &Record, name: &str) -> Option<Excuse> {
    record.hosts[&host(name)].excused
}

#[test]
fn host_in_flight_is_not_dispatched_again() {
    let plan = plan(0);
    let record = play(&plan, [opened(1), joined("a", 2)]).0;
    let until_late = i64::try_from(DISPATCH_TIMEOUT_SECS).unwrap() + 2;
    assert!(try_step(&plan, &record, &joined("a", until_late), 7).unwrap().effects.is_empty());
    let late = try_step(&plan, &record, &joined("a", until_late + 1), 8).unwrap();
    assert_eq!(late.effects, dispatch("a", "v2", 0, until_late + 1), "an expired one is");
    assert_eq!(late.record.hosts[&host("a")].dispatch, Some(8));
    for state in [H::Activating, H::Deferred, H::Soaking, H::Converged] {
        let moved = moved("a", H::Pending, state, reported(1), 3);
        let record = try_step(&plan, &record, &moved, 7).unwrap().record;
        assert!(try_step(&plan, &record, &joined("a", 10_000), 8).unwrap().effects.is_empty(), "{state:?}");
    }
}

#[test]
fn host_that_was_only_reckoned_to_have_failed_is_dispatched_again() {
    let plan = plan(1);
    for (cause, again) in [(Cause::Overdue, true), (Cause::Lost, true), (reported(3), false)] {
        let record = play(&plan, [opened(1), joined("a", 2), failed("a", cause)]).0;
        let withdrawn = withdraw(&record, &host("a"), 2);
        let step = try_step(&plan, &withdrawn, &joined("a", 6), 6).unwrap();
        assert_eq!(dispatches(&step.effects) == 1, again, "{cause:?}");
        assert_eq!(step.record.failures() == 0, again, "{cause:?}");
    }
}

#[test]
fn withdrawn_host_is_dispatched_again_and_the_others_of_its_entry_are_not() {
    let plan = plan(0);
    let opening = play(&plan, [opened(1)]).0;
    let a = try_step(&plan, &opening, &joined("a", 2), 2).unwrap().record;
    let both = try_step(&plan, &a, &joined("b", 2), 2).unwrap().record;
    assert!(both.holds_dispatch(2));
    assert_eq!(withdraw(&both, &host("a"), 3), both, "no such dispatch");
    let withdrawn = withdraw(&both, &host("a"), 2);
    let again = try_step(&plan, &withdrawn, &joined("a", 3), 3).unwrap();
    assert_eq!(again.effects, dispatch("a", "v2", 0, 3));
    assert!(try_step(&plan, &again.record, &joined("b", 3), 3).unwrap().effects.is_empty());
    assert!(!again.record.hosts[&host("a")].withdrawn);
}

#[test]
fn failures_within_the_policy_are_excused_and_one_more_ends_the_rollout() {
    let plan = plan(1);
    let start = [opened(1), joined("a", 2), joined("b", 2), failed("b", reported(3))];
    let (record, effects) = play(&plan, start);
    assert_eq!((record.state, record.failures()), (RolloutState::Active, 1));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::InsertQuarantineFromRollout { .. })));
    let record = try_step(&plan, &record, &advanced(0, 1, 6), 6).unwrap().record;
    assert_eq!(excuse_of(&record, "b"), Some(Excuse::WithinMaxFailures));
    let record = try_step(&plan, &record, &joined("d", 7), 7).unwrap().record;
    let over = try_step(&plan, &record, &failed("d", reported(4)), 8).unwrap();
    assert_eq!(over.record.state, RolloutState::Failed);
    assert_eq!(over.effects[1..3], [quarantine("b", "v2", 3), quarantine("d", "v2-arm", 4)]);
    let back = moved("d", H::Failed, H::Reverted, reported(9), 9);
    let reverted = try_step(&plan, &over.record, &back, 9).unwrap();
    assert_eq!((reverted.record.state, reverted.effects.len()), (RolloutState::Reverted, 1));
    assert_eq!(reverted.record.hosts[&host("d")].cause, Some(reported(4)), "the failure stays the cause");
}

#[test]
fn only_what_a_host_reports_quarantines() {
    let plan = plan(0);
    for cause in [Cause::Lost, Cause::Rejected, Cause::Expired, Cause::Overdue, Cause::NotFetched] {
        let (record, effects) = play(&plan, [opened(1), joined("a", 2), failed("a", cause)]);
        assert_eq!(record.state, RolloutState::Failed);
        assert!(record.quarantined.is_empty(), "{cause:?}");
        assert!(matches!(effects.last(), Some(Effect::SchedulePruning { .. })));
    }
    let never_joined = play(&plan, [opened(1), joined("a", 2), failed("b", Cause::NotFetched)]).0;
    assert_eq!(never_joined.state, RolloutState::Failed, "who cannot fetch is never dispatched");
}

#[test]
fn lost_host_may_come_back_and_a_reported_failure_explains_a_presumed_one() {
    let plan = plan(1);
    let lost = play(&plan, [opened(1), joined("a", 2), failed("a", Cause::Lost)]).0;
    let back = moved("a", H::Failed, H::Converged, reported(3), 6);
    let converged = try_step(&plan, &lost, &back, 6).unwrap().record;
    assert_eq!((converged.failures(), converged.hosts[&host("a")].cause), (0, None));
    let explained = moved("a", H::Failed, H::Failed, reported(3), 6);
    let explained = try_step(&plan, &lost, &explained, 6).unwrap().record;
    assert_eq!(explained.hosts[&host("a")].cause, Some(reported(3)));
}

#[test]
fn claim_that_no_host_bears_out_is_taken_back() {
    let plan = plan(1);
    for claimed in [H::Converged, H::Reverted, H::Failed, H::Soaking] {
        let forged = moved("a", H::Pending, claimed, reported(9), 3);
        let forged = play(&plan, [opened(1), joined("a", 2), forged]).0;
        let says = moved("a", claimed, H::Activating, reported(1), 6);
        let heard = try_step(&plan, &forged, &says, 6).unwrap().record;
        assert_eq!((heard.hosts[&host("a")].state, heard.failures()), (H::Activating, 0), "{claimed:?}");
        let nothing = moved("a", claimed, H::Pending, Cause::Unfounded, 6);
        let pending = try_step(&plan, &forged, &nothing, 6).unwrap().record;
        assert_eq!((pending.hosts[&host("a")].state, pending.failures()), (H::Pending, 0), "{claimed:?}");
        for reckoned in [H::Failed, H::Soaking].into_iter().filter(|to| *to != claimed) {
            let unfounded = moved("a", claimed, reckoned, Cause::Unfounded, 6);
            assert!(try_step(&plan, &forged, &unfounded, 6).is_err(), "{claimed:?} -> {reckoned:?}");
        }
    }
}

#[test]
fn stale_claims_change_nothing() {
    let plan = plan(0);
    let record =
        play(&plan, [opened(1), joined("a", 2), moved("a", H::Pending, H::Soaking, reported(1), 3)]).0;
    for (from, to) in [(H::Pending, H::Activating), (H::Activating, H::Failed), (H::Soaking, H::Soaking)] {
        let stepped = try_step(&plan, &record, &moved("a", from, to, reported(2), 4), 9).unwrap();
        assert_eq!((stepped.record, stepped.effects.len()), (record.clone(), 0));
    }
}

#[test]
fn wave_that_is_done_excuses_whoever_did_not_converge() {
    let plan = plan(9);
    let cases = [
        (None, Some(Excuse::Offline)),
        (Some(H::Pending), Some(Excuse::Skipped)),
        (Some(H::Activating), Some(Excuse::Skipped)),
        (Some(H::Soaking), Some(Excuse::Skipped)),
        (Some(H::Deferred), Some(Excuse::Deferred)),
        (Some(H::Failed), Some(Excuse::WithinMaxFailures)),
        (Some(H::Reverted), Some(Excuse::WithinMaxFailures)),
        (Some(H::Converged), None),
    ];
    for (state, excuse) in cases {
        let mut events = vec![opened(1), joined("b", 2)];
        if let Some(state) = state {
            events.extend([joined("a", 2), moved("a", H::Pending, state, reported(1), 3)]);
        }
        events.push(advanced(0, 1, 9));
        let record = play(&plan, events).0;
        assert_eq!(excuse_of(&record, "a"), excuse, "{state:?}");
        assert!(!record.hosts.contains_key(&host("c")), "the next wave has just begun");
    }
}

#[test]
fn deferral_holds_the_end_until_it_runs_out_of_time() {
    let plan = plan(0);
    let deferred = moved("a", H::Pending, H::Deferred, reported(1), 3);
    let events = [opened(1), joined("a", 2), deferred, advanced(0, 1, 4), advanced(1, 1, 5)];
    let record = play(&plan, events).0;
    let over = i64::try_from(DEFERRED_TIMEOUT_SECS).unwrap() + 3;
    assert_eq!(record.unfinished(&plan, &[], at(over - 1)).collect::<Vec<_>>(), [&host("a")]);
    assert!(try_step(&plan, &record, &terminal(over - 1), 9).is_err());
    let ended = try_step(&plan, &record, &terminal(over), 9).unwrap().record;
    assert_eq!(excuse_of(&ended, "a"), Some(Excuse::DeferredTooLong));
    let rebooted = moved("a", H::Deferred, H::Soaking, reported(2), 6);
    let rebooted = try_step(&plan, &record, &rebooted, 9).unwrap().record;
    assert!(try_step(&plan, &rebooted, &terminal(over), 10).is_err(), "who soaks is waited for");
}

#[test]
fn nobody_waits_for_a_host_that_people_let_go() {
    let plan = plan(0);
    let let_go = [host("a")];
    let context = StepContext { let_go: &let_go, ..StepContext::default() };
    for state in [H::Deferred, H::Activating, H::Soaking] {
        let events = [opened(1), advanced(0, 1, 2), advanced(1, 1, 3), joined("a", 4)];
        let record = play(&plan, events.into_iter().chain([moved("a", H::Pending, state, reported(1), 5)])).0;
        assert!(try_step(&plan, &record, &terminal(9), 9).is_err(), "{state:?}");
        let ended = step(&plan, Some(&record), &terminal(9), 9, &context).unwrap().record;
        assert_eq!(ended.state, RolloutState::Terminal);
        assert_eq!(excuse_of(&ended, "a"), Some(Excuse::Skipped), "{state:?}");
    }
    // Who is let go before its wave is done is excused with it.
    let events = [opened(1), joined("a", 2), moved("a", H::Pending, H::Deferred, reported(1), 3)];
    let record = play(&plan, events).0;
    let record = step(&plan, Some(&record), &advanced(0, 1, 4), 4, &context).unwrap().record;
    assert_eq!(excuse_of(&record, "a"), Some(Excuse::Skipped));
}

#[test]
fn late_host_is_dispatched_and_no_longer_excused() {
    let record = record_in(RolloutState::Terminal);
    let plan = plan(0);
    assert_eq!(excuse_of(&record, "c"), Some(Excuse::Offline));
    let late = try_step(&plan, &record, &joined("c", 50), 50).unwrap();
    assert_eq!(late.effects, dispatch("c", "v2", 1, 50));
    assert_eq!((excuse_of(&late.record, "c"), late.record.state), (None, RolloutState::Terminal));
    let converged = moved("c", H::Pending, H::Converged, reported(1), 60);
    let done = try_step(&plan, &late.record, &converged, 60).unwrap();
    assert_eq!((done.record.hosts[&host("c")].state, done.effects.len()), (H::Converged, 0));
}

#[test]
fn late_host_that_fails_does_not_hold_the_end() {
    let plan = plan(1);
    let events = [opened(1), advanced(0, 1, 2), advanced(1, 1, 3), joined("a", 4), failed("a", reported(1))];
    let record = play(&plan, events).0;
    let ended = try_step(&plan, &record, &terminal(9), 9).unwrap().record;
    assert_eq!(excuse_of(&ended, "a"), Some(Excuse::WithinMaxFailures));
}

#[test]
fn clearance_excuses_the_failures_so_far_and_counts_anew() {
    let plan = plan(0);
    let (record, effects) = play(
        &plan,
        [
            opened(1),
            joined("a", 2),
            joined("b", 2),
            failed("a", reported(3)),
            cleared(6),
            failed("b", reported(4)),
        ],
    );
    assert_eq!(record.state, RolloutState::Failed, "the next failure ends it again");
    assert!(record.is_cleared(&host("a")) && !record.is_cleared(&host("b")));
    assert_eq!(record.failures(), 1);
    let quarantines =
        effects.iter().filter(|effect| matches!(effect, Effect::InsertQuarantineFromRollout { .. }));
    assert_eq!(quarantines.count(), 1, "one closure, one decision");
    assert_eq!(dispatches(&effects), 2);
}

#[test]
fn node_without_a_log_sees_the_rollout_by_its_certified_decisions() {
    let mut rollouts = BTreeMap::new();
    let mut observe = |to, wave, index: u64| {
        let secs = i64::try_from(index).unwrap();
        Record::observe(&mut rollouts, &rollout(), to, wave, at(secs), index);
        rollouts[&rollout()].clone()
    };
    observe(RolloutState::Active, 0, 5);
    let early = observe(RolloutState::Opening, 0, 3);
    assert_eq!((early.state, early.opened_log_index, early.opened_at), (RolloutState::Active, 3, at(3)));
    assert_eq!(observe(RolloutState::Active, 1, 8).current_wave, 1);
    let mut ended = observe(RolloutState::Terminal, 1, 9);
    assert_eq!((ended.state, ended.terminal_at), (RolloutState::Terminal, Some(at(9))));
    let dispatch = DecisionBody::Dispatch {
        host: host("a"),
        rollout_id: rollout(),
        target_closure: closure("v2"),
        wave: 0,
        soak_due_at: at(100),
        soak_secs: SOAK_SECS,
        not_after: at(640),
    };
    ended.dispatched(&host("a"), &dispatch, 12);
    ended.dispatched(&host("a"), &dispatch, 11);
    assert_eq!(ended.hosts[&host("a")].dispatch, Some(12));
}
