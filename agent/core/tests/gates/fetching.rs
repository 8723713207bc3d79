//! Hosts that fetch their target ahead, and what becomes of those that cannot.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use muster_core::coordination::approval::Judgement;
use muster_core::gate::{Gate, Reason, WaveState, wave_state};
use muster_core::id::RolloutId;
use muster_core::planner;
use muster_core::view::{Failure, Standing};
use muster_core::wire::{Cause, HostState, LogStatement, RolloutEvent, RolloutState};
use serde_json::{Value, json};

use crate::kit::*;

/// The time that hosts have to fetch in.
const ALLOWED: u64 = 600;
const NEVER: Standing = Standing::Failed(Failure::NotFetched);

/// Two hosts, then the others; `max` may fail.
fn policy(max: u64) -> Value {
    json!({
        "waves": [
            { "selector": { "hosts": ["h1", "h2"] }, "soakSeconds": 0 },
            { "selector": { "all": true }, "soakSeconds": 0 },
        ],
        "healthGate": { "maxFailures": max },
        "fetchTimeoutSeconds": ALLOWED,
    })
}

fn story_of(max: u64) -> (Story, RolloutId) {
    let mut story = Story::as_host("h3", fleet_of(&["h1", "h2", "h3", "h4"], policy(max)));
    let id = story.release("v1");
    (story, id)
}

/// Time goes on, with heartbeats: these hosts hold what they are to fetch, or do not.
fn pass(story: &mut Story, secs: u64, lack: &[&str]) {
    let mut left = secs;
    loop {
        let step = left.min(30);
        story.pass(step);
        left -= step;
        for name in ["h1", "h2", "h3", "h4"] {
            says(story, name, !lack.contains(&name));
        }
        if left == 0 {
            return;
        }
    }
}

fn says(story: &mut Story, name: &str, holds: bool) {
    story.speaks_as(name, |presence| {
        presence.prefetches = true;
        presence.fetched = if holds { vec![closure("v1")] } else { Vec::new() };
    });
}

fn standing(story: &Story, id: &RolloutId, name: &str) -> Standing {
    story.view().standing(story.ledger.plan(id).unwrap(), &host(name), story.now)
}

fn events(statements: Vec<LogStatement>) -> Vec<RolloutEvent> {
    let batches = statements.into_iter().filter_map(|statement| match statement {
        LogStatement::Rollout { events } => Some(events),
        LogStatement::DocumentAdopted { .. }
        | LogStatement::RulesRaised { .. }
        | LogStatement::Withdrawn { .. }
        | LogStatement::SnapshotAsked {} => None,
    });
    batches.flatten().collect()
}

fn gives_up(event: &RolloutEvent, name: &str) -> bool {
    matches!(event, RolloutEvent::HostStateChanged { host_id, to: HostState::Failed, cause: Cause::NotFetched, .. }
        if *host_id == host(name))
}

#[test]
fn a_host_that_cannot_fetch_its_target_counts_as_failed_after_the_policys_time_and_not_before() {
    let (mut story, id) = story_of(0);
    let ends = story.now + TimeDelta::seconds(ALLOWED.cast_signed());
    pass(&mut story, ALLOWED - 1, &["h1"]);
    assert_eq!(standing(&story, &id, "h1"), Standing::Waiting);
    let said = story.asks(Gate::Fetched, &id, "h1").unwrap_err();
    assert_eq!(said, Reason::NotFetched { counts_as_failed_at: Some(ends) });
    assert_eq!(
        said.to_string(),
        "the host has not fetched its target yet; it counts as failed at 2026-11-21T10:11:00Z"
    );
    pass(&mut story, 1, &["h1"]);
    assert_eq!(standing(&story, &id, "h1"), NEVER);
    blocked(story.asks(Gate::Fetched, &id, "h1"), Reason::NeverFetched { secs: ALLOWED });
    says(&mut story, "h1", true);
    assert_eq!(standing(&story, &id, "h1"), Standing::Waiting, "late is better than never");
    admitted(story.asks(Gate::Fetched, &id, "h1"));
}

#[test]
fn nobody_counts_as_failed_before_its_turn_has_come() {
    let (mut story, id) = story_of(0);
    pass(&mut story, 10 * ALLOWED, &["h4"]);
    assert_eq!(standing(&story, &id, "h4"), Standing::Waiting);
    let unknown = Reason::NotFetched { counts_as_failed_at: None };
    blocked(story.asks(Gate::Fetched, &id, "h4"), unknown);
    let at = story.now;
    story.says(vec![RolloutEvent::WaveAdvanced { rollout_id: id.clone(), from_wave: 0, to_wave: 1, at }]);
    assert_eq!(standing(&story, &id, "h4"), NEVER, "it had its time meanwhile");
}

#[test]
fn a_host_that_was_away_has_its_time_from_its_return() {
    let (mut story, id) = story_of(0);
    story.pass(10 * ALLOWED);
    assert_eq!(standing(&story, &id, "h1"), Standing::Waiting, "it is offline, and excused as such");
    pass(&mut story, 0, &["h1"]);
    assert_eq!(standing(&story, &id, "h1"), Standing::Waiting);
    pass(&mut story, ALLOWED - 1, &["h1"]);
    assert_eq!(standing(&story, &id, "h1"), Standing::Waiting);
    pass(&mut story, 1, &["h1"]);
    assert_eq!(standing(&story, &id, "h1"), NEVER);
}

#[test]
fn an_agent_that_starts_again_has_time_to_look_at_what_it_fetched() {
    let (mut story, id) = story_of(0);
    pass(&mut story, 10 * ALLOWED, &[]);
    pass(&mut story, ALLOWED - 1, &["h1"]);
    assert_eq!(standing(&story, &id, "h1"), Standing::Waiting);
    pass(&mut story, 1, &["h1"]);
    assert_eq!(standing(&story, &id, "h1"), NEVER);
}

#[test]
fn a_rollout_that_nobody_can_fetch_fails_before_it_has_begun_and_quarantines_nothing() {
    let (mut story, id) = story_of(0);
    let nobody = ["h1", "h2", "h3", "h4"];
    pass(&mut story, ALLOWED - 1, &nobody);
    story.plan();
    assert_eq!(story.ledger.rollouts()[&id].state, RolloutState::Opening);
    pass(&mut story, 1, &nobody);
    let said = events(story.plan());
    assert!(gives_up(&said[0], "h1") && gives_up(&said[1], "h2") && said.len() == 2, "{said:?}");
    let record = &story.ledger.rollouts()[&id];
    assert_eq!((record.state, record.quarantined.len()), (RolloutState::Failed, 0));
}

#[test]
fn a_wave_goes_on_without_a_host_that_may_fail_and_takes_it_in_when_it_holds_its_target() {
    let (mut story, id) = story_of(1);
    pass(&mut story, 30, &["h1"]);
    story.plan();
    story.converges("h2", &id);
    let wave = |story: &Story| wave_state(&story.view(), story.ledger.plan(&id).unwrap(), 0, story.now);
    assert_eq!(wave(&story), WaveState::Open(Reason::WaveNotDone { wave: 1, hosts: vec![host("h1")] }));
    pass(&mut story, ALLOWED, &["h1"]);
    assert_eq!(wave(&story), WaveState::Done);
    let said = events(story.plan());
    assert!(said.iter().any(|event| gives_up(event, "h1")), "{said:?}");
    let record = &story.ledger.rollouts()[&id];
    assert_eq!((record.state, record.current_wave), (RolloutState::Active, 1));
    says(&mut story, "h1", true);
    let proposed = events(planner::propose(&story.view(), &BTreeSet::new(), story.now));
    let joins = |event: &RolloutEvent| matches!(event, RolloutEvent::HostJoined { host_id, .. } if *host_id == host("h1"));
    assert!(proposed.iter().any(joins), "{proposed:?}");
    story.plan();
    assert_eq!(story.ledger.rollouts()[&id].hosts[&host("h1")].state, HostState::Pending);
}

#[test]
fn what_a_leader_claims_of_a_fetch_ends_no_rollout_before_the_approvers_time_is_over() {
    let (mut story, id) = story_of(0);
    pass(&mut story, 30, &["h1"]);
    let failed = story.claims(&id, "h1", HostState::Failed, Cause::NotFetched).remove(0);
    assert!(matches!(story.judges(&failed), Judgement::Wait(_)));
    pass(&mut story, ALLOWED, &["h1"]);
    assert_eq!(story.judges(&failed), Judgement::Endorse);
}
