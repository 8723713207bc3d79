//! What a coordinator says to each kind of decision: it signs what its own evidence bears out, waits for evidence that
//! may still come, and objects for good to what its evidence speaks against.

use chrono::TimeDelta;
use muster_core::coordination::approval::Judgement;
use muster_core::id::RolloutId;
use muster_core::ledger::Derived;
use muster_core::wire::{
    Cause, DecisionBody, DecisionId, EnvelopeRef, HostState, LogStatement, RolloutEvent, RolloutState,
};
use muster_signing::Digest;
use serde_json::{Value, json};

use crate::kit::*;

const HOSTS: [&str; 4] = ["h1", "h2", "h3", "h4"];

fn waves() -> Value {
    json!({ "waves": [
        { "selector": { "hosts": ["h1"] }, "soakSeconds": 0 },
        { "selector": { "all": true }, "soakSeconds": 0 },
    ] })
}

fn story_of(policy: Value) -> (Story, RolloutId) {
    let mut story = Story::as_host("h3", fleet_of(&HOSTS, policy));
    let id = story.release("v1");
    (story, id)
}

/// The decision of the newest rollout transition that follows from these.
fn transition(derived: Vec<Derived>, to: RolloutState) -> Derived {
    let is_it = |it: &Derived| matches!(it.decision.body, DecisionBody::RolloutTransition { to: now, .. } if now == to);
    derived.into_iter().find(is_it).unwrap()
}

fn nowhere(seq: u64) -> Cause {
    Cause::Reported { envelope: EnvelopeRef { incarnation: 1, seq, hash: Digest([7; 32]) } }
}

#[track_caller]
fn waits(judgement: Judgement, fragment: &str) {
    assert!(matches!(&judgement, Judgement::Wait(why) if why.contains(fragment)), "{judgement:?}");
}

#[track_caller]
fn objects(judgement: Judgement, fragment: &str) {
    assert!(matches!(&judgement, Judgement::Object(why) if why.contains(fragment)), "{judgement:?}");
}

#[test]
fn a_dispatch_that_every_gate_admits_is_signed() {
    let (mut story, id) = story_of(waves());
    let derived = story.join(&id, "h1");
    assert_eq!(story.judges(&derived), Judgement::Endorse);
}

#[test]
fn a_dispatch_into_a_later_wave_is_not_signed_whatever_the_log_claims() {
    let (mut story, id) = story_of(waves());
    story.join(&id, "h1");
    story.claims(&id, "h1", HostState::Converged, nowhere(9));
    let advanced =
        RolloutEvent::WaveAdvanced { rollout_id: id.clone(), from_wave: 0, to_wave: 1, at: story.now };
    story.says(vec![advanced]);
    assert_eq!(story.ledger.rollouts()[&id].current_wave, 1);
    let derived = story.join(&id, "h4");
    waits(story.judges(&derived), "wave 1 is not done");
    story.converges("h1", &id);
    assert_eq!(story.judges(&derived), Judgement::Endorse);
}

#[test]
fn of_two_dispatches_into_a_full_budget_none_is_signed() {
    let mut fleet = fleet_of(&HOSTS, all_at_once());
    fleet["disruptionBudgets"] = json!([{ "selector": { "all": true }, "maxInFlight": 1 }]);
    let mut story = Story::as_host("h3", fleet);
    let id = story.release("v1");
    let (first, second) = (story.join(&id, "h1"), story.join(&id, "h2"));
    waits(story.judges(&first), "budget 1 is full");
    waits(story.judges(&second), "budget 1 is full");
    story.rejects("h2", &id);
    assert_eq!(story.judges(&first), Judgement::Endorse);
}

#[test]
fn a_dispatch_is_refused_for_good_under_a_pause_a_quarantine_or_a_wrong_clock() {
    type Act<'a> = &'a dyn Fn(&mut Story, &RolloutId, &mut Derived);
    let table: [(&str, Act<'_>); 7] = [
        ("paused by an operator", &|story, _, _| {
            story.accept_command(&json!({ "verb": "pause", "channel": "stable" }));
        }),
        ("went back from this closure", &|story, id, _| {
            story.join(id, "h4");
            story.reverts("h4", id);
        }),
        ("too late", &|story, _, _| {
            story.pass(601);
            story.everybody_speaks();
        }),
        ("ahead of this coordinator's clock", &|story, _, _| story.now -= TimeDelta::seconds(31)),
        ("before the entry ahead of it", &|_, _, derived| derived.time_went_back = true),
        ("signed another closure", &|_, _, derived| {
            let DecisionBody::Dispatch { target_closure, .. } = &mut derived.decision.body else { panic!() };
            *target_closure = closure("evil");
        }),
        ("the log gave it up", &|story, _, derived| {
            let DecisionId { log_index, ordinal } = derived.decision.id();
            story.entry(LogStatement::Withdrawn { log_index, ordinal });
        }),
    ];
    for (why, act) in table {
        let (mut story, id) = story_of(with(all_at_once(), &[("/healthGate", json!({ "maxFailures": 3 }))]));
        let mut derived = story.join(&id, "h1");
        assert_eq!(story.judges(&derived), Judgement::Endorse, "{why}");
        act(&mut story, &id, &mut derived);
        objects(story.judges(&derived), why);
    }
}

#[test]
fn a_host_is_not_dispatched_again_while_its_first_dispatch_may_still_be_acted_on() {
    let (mut story, id) = story_of(all_at_once());
    let first = story.join(&id, "h1");
    let DecisionId { log_index, ordinal } = first.decision.id();
    story.entry(LogStatement::Withdrawn { log_index, ordinal });
    let second = story.join(&id, "h1");
    waits(story.judges(&second), "still stands");
    story.rejects_index("h1", &id, log_index);
    assert_eq!(story.judges(&second), Judgement::Endorse);
}

#[test]
fn a_wave_that_is_not_done_is_not_signed_as_done_even_if_the_rollout_is_claimed_to_be_over() {
    let (mut story, id) = story_of(waves());
    story.join(&id, "h1");
    story.claims(&id, "h1", HostState::Converged, nowhere(9));
    let at = story.now;
    let advanced = RolloutEvent::WaveAdvanced { rollout_id: id.clone(), from_wave: 0, to_wave: 1, at };
    let derived = story.says(vec![advanced]).remove(0);
    waits(story.judges(&derived), "wave 1 is not done");
    let successor = rollout("stable@v2");
    let over = RolloutEvent::SuccessorOpened {
        superseded_rollout_id: id.clone(),
        successor_rollout_id: successor,
        at,
    };
    story.says(vec![over]);
    objects(story.judges(&derived), "wave 1 is not done");
    story.converges("h1", &id);
    assert_eq!(story.judges(&derived), Judgement::Endorse);
}

#[test]
fn terminal_is_not_signed_while_a_host_is_under_way_or_waits_for_its_reboot() {
    let (mut story, id) = story_of(all_at_once());
    for name in HOSTS {
        story.join(&id, name);
        story.claims(&id, name, HostState::Converged, nowhere(9));
    }
    let at = story.now;
    let derived = story.says(vec![
        RolloutEvent::WaveAdvanced { rollout_id: id.clone(), from_wave: 0, to_wave: 0, at },
        RolloutEvent::RolloutTerminal { rollout_id: id.clone(), at },
    ]);
    assert_eq!(story.ledger.rollouts()[&id].state, RolloutState::Terminal);
    let terminal = transition(derived, RolloutState::Terminal);
    waits(story.judges(&terminal), "wave 1 is not done");
    for name in ["h1", "h2", "h3"] {
        story.converges(name, &id);
    }
    story.defers("h4", &id);
    waits(story.judges(&terminal), "h4 waits for its reboot");
    story.completes("h4", &id);
    waits(story.judges(&terminal), "wave 1 is not done");
    let declared_at = story.now;
    let probes = Vec::new();
    story.reports("h4", &id, muster_core::wire::HostEventKind::ProbeTopologyDeclared { probes, declared_at });
    story.settles("h4", &id);
    assert_eq!(story.judges(&terminal), Judgement::Endorse);
}

#[test]
fn a_closure_on_which_nobody_failed_is_not_quarantined() {
    let (mut story, id) = story_of(all_at_once());
    let dispatched = story.join(&id, "h1");
    story.certify(&dispatched);
    let derived = story.claims(&id, "h1", HostState::Failed, nowhere(2));
    let quarantine = derived.iter().find(|it| it.decision.body.name() == "Quarantine").unwrap().clone();
    let failed = transition(derived, RolloutState::Failed);
    for decision in [&quarantine, &failed] {
        waits(story.judges(decision), "not held up to 2");
    }
    story.acks("h1", &id);
    for decision in [&quarantine, &failed] {
        waits(story.judges(decision), "not held up to 2");
    }
    story.completes("h1", &id);
    for decision in [&quarantine, &failed] {
        objects(story.judges(decision), "says nothing of it");
    }
    let declared_at = story.now;
    let probes = Vec::new();
    story.reports("h1", &id, muster_core::wire::HostEventKind::ProbeTopologyDeclared { probes, declared_at });
    story.settles("h1", &id);
    for decision in [&quarantine, &failed] {
        objects(story.judges(decision), "h1 converged");
    }
}

#[test]
fn a_failed_host_bears_out_the_failure_of_its_rollout_and_the_quarantine() {
    let (mut story, id) = story_of(all_at_once());
    story.join(&id, "h1");
    let envelope = story.fails("h1", &id);
    let derived = story.claims(&id, "h1", HostState::Failed, Cause::Reported { envelope });
    let quarantine = derived.iter().find(|it| it.decision.body.name() == "Quarantine").unwrap().clone();
    let failed = transition(derived, RolloutState::Failed);
    assert_eq!(story.judges(&quarantine), Judgement::Endorse);
    assert_eq!(story.judges(&failed), Judgement::Endorse);
    // Also for one who judges late, after an operator has cleared the rollout.
    story.command(&json!({ "verb": "clear", "rollout": id.to_string() }));
    story.plan();
    assert_eq!(story.ledger.rollouts()[&id].state, RolloutState::Active);
    assert_eq!(story.judges(&failed), Judgement::Endorse);
}

#[test]
fn a_rollout_within_what_may_fail_is_neither_failed_nor_its_closure_quarantined() {
    let (mut story, id) = story_of(with(all_at_once(), &[("/healthGate", json!({ "maxFailures": 1 }))]));
    for name in ["h1", "h2"] {
        story.join(&id, name);
    }
    let envelope = story.fails("h1", &id);
    story.claims(&id, "h2", HostState::Failed, nowhere(2));
    let derived = story.claims(&id, "h1", HostState::Failed, Cause::Reported { envelope });
    for decision in derived {
        waits(story.judges(&decision), "1 hosts failed");
    }
}

#[test]
fn a_host_that_fell_silent_is_lost_by_each_coordinators_own_ears() {
    let (mut story, id) = story_of(all_at_once());
    story.join(&id, "h1");
    let failed = transition(story.claims(&id, "h1", HostState::Failed, Cause::Lost), RolloutState::Failed);
    waits(story.judges(&failed), "0 hosts failed");
    story.pass(3600);
    assert_eq!(story.judges(&failed), Judgement::Endorse);
}

#[test]
fn the_log_cannot_cancel_or_clear_what_no_operator_did_and_no_order_counts_twice() {
    let (mut story, id) = story_of(all_at_once());
    let at = story.now;
    let cancelled = || RolloutEvent::RolloutCancelled {
        rollout_id: id.clone(),
        operator: "alice".parse().unwrap(),
        reason: "because".to_owned(),
        at,
    };
    let cleared = || RolloutEvent::OperatorClearance {
        rollout_id: id.clone(),
        operator: "alice".parse().unwrap(),
        reason: "because".to_owned(),
        at,
    };
    assert!(story.says(vec![cancelled()]).is_empty());
    assert!(story.alarms()[0].contains("no command that counts"));
    story.accept_command(&json!({ "verb": "cancel", "rollout": id.to_string() }));
    assert!(story.says(vec![cancelled()]).is_empty(), "accepted is not adopted");
    story.plan();
    assert_eq!(story.ledger.rollouts()[&id].state, RolloutState::Failed);
    story.command(&json!({ "verb": "clear", "rollout": id.to_string() }));
    let derived = story.says(vec![cleared()]);
    assert_eq!(story.judges(&transition(derived, RolloutState::Active)), Judgement::Endorse);
    assert!(story.says(vec![cancelled()]).is_empty(), "the order was carried out");
    assert_eq!(story.ledger.rollouts()[&id].state, RolloutState::Active);
}

#[test]
fn the_log_opens_no_rollout_but_that_of_the_newest_ref_of_the_newest_fleet_document() {
    let (mut story, old) = story_of(all_at_once());
    let at = story.now;
    let opened = |id: &RolloutId| RolloutEvent::RolloutOpened {
        rollout_id: id.clone(),
        channel: id.channel(),
        target_ref: id.target_ref(),
        at,
    };
    story.publish("stable", "v2", &[]);
    let id = rollout("stable@v2");
    assert!(story.says(vec![opened(&id)]).is_empty(), "it is not adopted");
    story.changed_fleet(&[]);
    story.plan();
    assert!(!story.ledger.rollouts().contains_key(&id), "it names an older fleet document");
    assert!(story.says(vec![opened(&id)]).is_empty());
    assert!(story.ledger.rollouts()[&old].state.is_open());
}

#[test]
fn a_withdrawal_is_signed_once_the_host_can_act_no_more() {
    let (mut story, id) = story_of(all_at_once());
    let DecisionId { log_index, ordinal } = story.join(&id, "h1").decision.id();
    let derived = story.entry(LogStatement::Withdrawn { log_index, ordinal }).decisions.remove(0);
    waits(story.judges(&derived), "h1 may still act");
    story.pass(601);
    waits(story.judges(&derived), "h1 may still act");
    story.speaks("h1");
    assert_eq!(story.judges(&derived), Judgement::Endorse);
}
