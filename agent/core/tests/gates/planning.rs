//! What the elected coordinator proposes, in which order, and that it comes to rest.

use std::collections::BTreeSet;

use muster_core::coordination::approval::Judgement;
use muster_core::id::RolloutId;
use muster_core::planner;
use muster_core::wire::{
    Cause, DocumentKind, EnvelopeRef, HostEventKind, HostState, LogStatement, RolloutEvent, RolloutState,
};
use muster_signing::sha256;
use serde_json::{Value, json};

use crate::kit::*;

const HOSTS: [&str; 4] = ["h1", "h2", "h3", "h4"];

fn events(statements: &[LogStatement]) -> Vec<&RolloutEvent> {
    let batches = statements.iter().filter_map(|statement| match statement {
        LogStatement::Rollout { events } => Some(events),
        LogStatement::DocumentAdopted { .. }
        | LogStatement::RulesRaised { .. }
        | LogStatement::Withdrawn { .. }
        | LogStatement::SnapshotAsked {} => None,
    });
    batches.flatten().collect()
}

fn kinds(statements: &[LogStatement]) -> Vec<&'static str> {
    events(statements).into_iter().map(RolloutEvent::kind).collect()
}

fn joined(statements: &[LogStatement]) -> Vec<String> {
    let mut hosts = Vec::new();
    for event in events(statements) {
        if let RolloutEvent::HostJoined { host_id, .. } = event {
            hosts.push(host_id.to_string());
        }
    }
    hosts
}

fn state(story: &Story, id: &RolloutId) -> RolloutState {
    story.ledger.rollouts()[id].state
}

fn named(name: &str) -> RolloutId {
    rollout(&format!("stable@{name}"))
}

/// A story in which nothing but the first fleet document is adopted.
fn story_of(policy: Value) -> Story {
    Story::as_host("h3", fleet_of(&HOSTS, policy))
}

#[test]
fn documents_are_adopted_before_anything_else_and_each_once() {
    let mut story = story_of(all_at_once());
    let fleet = story.accept_fleet(story.fleet.clone());
    let newest = story.publish("stable", "v1", &[]);
    let pause = story.accept_command(&json!({ "verb": "pause", "host": "h2" }));
    let proposal = story.proposal();
    let adopted: Vec<_> = proposal
        .iter()
        .map_while(|statement| match statement {
            LogStatement::DocumentAdopted { kind, hash, .. } => Some((*kind, *hash)),
            LogStatement::Rollout { .. }
            | LogStatement::RulesRaised { .. }
            | LogStatement::Withdrawn { .. }
            | LogStatement::SnapshotAsked {} => None,
        })
        .collect();
    assert_eq!(kinds(&proposal[adopted.len()..]), ["RolloutOpened"]);
    let (kind, reference, command) = (DocumentKind::Fleet, DocumentKind::ChannelRef, DocumentKind::Command);
    assert_eq!(adopted, [(kind, fleet), (reference, newest), (command, pause)]);
    let all = story.plan();
    let adoptions = all.iter().filter(|it| matches!(it, LogStatement::DocumentAdopted { .. })).count();
    assert_eq!(adoptions, 3);
    assert_eq!(joined(&all), ["h1", "h3", "h4"]);
    assert!(story.proposal().is_empty());
}

#[test]
fn an_expired_command_is_not_adopted() {
    let mut story = story_of(all_at_once());
    let ends =
        (story.now + chrono::TimeDelta::seconds(5)).to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    story.accept_command(&json!({ "verb": "skip", "host": "h2", "expiresAt": ends }));
    assert_eq!(story.proposal().len(), 1);
    story.pass(5);
    assert!(story.proposal().is_empty());
}

#[test]
fn a_predecessor_closes_before_its_successor_opens_and_only_the_newest_ref_opens() {
    let mut story = story_of(all_at_once());
    story.publish("stable", "v1", &[]);
    story.plan();
    for name in ["v2", "v3"] {
        story.publish("stable", name, &[]);
    }
    let all = story.plan();
    assert_eq!(kinds(&all)[..2], ["SuccessorOpened", "RolloutOpened"]);
    assert_eq!(state(&story, &named("v1")), RolloutState::Superseded);
    assert!(!story.ledger.rollouts().contains_key(&named("v2")));
    assert!(story.ledger.rollouts().contains_key(&named("v3")));
    assert!(joined(&all).is_empty(), "everybody is still dispatched into v1");
}

#[test]
fn a_ref_of_an_older_fleet_document_opens_nothing() {
    let mut story = story_of(all_at_once());
    story.publish("stable", "v1", &[]);
    story.accept_fleet(story.fleet.clone());
    let all = story.plan();
    assert!(events(&all).is_empty(), "{all:?}");
    story.publish("stable", "v2", &[]);
    story.plan();
    assert!(story.ledger.rollouts().contains_key(&named("v2")));
}

#[test]
fn a_release_goes_wave_by_wave_to_its_end() {
    let mut story = story_of(one_by_one(&HOSTS));
    story.publish("stable", "v1", &[]);
    let id = named("v1");
    assert_eq!(joined(&story.plan()), ["h1"]);
    for (name, next) in [("h1", vec!["h2"]), ("h2", vec!["h3"]), ("h3", vec!["h4"]), ("h4", vec![])] {
        assert_eq!(state(&story, &id), RolloutState::Active);
        story.converges(name, &id);
        assert_eq!(joined(&story.plan()), next);
    }
    assert_eq!(state(&story, &id), RolloutState::Terminal);
    assert!(story.ledger.slots().hosts().next().is_none());
}

/// A rollout whose first three hosts have converged, and whose last one waits for its reboot.
fn waiting_for_h4(policy: Value) -> (Story, RolloutId) {
    let mut story = story_of(policy);
    story.publish("stable", "v1", &[]);
    story.plan();
    let id = named("v1");
    for name in ["h1", "h2", "h3"] {
        story.converges(name, &id);
    }
    story.defers("h4", &id);
    story.plan();
    assert_eq!(state(&story, &id), RolloutState::Converging);
    (story, id)
}

#[test]
fn rollout_ends_without_a_host_that_was_let_go_while_it_waited_for_its_reboot() {
    type LetGo = fn(&mut Story);
    let ways: [(&str, LetGo); 3] = [
        ("skipped", |story| {
            story.accept_command(&json!({ "verb": "skip", "host": "h4" }));
        }),
        ("skipped in this rollout", |story| {
            story.accept_command(&json!({ "verb": "skip", "host": "h4", "rollout": "stable@v1" }));
        }),
        ("taken out of the fleet", |story| {
            let mut fleet = story.fleet.clone();
            fleet["hosts"].as_object_mut().unwrap().remove("h4");
            story.accept_fleet(fleet);
        }),
    ];
    for (way, let_go) in ways {
        let (mut story, id) = waiting_for_h4(all_at_once());
        let_go(&mut story);
        story.plan();
        assert_eq!(state(&story, &id), RolloutState::Terminal, "{way}");
        let last = story.derived.last().unwrap();
        assert_eq!(story.judges(last), Judgement::Endorse, "{way}");
    }
}

#[test]
fn rollout_ends_without_a_host_that_told_two_stories_while_it_waited_for_its_reboot() {
    let policy = with(all_at_once(), &[("/healthGate", json!({ "maxFailures": 1 }))]);
    let (mut story, id) = waiting_for_h4(policy);
    let (_, head) = story.ledger.feed(&host("h4")).unwrap().heads().last().unwrap();
    let kind = HostEventKind::RollbackComplete {
        reverted_to_closure: closure("v0"),
        exit_code: 0,
        completed_at: story.now,
    };
    let body = story.event("h4", &id, kind);
    let second = story.envelope_at("h4", (1, head.seq + 1, sha256(b"another story")), body);
    assert!(story.takes(&second).is_err());
    assert_eq!(kinds(&story.plan()), ["HostStateChanged", "RolloutTerminal"]);
    assert_eq!(state(&story, &id), RolloutState::Terminal);
}

#[test]
fn within_one_batch_a_budget_is_not_exceeded() {
    let mut fleet = fleet_of(&HOSTS, all_at_once());
    fleet["disruptionBudgets"] = json!([{ "selector": { "all": true }, "maxInFlight": 2 }]);
    let mut story = Story::as_host("h3", fleet);
    story.publish("stable", "v1", &[]);
    assert_eq!(joined(&story.plan()), ["h1", "h2"]);
    story.converges("h1", &named("v1"));
    assert_eq!(joined(&story.plan()), ["h3"]);
}

#[test]
fn a_dispatch_that_came_to_nothing_is_withdrawn_once_and_then_made_anew_unless_the_host_is_held_back() {
    let mut story = story_of(one_by_one(&["h1", "h2", "h3", "h4"]));
    story.publish("stable", "v1", &[]);
    story.plan();
    story.rejects("h1", &named("v1"));
    let hold = BTreeSet::from([host("h1")]);
    let held = planner::propose(&story.view(), &hold, story.now);
    assert!(matches!(held[..], [LogStatement::Withdrawn { .. }]), "{held:?}");
    let all = story.plan();
    assert_eq!(all.iter().filter(|it| matches!(it, LogStatement::Withdrawn { .. })).count(), 1);
    assert_eq!(joined(&all), ["h1"]);
    story.rejects("h1", &named("v1"));
    story.plan();
    assert_eq!(state(&story, &named("v1")), RolloutState::Failed, "it refused twice");
}

#[test]
fn a_host_that_was_offline_is_dispatched_into_the_newest_rollout_when_it_returns() {
    let mut story = story_of(all_at_once());
    story.pass(91);
    for name in ["h1", "h2"] {
        story.speaks(name);
    }
    story.publish("stable", "v1", &[]);
    assert_eq!(joined(&story.plan()), ["h1", "h2", "h3"]);
    for name in ["h1", "h2", "h3"] {
        story.converges(name, &named("v1"));
    }
    story.plan();
    assert_eq!(state(&story, &named("v1")), RolloutState::Terminal);
    story.speaks("h4");
    assert_eq!(joined(&story.plan()), ["h4"]);
    assert_eq!(state(&story, &named("v1")), RolloutState::Terminal);
    story.converges("h4", &named("v1"));
    story.plan();
    assert_eq!(story.ledger.rollouts()[&named("v1")].hosts[&host("h4")].state, HostState::Converged);
}

#[test]
fn a_late_host_passes_all_gates_too() {
    let mut story = story_of(all_at_once());
    story.pass(91);
    story.publish("stable", "v1", &[]);
    assert_eq!(joined(&story.plan()), ["h3"]);
    story.converges("h3", &named("v1"));
    story.plan();
    assert_eq!(state(&story, &named("v1")), RolloutState::Terminal);
    story.accept_command(&json!({ "verb": "pause", "channel": "stable" }));
    story.everybody_speaks();
    assert!(joined(&story.plan()).is_empty());
}

#[test]
fn a_cancellation_and_a_clearance_are_proposed_once_each() {
    let mut story = story_of(all_at_once());
    story.publish("stable", "v1", &[]);
    story.plan();
    story.accept_command(&json!({ "verb": "cancel", "rollout": "stable@v1" }));
    assert_eq!(kinds(&story.plan()), ["RolloutCancelled"]);
    assert_eq!(state(&story, &named("v1")), RolloutState::Failed);
    assert!(story.proposal().is_empty());
    story.accept_command(&json!({ "verb": "clear", "rollout": "stable@v1" }));
    assert_eq!(kinds(&story.plan()), ["OperatorClearance"]);
    assert_eq!(state(&story, &named("v1")), RolloutState::Active);
    story.fails("h1", &named("v1"));
    story.plan();
    assert_eq!(state(&story, &named("v1")), RolloutState::Failed, "the clearance was used up");
}

#[test]
fn a_host_that_was_lost_and_then_says_why_is_explained() {
    let mut story = story_of(all_at_once());
    story.publish("stable", "v1", &[]);
    story.plan();
    story.pass(3600);
    for name in ["h2", "h4"] {
        story.speaks(name);
    }
    story.plan();
    let entry = &story.ledger.rollouts()[&named("v1")].hosts[&host("h1")];
    assert_eq!(entry.cause, Some(Cause::Lost));
    let envelope = story.fails("h1", &named("v1"));
    story.plan();
    let entry = &story.ledger.rollouts()[&named("v1")].hosts[&host("h1")];
    assert_eq!(entry.cause, Some(Cause::Reported { envelope }));
}

#[test]
fn what_a_leader_claimed_and_no_feed_bears_out_is_taken_back() {
    let mut story = story_of(all_at_once());
    story.publish("stable", "v1", &[]);
    story.plan();
    let id = named("v1");
    let state_of = |story: &Story, name: &str| story.ledger.rollouts()[&id].hosts[&host(name)].state;
    let said = story.acks("h1", &id);
    let forged = |seq| Cause::Reported { envelope: EnvelopeRef { seq, ..said } };
    story.claims(&id, "h1", HostState::Converged, forged(said.seq));
    story.claims(&id, "h2", HostState::Converged, forged(said.seq + 7));
    story.plan();
    assert_eq!(
        state_of(&story, "h1"),
        HostState::Activating,
        "the envelope that was named says something else"
    );
    assert_eq!(state_of(&story, "h2"), HostState::Converged, "the envelope that was named may still come");
    story.pass(1);
    story.speaks("h2");
    story.plan();
    assert_eq!(state_of(&story, "h2"), HostState::Pending, "there was no such envelope");
}

#[test]
fn a_skipped_host_is_never_dispatched() {
    let mut story = story_of(all_at_once());
    story.accept_command(&json!({ "verb": "skip", "host": "h2" }));
    story.publish("stable", "v1", &[]);
    assert_eq!(joined(&story.plan()), ["h1", "h3", "h4"]);
    for name in ["h1", "h3", "h4"] {
        story.converges(name, &named("v1"));
    }
    story.plan();
    assert_eq!(state(&story, &named("v1")), RolloutState::Terminal);
}

#[test]
fn two_refs_of_one_place_open_nothing_until_a_greater_serial_comes() {
    let mut story = story_of(all_at_once());
    let one = story.ref_document("stable", "v1", &[]);
    let other = with(one.clone(), &[("/ref", "v1b".into())]);
    let sign = |document: &Value| signed(muster_signing::Namespace::ChannelRef, document);
    story.accept(&sign(&one)).unwrap();
    let refusal = story.accept(&sign(&other)).unwrap_err();
    assert!(story.ledger.keep_equivocation(&refusal).is_some());
    assert!(story.ledger.keep_equivocation(&refusal).is_none());
    assert!(story.plan().is_empty());
    story.publish("stable", "v2", &[]);
    story.plan();
    assert!(story.ledger.rollouts().contains_key(&named("v2")));
}
