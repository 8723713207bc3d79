//! For each gate a fleet that exactly this gate holds: it is named, with who holds it and the way out.

use chrono::TimeDelta;
use muster_core::gate::{self, Blocked, GATES, Gate};
use muster_core::id::{HostId, RolloutId};
use muster_core::wire::{Cause, HostEventKind, HostState, ProbeMode, ProbeStatus};
use serde_json::{Value, json};

use crate::kit::*;

const HOSTS: [&str; 4] = ["h1", "h2", "h3", "h4"];

/// A fleet that one gate holds, the rollout and host that it holds, and what is said about it.
struct Held {
    story: Story,
    rollout: RolloutId,
    host: HostId,
    reason: &'static str,
    holder: &'static str,
    way_out: &'static str,
}

fn of(policy: Value) -> (Story, RolloutId) {
    let mut story = Story::new(fleet_of(&HOSTS, policy));
    let id = story.release("v1");
    (story, id)
}

fn canary(promotion: &str) -> Value {
    json!({ "waves": [
        { "selector": { "hosts": ["h1"] }, "soakSeconds": 0, "promotion": promotion },
        { "selector": { "all": true }, "soakSeconds": 0 },
    ] })
}

fn held(
    (story, rollout): (Story, RolloutId),
    reason: &'static str,
    holder: &'static str,
    way_out: &'static str,
) -> Held {
    Held { story, rollout, host: host("h4"), reason, holder, way_out }
}

fn by(gate: Gate) -> Held {
    match gate {
        Gate::Paused => paused(),
        Gate::Signatures => signatures(),
        Gate::Quarantine => quarantine(),
        Gate::Freshness => freshness(),
        Gate::Window => window(),
        Gate::ChannelEdges => channel_edges(),
        Gate::Wave => wave(),
        Gate::Promotion => promotion(),
        Gate::HostEdges => host_edges(),
        Gate::Budget => budget(),
        Gate::EnforceProbes => enforce_probes(),
        Gate::Fetched => fetched(),
        Gate::Online => online(),
        Gate::Busy => busy(),
    }
}

fn paused() -> Held {
    let (mut story, id) = of(all_at_once());
    story.command(&json!({ "verb": "pause", "channel": "stable", "reason": "the database moves" }));
    held(
        (story, id),
        "channel stable is paused by an operator: the database moves",
        "an operator's resume of channel stable",
        "muster resume stable",
    )
}

fn signatures() -> Held {
    let (mut story, _) = of(all_at_once());
    let at = story.now + TimeDelta::minutes(10);
    let text = at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    story.changed_fleet(&[("/expiresAt", text.into())]);
    let id = story.release("v2");
    story.pass(600);
    story.everybody_speaks();
    held(
        (story, id),
        "the newest fleet document expired at 2026-11-21 10:11:00 UTC; sign a newer one",
        "a newer fleet document",
        "sign the fleet document with the next serial and a later expiresAt, and publish it",
    )
}

fn quarantine() -> Held {
    let policy = with(all_at_once(), &[("/healthGate", json!({ "maxFailures": 3 }))]);
    let (mut story, id) = of(policy);
    story.join(&id, "h2");
    story.reverts("h2", &id);
    held(
        (story, id),
        "h2 went back from this closure in stable@v1",
        "another release, or an operator's clearance",
        "release a mended closure; muster rollout show stable@v1 says how it failed",
    )
}

fn freshness() -> Held {
    let (mut story, id) = of(all_at_once());
    story.pass(1440 * 60 + 1);
    story.everybody_speaks();
    held(
        (story, id),
        "the ref was signed more than 1440 minutes ago; refresh it by signing it anew",
        "a ref that operators sign anew",
        "sign the same ref with the next serial and a new date, and publish it",
    )
}

fn window() -> Held {
    let (mut story, _) = of(all_at_once());
    // The story begins on a Saturday at 10:01 UTC.
    let window = json!([{ "days": ["sat"], "start": "12:00", "lengthMinutes": 60 }]);
    story.changed_fleet(&[("/channels/stable/windows", window)]);
    let id = story.release("v2");
    held(
        (story, id),
        "no maintenance window is open",
        "the next maintenance window",
        "wait, or sign a fleet document with another window",
    )
}

fn channel_edges() -> Held {
    let mut fleet = fleet_of(&HOSTS, all_at_once());
    fleet["channels"]["base"] = json!({ "rolloutPolicy": "policy", "freshnessWindowMinutes": 1440 });
    fleet["hosts"]["h1"]["channel"] = json!("base");
    fleet["channelEdges"] = json!([{ "gates": "base", "gated": "stable", "reason": "base first" }]);
    let mut story = Story::new(fleet);
    story.release_on("base", "b1", &[]);
    let id = story.release("v1");
    held(
        (story, id),
        "channel base goes first (base first): base@b1 is Opening",
        "base@b1",
        "wait until it is finished; muster explain base@b1 says what holds it",
    )
}

fn wave() -> Held {
    held(
        of(canary("auto")),
        "wave 1 is not done: waits for h1",
        "h1",
        "muster explain h1; muster skip h1 goes on without it",
    )
}

fn promotion() -> Held {
    let (mut story, id) = of(canary("manual"));
    story.done(&id, "h1");
    held(
        (story, id),
        "wave 1 waits for an operator's promotion",
        "an operator's promotion",
        "muster promote stable@v1 --wave 1",
    )
}

fn host_edges() -> Held {
    let mut fleet = fleet_of(&HOSTS, all_at_once());
    let (gates, gated) = (json!({ "hosts": ["h2"] }), json!({ "hosts": ["h4"] }));
    fleet["edges"] = json!([{ "gates": gates, "gated": gated, "reason": "the database first" }]);
    let mut story = Story::new(fleet);
    let id = story.release("v1");
    held(
        (story, id),
        "h2 goes first (the database first)",
        "h2",
        "muster explain h2; muster skip h2 goes on without it",
    )
}

fn budget() -> Held {
    let mut fleet = fleet_of(&HOSTS, all_at_once());
    fleet["disruptionBudgets"] = json!([{ "selector": { "all": true }, "maxInFlight": 1 }]);
    let mut story = Story::new(fleet);
    let id = story.release("v1");
    story.join(&id, "h2");
    held(
        (story, id),
        "budget 1 is full: 1 of 1 in flight (h2)",
        "h2",
        "wait for one of them; of one that failed, muster skip h2 frees the slot",
    )
}

fn enforce_probes() -> Held {
    let (mut story, id) = of(canary("auto"));
    story.done(&id, "h1");
    story.speaks_as("h1", |presence| {
        presence.failing_enforce_probes = vec!["site".parse().unwrap()];
    });
    held(
        (story, id),
        "h1 of an earlier wave fails its probe site",
        "h1",
        "mend h1, or go on without it: muster skip h1",
    )
}

fn fetched() -> Held {
    let (mut story, id) = of(all_at_once());
    story.speaks_as("h4", |presence| presence.prefetches = true);
    held(
        (story, id),
        "the host has not fetched its target yet; it counts as failed at 2026-11-21T11:01:00Z",
        "the host itself",
        "wait; the host says so when it holds its target, and what keeps it from fetching",
    )
}

fn online() -> Held {
    let (mut story, id) = of(all_at_once());
    story.pass(91);
    held(
        (story, id),
        "the host has not been heard of for three heartbeats; it is dispatched when it returns",
        "the host itself",
        "start its agent and see to its network; muster peers says when it was last heard",
    )
}

fn busy() -> Held {
    let (mut story, old) = of(all_at_once());
    story.join(&old, "h4");
    story.acks("h4", &old);
    let id = story.release("v2");
    held(
        (story, id),
        "the host is Activating in stable@v1",
        "stable@v1",
        "wait until it is done there; muster rollout show stable@v1 says how far it is",
    )
}

#[test]
fn each_gate_alone_is_named_with_its_holder_and_the_way_out() {
    for (gate, _) in GATES {
        let Held { story, rollout, host, reason, holder, way_out } = by(gate);
        let plan = story.ledger.plan(&rollout).unwrap();
        let all = gate::all_blocked(&story.view(), plan, &host, story.now);
        let names: Vec<Gate> = all.iter().map(|blocked| blocked.gate).collect();
        assert_eq!(names, [gate], "exactly this gate holds it: {all:?}");
        let blocked: &Blocked = &all[0];
        assert_eq!(blocked.reason.to_string(), reason, "{gate:?}");
        assert_eq!(blocked.holder(), holder, "{gate:?}");
        assert_eq!(blocked.way_out(&rollout), way_out, "{gate:?}");
        assert_eq!(blocked.opens_at.is_some(), gate == Gate::Window, "{gate:?}");
    }
}

#[test]
fn every_reason_that_a_gate_can_have_says_what_to_do() {
    let (mut story, id) = of(canary("auto"));
    story.join(&id, "h1");
    let envelope = story.fails("h1", &id);
    story.claims(&id, "h1", HostState::Failed, Cause::Reported { envelope });
    let plan = story.ledger.plan(&id).unwrap();
    let all = gate::all_blocked(&story.view(), plan, &host("h4"), story.now);
    let wave = all.iter().find(|blocked| blocked.gate == Gate::Wave).unwrap();
    assert_eq!(wave.reason.to_string(), "1 host failed, 0 may");
    assert!(wave.way_out(&id).contains("muster clear stable@v1"), "{}", wave.way_out(&id));
}

#[test]
fn a_soaking_host_with_a_failing_probe_is_named_by_its_own_words() {
    let (mut story, id) = of(canary("auto"));
    story.join(&id, "h1");
    story.acks("h1", &id);
    story.completes("h1", &id);
    let probe = muster_core::wire::DeclaredProbe {
        probe_name: "site".parse().unwrap(),
        kind: "http".into(),
        mode: ProbeMode::Enforce,
    };
    let declared_at = story.now;
    story.reports("h1", &id, HostEventKind::ProbeTopologyDeclared { probes: vec![probe], declared_at });
    story.reports(
        "h1",
        &id,
        HostEventKind::ProbeResult {
            probe_name: "site".parse().unwrap(),
            mode: ProbeMode::Enforce,
            status: ProbeStatus::Fail,
            observed_at: declared_at,
            failure_reason: None,
            sub_results: None,
        },
    );
    let answer = story.asks(Gate::EnforceProbes, &id, "h4").unwrap_err();
    assert_eq!(answer.to_string(), "h1 of an earlier wave fails its probe site");
}
