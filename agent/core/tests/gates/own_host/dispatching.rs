//! When a host acts on a dispatch, and when it waits without a word.

use chrono::TimeDelta;
use muster_core::node::{HostOrder, HostReport, Input};
use muster_core::wire::{HostEventKind, HostState};
use serde_json::json;

use super::{HOSTS, Own};
use crate::kit::*;

#[test]
fn a_dispatch_with_nothing_against_it_is_acknowledged_and_switched_to_once() {
    let mut own = Own::new();
    let id = own.release("v1");
    let derived = own.dispatched(&id);
    own.acknowledged();
    own.certified(&derived.decision);
    own.step(Input::Tick);
    assert_eq!(own.switches(), 1);
    assert_eq!(own.state(&id), Some(HostState::Activating));
    assert!(!own.warned());
}

#[test]
fn a_dispatch_of_another_host_is_none_of_its_business() {
    let mut own = Own::new();
    let id = own.release("v1");
    let decision = own.story.join(&id, "h3").decision;
    own.certified(&decision);
    own.silent();
}

#[test]
fn a_dispatch_whose_ref_is_not_held_waits_for_it_without_a_word() {
    let mut own = Own::new();
    let id = own.story.release("v1");
    own.dispatched(&id);
    own.silent();
    own.story.pass(5);
    own.hears_ref(&id);
    own.acknowledged();

    let mut own = Own::new();
    let id = own.story.release("v1");
    own.dispatched(&id);
    own.story.pass(700);
    own.step(Input::Tick);
    own.silent();
    assert!(!own.warned());
}

#[test]
fn a_dispatch_waits_until_the_backend_has_said_what_runs() {
    let mut own = Own::fresh(Story::new(fleet_of(&HOSTS, all_at_once())));
    own.hears_fleet();
    let id = own.release("v1");
    own.dispatched(&id);
    own.silent();
    own.runs("v0");
    own.acknowledged();
}

#[test]
fn a_pause_holds_a_dispatch_and_a_resume_lets_it_go() {
    let mut own = Own::new();
    let id = own.release("v1");
    let hash = own.story.accept_command(&json!({ "verb": "pause", "host": "h4" }));
    own.hears(hash);
    own.dispatched(&id);
    own.silent();
    let hash = own.story.accept_command(&json!({ "verb": "resume", "host": "h4" }));
    own.hears(hash);
    own.acknowledged();
}

#[test]
fn an_expired_fleet_document_holds_a_dispatch() {
    let mut own = Own::new();
    let at = own.story.now + TimeDelta::seconds(60);
    let at = at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let hash = own.story.changed_fleet(&[("/expiresAt", at.into())]);
    own.hears(hash);
    let id = own.release("v1");
    own.story.pass(60);
    own.dispatched(&id);
    own.silent();
}

#[test]
fn a_dispatch_of_what_already_runs_is_proven_and_switches_nothing() {
    let mut own = Own::new();
    let id = own.release("v0");
    own.dispatched(&id);
    let names: Vec<_> = own.said.iter().map(HostEventKind::name).collect();
    assert_eq!(names, ["DispatchAck", "ActivationStarted", "ActivationCompleted"]);
    assert_eq!(own.switches(), 0);
    assert!(own.orders.iter().any(|order| matches!(order, HostOrder::StartProbes { .. })));
    assert_eq!(own.state(&id), Some(HostState::Soaking));
}

#[test]
fn a_host_that_waits_for_its_reboot_is_switched_also_to_what_already_runs() {
    let mut own = Own::new();
    let id = own.release("v1");
    own.dispatched(&id);
    let report = HostReport::SwitchDeferred { rollout: id.clone(), component: "kernel".to_owned() };
    own.step(Input::Host(report));
    assert_eq!(own.state(&id), Some(HostState::Deferred));
    own.orders.clear();
    let back = own.release("v0");
    own.dispatched(&back);
    assert_eq!(own.switches(), 1, "else its next boot would bring v1");
    own.switched(&back, 0, "v0");
    assert_eq!(own.state(&back), Some(HostState::Soaking));
}

#[test]
fn a_second_dispatch_into_a_rollout_that_is_under_way_changes_nothing() {
    let mut own = Own::new();
    let id = own.release("v1");
    let first = own.story.join(&id, "h4");
    own.story.pass(601);
    let second = own.story.join(&id, "h4");
    own.certified(&second.decision);
    own.acknowledged();
    own.certified(&first.decision);
    own.step(Input::Tick);
    assert_eq!(own.switches(), 1);
    assert!(!own.warned(), "{:?}", own.notes);
}
