//! Rollouts from publication to their end, good and bad.

use std::time::Duration;

use muster_tests::{Agent, Fleet, Release, wait_for};
use serde_json::{Value, json};

/// When a host began a rollout's switch by its release's own clock, and when it said that it converged.
fn span(observer: &Agent, agent: &Agent, rollout: &str, release: &str) -> (u128, u128) {
    let closure = format!("dir:{release}");
    let began = agent.runs().into_iter().find(|run| run.closure == closure).unwrap().at;
    let converged = observer.events().into_iter().find(|event| {
        event["host"] == agent.name.as_str() && event["rollout"] == rollout && event["name"] == "Converged"
    });
    let at: chrono::DateTime<chrono::Utc> = converged.unwrap()["at"].as_str().unwrap().parse().unwrap();
    (began, u128::try_from(at.timestamp_nanos_opt().unwrap()).unwrap())
}

#[test]
fn a_rollout_goes_through_three_waves_within_its_budget() {
    let fleet = Fleet::of(5)
        .coordinators(3)
        .tag("canary", [4])
        .tag("early", [0, 1])
        .policy(
            "waves",
            json!([
                { "selector": { "tags": ["canary"] }, "soakSeconds": 1 },
                { "selector": { "tags": ["early"] }, "soakSeconds": 0 },
                { "selector": { "all": true }, "soakSeconds": 0 },
            ]),
        )
        .budgets(json!([{ "selector": { "all": true }, "maxInFlight": 1 }]))
        .build();
    fleet.install("v1", Release::GOOD);
    fleet.launch();
    let rollout = fleet.roll_out("r1", "v1");
    fleet.wait_for_rollout(&rollout, "Terminal");

    let mut spans: Vec<_> = fleet
        .agents
        .iter()
        .enumerate()
        .map(|(index, agent)| {
            assert_eq!(agent.current(), "dir:v1", "{}", agent.name);
            assert_eq!(agent.times_begun("v1"), 1, "{}", agent.name);
            (span(&fleet.agents[0], agent, &rollout, "v1"), index)
        })
        .collect();
    spans.sort_unstable();
    // By the millisecond, which is how finely a host's events are stamped.
    let millis = |nanos: u128| nanos / 1_000_000;
    for pair in spans.windows(2) {
        let ((_, converged), (began, _)) = (pair[0].0, pair[1].0);
        assert!(millis(converged) <= millis(began), "two hosts in flight at once: {spans:?}");
    }
    let wave_of = |index: usize| [1, 1, 2, 2, 0][index];
    let waves: Vec<_> = spans.iter().map(|(_, index)| wave_of(*index)).collect();
    assert_eq!(waves, [0, 1, 1, 2, 2], "{spans:?}");
    assert!(spans[0].0.1 - spans[0].0.0 >= 1_000_000_000, "the canary soaked for a second: {spans:?}");
}

#[test]
fn a_sick_release_is_rolled_back_quarantined_and_refused_ever_after() {
    let fleet = Fleet::of(3)
        .tag("canary", [2])
        .policy(
            "waves",
            json!([
                { "selector": { "tags": ["canary"] }, "soakSeconds": 30 },
                { "selector": { "all": true }, "soakSeconds": 0 },
            ]),
        )
        .build();
    fleet.install("v1", Release::SICK);
    fleet.install("v2", Release { health: muster_tests::Health::NotDeclared, ..Release::GOOD });
    fleet.launch();
    let rollout = fleet.roll_out("r1", "v1");
    fleet.wait_for_rollout(&rollout, "Reverted");
    let runs = |agent: &Agent| (agent.current(), agent.times_begun("v1"));
    assert_eq!(runs(&fleet.agents[2]), ("dir:v0".to_owned(), 1), "the canary tried and went back");
    for agent in &fleet.agents[..2] {
        assert_eq!(runs(agent), ("dir:v0".to_owned(), 0), "{} never touched it", agent.name);
    }
    fleet.wait_for_all("shows the quarantine", |agent| {
        agent.look("/v1/quarantines")["quarantines"].as_array().is_some_and(|list| {
            list.len() == 1 && list[0]["closure"] == "dir:v1" && list[0]["channel"] == "stable"
        })
    });

    let again = fleet.roll_out("r2", "v1");
    let gates = wait_for("the quarantine holds the canary", Duration::from_secs(30), || {
        let explained = fleet.agents[0].muster(["explain", "host-2", "--json"]).run().json();
        let gates = explained["gates"].as_array().cloned().unwrap_or_default();
        gates.iter().any(|gate| gate["gate"] == "quarantine").then_some(gates)
    });
    assert!(
        gates.iter().all(|gate| gate["reason"].as_str().is_some_and(|reason| !reason.is_empty())),
        "{gates:?}"
    );
    let text = fleet.agents[1].muster(["explain", "host-2"]).run().ok();
    assert!(text.contains("quarantine"), "{text}");
    assert_eq!(runs(&fleet.agents[2]), ("dir:v0".to_owned(), 1), "it was not tried again");
    assert_ne!(fleet.agents[0].rollout_state(&again), "Terminal");
}

#[test]
fn a_release_that_cannot_be_switched_to_is_rolled_back_with_its_last_words() {
    let fleet = Fleet::of(1).build();
    fleet.install("v1", Release::BROKEN);
    fleet.install("v2", Release::GOOD);
    fleet.launch();
    let rollout = fleet.roll_out("r1", "v1");
    fleet.wait_for_rollout(&rollout, "Reverted");
    let agent = &fleet.agents[0];
    assert_eq!(agent.current(), "dir:v0");
    let failed = |event: &&Value| event["name"] == "ActivationFailed";
    let events = agent.events();
    let detail = events.iter().find(failed).unwrap()["detail"].to_string();
    assert!(detail.contains("the disk of this release is on fire"), "{detail}");

    let better = fleet.roll_out("r2", "v2");
    fleet.wait_for_rollout(&better, "Terminal");
    assert_eq!(agent.current(), "dir:v2");
}

#[test]
fn sync_alone_carries_a_rollout_when_nothing_is_gossiped() {
    let fleet = Fleet::of(3).coordinators(1).without_gossip(Duration::from_secs(150)).build();
    fleet.install("v1", Release::GOOD);
    fleet.launch();
    let rollout = fleet.roll_out_at(2, "r1", "v1");
    fleet.wait_for_rollout(&rollout, "Terminal");
    fleet.wait_for_release("v1");
    for agent in &fleet.agents {
        assert_eq!(agent.times_begun("v1"), 1, "{}", agent.name);
    }
}
