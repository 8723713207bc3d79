//! The budget gate: whose slots count, and what frees one.

use chrono::TimeDelta;
use muster_core::gate::{Gate, Reason};
use muster_core::id::RolloutId;
use muster_core::wire::HostEventKind;
use serde_json::{Value, json};

use crate::kit::*;

const HOSTS: [&str; 4] = ["h1", "h2", "h3", "h4"];

fn budget(limit: Value) -> Value {
    let mut fleet = fleet_of(&HOSTS, with(all_at_once(), &[("/healthGate", json!({ "maxFailures": 9 }))]));
    let mut budget = json!({ "selector": { "hosts": ["h1", "h2", "h3"] } });
    budget.as_object_mut().unwrap().extend(limit.as_object().unwrap().clone());
    fleet["disruptionBudgets"] = json!([budget]);
    fleet
}

/// At most one of h1, h2 and h3 at once; h1 is dispatched.
fn one_taken() -> (Story, RolloutId) {
    let mut story = Story::as_host("h4", budget(json!({ "maxInFlight": 1 })));
    let id = story.release("v1");
    story.join(&id, "h1");
    (story, id)
}

fn full(limit: usize, in_flight: &[&str]) -> Reason {
    Reason::BudgetFull { budget: 1, limit, in_flight: in_flight.iter().map(|name| host(name)).collect() }
}

#[test]
fn a_dispatch_takes_a_slot_from_others_and_never_from_its_own_host() {
    let (story, id) = one_taken();
    blocked(story.asks(Gate::Budget, &id, "h2"), full(1, &["h1"]));
    admitted(story.asks(Gate::Budget, &id, "h1"));
    admitted(story.asks(Gate::Budget, &id, "h4"));
    assert!(!story.admit(&id, "h2").unwrap_err().is_against());
}

#[test]
fn percentages_round_down_to_at_least_one_and_the_smaller_limit_holds() {
    for (limit, allowed) in [
        (json!({ "maxInFlight": 2 }), 2),
        (json!({ "maxInFlightPct": 67 }), 2),
        (json!({ "maxInFlightPct": 66 }), 1),
        (json!({ "maxInFlightPct": 1 }), 1),
        (json!({ "maxInFlight": 1, "maxInFlightPct": 100 }), 1),
        (json!({ "maxInFlight": 3, "maxInFlightPct": 67 }), 2),
    ] {
        let mut story = Story::as_host("h4", budget(limit.clone()));
        let id = story.release("v1");
        for name in &HOSTS[..allowed] {
            admitted(story.asks(Gate::Budget, &id, name));
            story.join(&id, name);
        }
        blocked(story.asks(Gate::Budget, &id, HOSTS[allowed]), full(allowed, &HOSTS[..allowed]));
    }
}

/// Something that happens after h1 was dispatched.
type Act<'a> = &'a dyn Fn(&mut Story, &RolloutId);

/// Each of these alone frees the slot of h1 for h2, or none does.
#[track_caller]
fn frees(free: bool, table: &[(&str, Act<'_>)]) {
    for (what, act) in table {
        let (mut story, id) = one_taken();
        act(&mut story, &id);
        let answer = story.asks(Gate::Budget, &id, "h2");
        assert_eq!(answer, if free { Ok(()) } else { Err(full(1, &["h1"])) }, "{what}");
    }
}

#[test]
fn the_word_of_its_host_or_of_operators_or_of_enough_coordinators_frees_a_slot() {
    let table: [(&str, Act<'_>); 6] = [
        ("a: converged", &|story, id| {
            story.converges("h1", id);
        }),
        ("a: rolled back", &|story, id| {
            story.reverts("h1", id);
        }),
        ("b: rejected", &|story, id| {
            story.rejects("h1", id);
        }),
        ("c: expired by its presence", &|story, _| {
            story.pass(601);
            story.speaks("h1");
        }),
        ("d: objections of enough coordinators", &|story, id| {
            let decision = story.ledger.slots().of(&host("h1")).next().unwrap().decision;
            assert_eq!(story.ledger.rollouts()[id].hosts.len(), 1);
            story.void.insert(decision);
        }),
        ("e: skipped", &|story, _| {
            story.command(&json!({ "verb": "skip", "host": "h1" }));
        }),
    ];
    frees(true, &table);
}

#[test]
fn neither_silence_nor_time_that_has_passed_frees_a_slot_by_itself() {
    let table: [(&str, Act<'_>); 6] = [
        ("nothing at all", &|_, _| {}),
        ("not yet expired", &|story, _| {
            story.pass(600);
            story.speaks("h1");
        }),
        ("silence", &|story, _| story.pass(99_999)),
        ("expired by clocks of others alone", &|story, _| {
            story.pass(601);
            story.speaks("h2");
        }),
        ("acknowledged, then past its end", &|story, id| {
            story.acks("h1", id);
            story.pass(601);
            story.speaks("h1");
        }),
        ("a head that is not held here", &|story, _| {
            story.pass(601);
            story.speaks_as("h1", |presence| presence.head_seq = 3);
        }),
    ];
    frees(false, &table);
}

#[test]
fn a_host_that_is_not_done_keeps_its_slot_whatever_the_log_says() {
    let table: [(&str, Act<'_>); 5] = [
        ("soaking", &|story, id| story.soaks("h1", id)),
        ("deferred", &|story, id| {
            story.defers("h1", id);
        }),
        ("failed and not back", &|story, id| {
            story.fails("h1", id);
        }),
        ("a rollback that did not work", &|story, id| {
            story.fails("h1", id);
            let (reverted_to_closure, completed_at) = (closure("v1"), story.now);
            story.reports(
                "h1",
                id,
                HostEventKind::RollbackComplete { reverted_to_closure, exit_code: 1, completed_at },
            );
        }),
        ("withdrawn by the log alone", &|story, _| {
            let decision = story.ledger.slots().of(&host("h1")).next().unwrap().decision;
            let muster_core::wire::DecisionId { log_index, ordinal } = decision;
            story.entry(muster_core::wire::LogStatement::Withdrawn { log_index, ordinal });
        }),
    ];
    frees(false, &table);
}

#[test]
fn a_host_that_the_newest_adopted_fleet_document_lacks_holds_no_slot() {
    let (mut story, id) = one_taken();
    let mut fleet = story.fleet.clone();
    fleet["hosts"].as_object_mut().unwrap().remove("h1");
    fleet["disruptionBudgets"][0]["selector"] = json!({ "hosts": ["h2", "h3"] });
    story.accept_fleet(fleet);
    blocked(story.asks(Gate::Budget, &id, "h2"), full(1, &["h1"]));
    let held = story.ledger.documents().fleet().unwrap();
    let (serial, hash) = (held.serial, held.hash);
    story.adopt(muster_core::wire::DocumentKind::Fleet, serial, hash);
    admitted(story.asks(Gate::Budget, &id, "h2"));
}

#[test]
fn a_slot_counts_whichever_rollout_took_it() {
    let (mut story, old) = one_taken();
    story.fails("h1", &old);
    let id = story.release("v2");
    blocked(story.asks(Gate::Budget, &id, "h2"), full(1, &["h1"]));
    story.join(&id, "h1");
    story.converges("h1", &id);
    admitted(story.asks(Gate::Budget, &id, "h2"));
}

#[test]
fn the_budgets_of_the_newest_adopted_document_hold_beside_those_of_the_plan() {
    let mut story = Story::as_host("h4", budget(json!({ "maxInFlight": 3 })));
    let id = story.release("v1");
    story.join(&id, "h1");
    admitted(story.asks(Gate::Budget, &id, "h2"));
    let stricter = json!([{ "selector": { "hosts": ["h1", "h2"] }, "maxInFlight": 1 }]);
    story.changed_fleet(&[("/disruptionBudgets", stricter)]);
    blocked(story.asks(Gate::Budget, &id, "h2"), full(1, &["h1"]));
    admitted(story.asks(Gate::Budget, &id, "h3"));
    let looser = json!([{ "selector": { "hosts": ["h1", "h2"] }, "maxInFlight": 2 }]);
    story.changed_fleet(&[("/disruptionBudgets", looser)]);
    admitted(story.asks(Gate::Budget, &id, "h2"));
}

#[test]
fn those_about_to_be_dispatched_in_the_same_batch_count() {
    let mut story = Story::as_host("h4", budget(json!({ "maxInFlight": 1 })));
    let id = story.release("v1");
    story.tentative.insert(host("h3"));
    blocked(story.asks(Gate::Budget, &id, "h2"), full(1, &["h3"]));
    admitted(story.asks(Gate::Budget, &id, "h3"));
}

#[test]
fn a_refusal_of_one_dispatch_frees_no_other_of_the_same_entry() {
    let mut story = Story::as_host("h4", budget(json!({ "maxInFlight": 1 })));
    let old = story.release("v1");
    story.join(&old, "h4");
    story.converges("h4", &old);
    let id = story.release("v2");
    let at = story.now;
    let joined = |rollout_id: &RolloutId, name: &str| muster_core::wire::RolloutEvent::HostJoined {
        rollout_id: rollout_id.clone(),
        host_id: host(name),
        wave: 0,
        at,
    };
    story.says(vec![joined(&id, "h1"), joined(&id, "h2")]);
    story.rejects("h1", &id);
    blocked(story.asks(Gate::Budget, &id, "h3"), full(1, &["h2"]));
}

#[test]
fn going_back_from_a_later_release_takes_back_what_waited_for_a_reboot_and_its_slot() {
    let (mut story, id) = one_taken();
    story.defers("h1", &id);
    let next = story.release("v2");
    blocked(story.asks(Gate::Budget, &next, "h2"), full(1, &["h1"]));
    story.join(&next, "h1");
    story.reverts("h1", &next);
    admitted(story.asks(Gate::Budget, &next, "h2"));

    // A rollback that did not work takes nothing back, and neither does one of what came before.
    let (mut story, id) = one_taken();
    story.reverts("h1", &id);
    let next = story.release("v2");
    story.join(&next, "h1");
    story.defers("h1", &next);
    blocked(story.asks(Gate::Budget, &next, "h2"), full(1, &["h1"]));
}

#[test]
fn a_host_whose_clock_is_beyond_all_time_harms_nobody() {
    let (mut story, id) = one_taken();
    let log_index = story.ledger.record(&host("h1"), &id).unwrap().record.log_index;
    let received_at = chrono::DateTime::<chrono::Utc>::MAX_UTC;
    story.now = received_at - TimeDelta::days(400);
    let ack = HostEventKind::DispatchAck { current_closure_at_dispatch: None, received_at, log_index };
    story.reports("h1", &id, ack);
    story.now = start();
    blocked(story.asks(Gate::Budget, &id, "h2"), full(1, &["h1"]));
    assert!(story.admit(&id, "h4").is_ok());
    story.plan();
}
