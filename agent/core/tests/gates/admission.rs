//! The gates that ask about one host, its closure and its ref.

use chrono::TimeDelta;
use muster_core::document::Scope;
use muster_core::gate::{Gate, Reason};
use muster_core::wire::{DecisionId, HostState};
use serde_json::json;

use crate::kit::*;

const HOSTS: [&str; 4] = ["h1", "h2", "h3", "h4"];

fn simple() -> (Story, muster_core::id::RolloutId) {
    let mut story = Story::new(fleet_of(&HOSTS, all_at_once()));
    let id = story.release("v1");
    (story, id)
}

#[test]
fn with_nothing_against_it_every_gate_admits_a_host() {
    let (story, id) = simple();
    for name in HOSTS {
        assert_eq!(story.admit(&id, name), Ok(()));
    }
}

#[test]
fn a_pause_holds_what_it_covers_before_any_log_entry_and_until_it_is_resumed() {
    let scopes = [
        (json!({ "channel": "stable" }), ["h1", "h2"].as_slice()),
        (json!({ "rollout": "stable@v1" }), &["h1", "h2"]),
        (json!({ "host": "h2" }), &["h2"]),
        (json!({ "rollout": "stable@v2" }), &[]),
    ];
    for (scope, held) in scopes {
        let (mut story, id) = simple();
        let order = |verb: &str| {
            let mut order = scope.clone();
            order["verb"] = verb.into();
            order
        };
        let command = story.accept_command(&order("pause"));
        for name in ["h1", "h2"] {
            let answer = story.asks(Gate::Paused, &id, name);
            if held.contains(&name) {
                let covered = scope_of(&scope);
                blocked(answer, Reason::Paused { scope: covered, reason: "because".into(), command });
            } else {
                admitted(answer);
            }
        }
        story.accept_command(&order("resume"));
        admitted(story.asks(Gate::Paused, &id, "h2"));
    }
}

fn scope_of(order: &serde_json::Value) -> Scope {
    let text = |key: &str| order[key].as_str();
    match (text("channel"), text("rollout"), text("host")) {
        (Some(channel), _, _) => Scope::Channel(channel.parse().unwrap()),
        (_, Some(id), _) => Scope::Rollout(rollout(id)),
        (_, _, name) => Scope::Host(host(name.unwrap())),
    }
}

#[test]
fn a_pause_that_has_expired_holds_nobody() {
    let (mut story, id) = simple();
    let ends = (story.now + TimeDelta::seconds(60)).to_rfc3339();
    story.accept_command(&json!({ "verb": "pause", "host": "h2", "expiresAt": ends }));
    assert!(story.asks(Gate::Paused, &id, "h2").is_err());
    story.pass(61);
    admitted(story.asks(Gate::Paused, &id, "h2"));
}

#[test]
fn a_ref_whose_signer_is_an_operator_no_more_holds_everybody() {
    let (mut story, id) = simple();
    admitted(story.asks(Gate::Signatures, &id, "h1"));
    let bob = key_of("bob").public().to_openssh();
    let two = json!({ "alice": key_of("alice").public().to_openssh(), "bob": bob });
    let fleet = with(story.fleet.clone(), &[("/operators", two), ("/thresholds/channelRef", 2.into())]);
    let fleet = with(fleet, &[("/serial", 90.into())]);
    let document = signed_by(&["alice"], muster_signing::Namespace::Fleet, &fleet);
    story.accept(&document).unwrap();
    blocked(story.asks(Gate::Signatures, &id, "h1"), Reason::Unsigned { rollout: id.clone() });
}

#[test]
fn a_host_that_left_the_channel_is_held_before_the_log_adopts_the_document() {
    let (mut story, id) = simple();
    let edge = json!({ "rolloutPolicy": "policy", "freshnessWindowMinutes": 60 });
    let fleet = with(story.fleet.clone(), &[("/channels/edge", edge), ("/hosts/h4/channel", json!("edge"))]);
    story.accept_fleet(fleet);
    blocked(story.asks(Gate::Signatures, &id, "h4"), Reason::OffChannel { channel: id.channel() });
    admitted(story.asks(Gate::Signatures, &id, "h1"));
}

#[test]
fn nothing_is_dispatched_under_a_fleet_document_that_has_expired() {
    let (mut story, _) = simple();
    let at = story.now + TimeDelta::minutes(10);
    story.changed_fleet(&[("/expiresAt", at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true).into())]);
    let id = story.release("v2");
    admitted(story.asks(Gate::Signatures, &id, "h1"));
    story.pass(600);
    blocked(story.asks(Gate::Signatures, &id, "h1"), Reason::FleetExpired { at });
    assert!(story.admit(&id, "h1").unwrap_err().is_against());
}

#[test]
fn a_quarantined_closure_is_held_until_its_decision_is_cleared_by_name() {
    let (mut story, id) = simple();
    story.join(&id, "h4");
    let envelope = story.fails("h4", &id);
    let cause = muster_core::wire::Cause::Reported { envelope };
    let derived = story.claims(&id, "h4", HostState::Failed, cause);
    let quarantine = derived.iter().find(|it| it.decision.body.name() == "Quarantine").unwrap();
    admitted(story.asks(Gate::Quarantine, &id, "h1"));
    assert!(story.certify(quarantine));
    let decision = quarantine.decision.id();
    let held = Reason::Quarantined { channel: id.channel(), host: host("h4"), decision };
    blocked(story.asks(Gate::Quarantine, &id, "h1"), held.clone());
    let clear = |log_index: u64, ordinal: u32| {
        let quarantines = json!([{ "logIndex": log_index, "ordinal": ordinal }]);
        json!({ "verb": "clear", "channel": "stable", "closure": "dir:v1", "quarantines": quarantines })
    };
    story.command(&clear(decision.log_index, decision.ordinal + 7));
    blocked(story.asks(Gate::Quarantine, &id, "h1"), held);
    story.command(&clear(decision.log_index, decision.ordinal));
    admitted(story.asks(Gate::Quarantine, &id, "h1"));
}

#[test]
fn a_clearance_that_comes_before_its_quarantine_lifts_it_all_the_same() {
    let (mut story, id) = simple();
    story.join(&id, "h4");
    let envelope = story.fails("h4", &id);
    let cause = muster_core::wire::Cause::Reported { envelope };
    let derived = story.claims(&id, "h4", HostState::Failed, cause);
    let quarantine = derived.iter().find(|it| it.decision.body.name() == "Quarantine").unwrap();
    let DecisionId { log_index, ordinal } = quarantine.decision.id();
    let quarantines = json!([{ "logIndex": log_index, "ordinal": ordinal }]);
    story.command(
        &json!({ "verb": "clear", "channel": "stable", "closure": "dir:v1", "quarantines": quarantines }),
    );
    assert!(story.certify(quarantine));
    admitted(story.asks(Gate::Quarantine, &id, "h1"));
}

#[test]
fn a_closure_from_which_a_host_went_back_is_suspect_here_before_any_quarantine() {
    let (mut story, id) = simple();
    story.join(&id, "h4");
    story.fails("h4", &id);
    admitted(story.asks(Gate::Quarantine, &id, "h1"));
    let (mut story, id) = simple();
    story.join(&id, "h4");
    story.reverts("h4", &id);
    let reason = Reason::Suspect { host: host("h4"), rollout: id.clone() };
    blocked(story.asks(Gate::Quarantine, &id, "h1"), reason);
    assert!(story.admit(&id, "h1").unwrap_err().is_against());
}

#[test]
fn a_ref_counts_within_its_freshness_window_and_until_it_expires() {
    let (mut story, id) = simple();
    story.pass(1440 * 60);
    admitted(story.asks(Gate::Freshness, &id, "h1"));
    story.pass(1);
    blocked(story.asks(Gate::Freshness, &id, "h1"), Reason::Stale { minutes: 1440 });

    let (mut story, _) = simple();
    let at = story.now + TimeDelta::seconds(90);
    let text = at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let id = story.release_on("stable", "v2", &[("/expiresAt", text.into())]);
    story.pass(89);
    admitted(story.asks(Gate::Freshness, &id, "h1"));
    story.pass(1);
    blocked(story.asks(Gate::Freshness, &id, "h1"), Reason::Expired { at });
}

#[test]
fn a_closed_maintenance_window_says_when_it_opens() {
    let (mut story, _) = simple();
    // The story begins on a Saturday at 10:01 UTC.
    let window = json!([{ "days": ["sat"], "start": "12:00", "lengthMinutes": 60 }]);
    story.changed_fleet(&[("/channels/stable/windows", window)]);
    let id = story.release("v2");
    let answer = story.admit(&id, "h1").unwrap_err();
    assert_eq!((answer.gate, &answer.reason), (Gate::Window, &Reason::WindowClosed));
    assert_eq!(answer.opens_at, Some("2026-11-21T12:00:00Z".parse().unwrap()));
    assert!(!answer.is_against());
    story.pass(2 * 3600);
    admitted(story.asks(Gate::Window, &id, "h1"));
    story.pass(3600);
    blocked(story.asks(Gate::Window, &id, "h1"), Reason::WindowClosed);
}

#[test]
fn a_backend_that_fetches_ahead_is_waited_for() {
    let (mut story, id) = simple();
    story.speaks_as("h4", |presence| presence.prefetches = true);
    blocked(
        story.asks(Gate::Fetched, &id, "h4"),
        Reason::NotFetched { counts_as_failed_at: Some(story.now + TimeDelta::hours(1)) },
    );
    story.speaks_as("h4", |presence| {
        presence.prefetches = true;
        presence.fetched = vec![closure("v1")];
    });
    admitted(story.asks(Gate::Fetched, &id, "h4"));
    story.speaks_as("h4", |presence| {
        presence.prefetches = true;
        presence.current_closure = Some(closure("v1"));
    });
    admitted(story.asks(Gate::Fetched, &id, "h4"));
}

#[test]
fn three_missed_heartbeats_make_a_host_offline_and_a_fresh_start_makes_nobody_online() {
    let (mut story, id) = simple();
    story.pass(90);
    admitted(story.asks(Gate::Online, &id, "h4"));
    story.pass(1);
    blocked(story.asks(Gate::Online, &id, "h4"), Reason::Offline);
    story.speaks("h4");
    admitted(story.asks(Gate::Online, &id, "h4"));

    let (mut story, id) = simple();
    let started = story.mono;
    story.presences = muster_core::presence::Presences::new(host("h1"), HEARTBEAT, started);
    blocked(story.asks(Gate::Online, &id, "h4"), Reason::NotHeardYet);
    admitted(story.asks(Gate::Online, &id, "h1"));
    story.pass(91);
    blocked(story.asks(Gate::Online, &id, "h4"), Reason::Offline);
}

#[test]
fn a_host_under_way_in_another_rollout_is_busy_until_that_one_is_over() {
    let (mut story, old) = simple();
    story.join(&old, "h4");
    story.acks("h4", &old);
    let id = story.release("v2");
    let busy = |state| Reason::InFlight { rollout: rollout("stable@v1"), state };
    blocked(story.asks(Gate::Busy, &id, "h4"), busy(HostState::Activating));
    admitted(story.asks(Gate::Busy, &id, "h3"));
    admitted(story.asks(Gate::Busy, &old, "h4"));
    story.completes("h4", &old);
    blocked(story.asks(Gate::Busy, &id, "h4"), busy(HostState::Soaking));
    let declared_at = story.now;
    let declared =
        muster_core::wire::HostEventKind::ProbeTopologyDeclared { probes: Vec::new(), declared_at };
    story.reports("h4", &old, declared);
    story.settles("h4", &old);
    admitted(story.asks(Gate::Busy, &id, "h4"));
}

#[test]
fn a_host_with_an_older_dispatch_of_this_rollout_is_still_busy_in_another() {
    let (mut story, old) = simple();
    story.join(&old, "h4");
    let id = story.release("v2");
    story.join(&id, "h4");
    story.acks("h4", &id);
    let reason = Reason::InFlight { rollout: id, state: HostState::Activating };
    blocked(story.asks(Gate::Busy, &old, "h4"), reason);
}

#[test]
fn a_deferred_host_may_be_dispatched_anew_and_one_that_owes_a_rollback_may_not() {
    let (mut story, old) = simple();
    story.join(&old, "h4");
    story.defers("h4", &old);
    let id = story.release("v2");
    admitted(story.asks(Gate::Busy, &id, "h4"));

    let (mut story, old) = simple();
    story.join(&old, "h4");
    story.fails("h4", &old);
    let id = story.release("v2");
    let reason = Reason::InFlight { rollout: old.clone(), state: HostState::Failed };
    blocked(story.asks(Gate::Busy, &id, "h4"), reason);
}
