//! Snapshots of the log: when a coordinator signs for one, and what it hears if a quorum came to another state.

use muster_core::coordination::approval::{Judgement, judge};
use muster_core::ledger::Derived;
use muster_core::wire::{DecisionBody, LogStatement};
use muster_signing::sha256;

use crate::kit::*;

fn asked(story: &mut Story) -> Derived {
    story.entry(LogStatement::SnapshotAsked {}).decisions.remove(0)
}

#[test]
fn a_snapshot_is_signed_once_everything_before_it_is_certified() {
    let mut story = Story::as_host("h4", fleet_of(&["h1", "h2", "h3", "h4"], all_at_once()));
    let id = story.release("v1");
    let dispatch = story.join(&id, "h1");
    for derived in story.derived.clone().iter().filter(|it| it.decision != dispatch.decision) {
        story.certify(derived);
    }
    let snapshot = asked(&mut story);
    let waits = judge(&story.view(), &snapshot, story.now);
    let names = format!("decision {}.{}", dispatch.decision.log_index, dispatch.decision.ordinal);
    assert!(matches!(&waits, Judgement::Wait(why) if why.contains(&names)), "{waits:?}");
    story.certify(&dispatch);
    let signs = judge(&story.view(), &snapshot, story.now);
    assert!(matches!(signs, Judgement::Endorse), "{signs:?}");
}

#[test]
fn a_coordinator_that_came_to_another_state_than_a_quorum_is_told_so() {
    let mut story = Story::as_host("h4", fleet_of(&["h1", "h2", "h3", "h4"], all_at_once()));
    let mut snapshot = asked(&mut story);
    snapshot.decision.body = DecisionBody::LogSnapshot { digest: sha256(b"another state") };
    assert!(story.certify(&snapshot));
    let alarms = story.alarms();
    assert!(
        alarms.iter().any(|alarm| alarm.contains("has come to another state after log entry")),
        "{alarms:?}"
    );
}
