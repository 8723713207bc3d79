//! The gates that wait for what goes first: hosts behind an edge, and channels behind another.

use muster_core::gate::{Gate, Reason};
use muster_core::id::RolloutId;
use muster_core::wire::RolloutState;
use serde_json::json;

use crate::kit::*;

#[test]
fn hosts_behind_an_edge_wait_for_those_before_it() {
    let mut fleet = fleet_of(
        &["h1", "h2", "h3", "h4"],
        with(all_at_once(), &[("/healthGate", json!({ "maxFailures": 1 }))]),
    );
    let edge =
        json!({ "gates": { "hosts": ["h2"] }, "gated": { "hosts": ["h4"] }, "reason": "database first" });
    fleet["edges"] = json!([edge]);
    let fresh = || {
        let mut story = Story::new(fleet.clone());
        let id = story.release("v1");
        (story, id)
    };
    let waits = Reason::HostFirst { host: host("h2"), reason: "database first".into() };
    let (mut story, id) = fresh();
    admitted(story.asks(Gate::HostEdges, &id, "h3"));
    blocked(story.asks(Gate::HostEdges, &id, "h4"), waits.clone());
    story.join(&id, "h2");
    story.acks("h2", &id);
    blocked(story.asks(Gate::HostEdges, &id, "h4"), waits.clone());
    type Act<'a> = &'a dyn Fn(&mut Story, &RolloutId);
    let table: [(&str, Act<'_>, bool); 6] = [
        ("converged", &|story, id| story.done(id, "h2"), true),
        (
            "deferred",
            &|story, id| {
                story.join(id, "h2");
                story.defers("h2", id);
            },
            true,
        ),
        (
            "failed within what may",
            &|story, id| {
                story.join(id, "h2");
                story.fails("h2", id);
            },
            true,
        ),
        (
            "skipped",
            &|story, _| {
                story.command(&json!({ "verb": "skip", "host": "h2" }));
            },
            true,
        ),
        (
            "offline",
            &|story, _| {
                story.pass(91);
                story.speaks("h4");
            },
            true,
        ),
        (
            "soaking",
            &|story, id| {
                story.join(id, "h2");
                story.soaks("h2", id);
            },
            false,
        ),
    ];
    for (what, act, open) in table {
        let (mut story, id) = fresh();
        act(&mut story, &id);
        assert_eq!(story.asks(Gate::HostEdges, &id, "h4").is_ok(), open, "{what}");
    }
    let (mut story, _) = fresh();
    let targets = json!({ "h1": "dir:v2", "h4": "dir:v2" });
    let id = story.release_on("stable", "v2", &[("/targets", targets)]);
    admitted(story.asks(Gate::HostEdges, &id, "h4"));
}

/// `edge` waits for `stable`; both have one host.
fn two_channels() -> Story {
    let mut fleet = fleet_of(&["h1", "h2"], all_at_once());
    fleet["channels"]["edge"] = json!({ "rolloutPolicy": "policy", "freshnessWindowMinutes": 60 });
    fleet["hosts"]["h2"]["channel"] = "edge".into();
    fleet["channelEdges"] = json!([{ "gates": "stable", "gated": "edge", "reason": "stable first" }]);
    Story::new(fleet)
}

fn stable_first(name: &str, state: RolloutState) -> Reason {
    let (channel, rollout) = ("stable".parse().unwrap(), rollout(name));
    Reason::ChannelFirst { channel, rollout, state: state.name(), reason: "stable first".into() }
}

#[test]
fn a_channel_waits_for_what_opened_before_it_on_the_channel_that_goes_first() {
    let mut story = two_channels();
    let first = story.release_on("stable", "v1", &[]);
    let id = story.release_on("edge", "v1", &[]);
    blocked(story.asks(Gate::ChannelEdges, &id, "h2"), stable_first("stable@v1", RolloutState::Opening));
    admitted(story.asks(Gate::ChannelEdges, &first, "h1"));
    story.release_on("stable", "v2", &[]);
    blocked(story.asks(Gate::ChannelEdges, &id, "h2"), stable_first("stable@v2", RolloutState::Opening));
    story.done(&rollout("stable@v2"), "h1");
    story.plan();
    assert_eq!(story.ledger.rollouts()[&rollout("stable@v2")].state, RolloutState::Terminal);
    admitted(story.asks(Gate::ChannelEdges, &id, "h2"));
}

#[test]
fn what_opened_later_on_the_first_channel_holds_nobody() {
    let mut story = two_channels();
    let id = story.release_on("edge", "v1", &[]);
    story.release_on("stable", "v1", &[]);
    admitted(story.asks(Gate::ChannelEdges, &id, "h2"));
}

#[test]
fn a_failed_rollout_of_the_first_channel_holds_until_an_operator_clears_it() {
    let mut story = two_channels();
    let first = story.release_on("stable", "v1", &[]);
    story.join(&first, "h1");
    story.reverts("h1", &first);
    story.plan();
    assert_eq!(story.ledger.rollouts()[&first].state, RolloutState::Reverted);
    let id = story.release_on("edge", "v1", &[]);
    blocked(story.asks(Gate::ChannelEdges, &id, "h2"), stable_first("stable@v1", RolloutState::Reverted));
    story.command(&json!({ "verb": "clear", "rollout": "stable@v1" }));
    story.plan();
    admitted(story.asks(Gate::ChannelEdges, &id, "h2"));
}
