//! Operators at work: each verb does what it says, says what it did, and is refused where it would do nothing.

use std::time::Duration;

use chrono::{Datelike, TimeDelta, Utc};
use muster_tests::{Agent, Fleet, Ran, Release, wait_for};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// An order of the first operator, given at a host: what was said.
fn orders(fleet: &Fleet, at: usize, words: &[&str]) -> Ran {
    let agent = &fleet.agents[at];
    let key = fleet.operators[0].file.as_os_str();
    agent.muster(words.iter().copied()).args(["--reason", "tested", "--key"]).arg(key).run()
}

/// The same, refused: why.
fn refused(fleet: &Fleet, words: &[&str]) -> String {
    orders(fleet, 0, words).expect_code(1).stderr
}

/// Waits until a gate holds a host, as one agent sees it; what is said about it.
fn held_by(agent: &Agent, host: &str, gate: &str) -> Value {
    wait_for(&format!("{gate} holds {host}"), PATIENCE, || {
        let explained = agent.look(&format!("/v1/explain/{host}"));
        let gates = explained["gates"].as_array().cloned().unwrap_or_default();
        gates.into_iter().find(|it| it["gate"] == gate)
    })
}

fn canary(promotion: &str) -> Value {
    json!([
        { "selector": { "tags": ["canary"] }, "soakSeconds": 0, "promotion": promotion },
        { "selector": { "all": true }, "soakSeconds": 0 },
    ])
}

#[test]
fn a_paused_channel_waits_and_goes_on_when_it_is_resumed() {
    let fleet = Fleet::of(3).build();
    fleet.install("v1", Release::GOOD);
    fleet.launch();
    let said = orders(&fleet, 1, &["pause", "stable"]).ok();
    assert!(said.starts_with("stable is paused: "), "{said}");
    assert!(said.contains(" of 3 coordinators have it; it holds nobody back right now"), "{said}");
    let rollout = fleet.roll_out("r1", "v1");
    for agent in &fleet.agents {
        let gate = held_by(agent, "host-0", "paused");
        assert_eq!(gate["reason"], "channel stable is paused by an operator: tested");
        assert_eq!(gate["way_out"], "muster resume stable");
    }
    let again = refused(&fleet, &["pause", "stable"]);
    assert!(again.contains("channel stable is paused already: tested"), "{again}");
    let other = refused(&fleet, &["resume", &rollout]);
    assert!(other.contains("what is paused is channel stable"), "{other}");
    assert!(other.contains("hint: muster resume stable"), "{other}");
    assert!(fleet.agents.iter().all(|agent| agent.times_begun("v1") == 0));

    let said = orders(&fleet, 2, &["resume", "stable", "--json"]).json();
    assert_eq!((&said["schema"], &said["effect"]["in_effect"]), (&json!(1), &json!(true)), "{said}");
    fleet.wait_for_rollout(&rollout, "Terminal");
    let idle = refused(&fleet, &["resume", "stable"]);
    assert!(idle.contains("channel stable is not paused"), "{idle}");
    let over = refused(&fleet, &["cancel", &rollout]);
    assert!(over.contains("is finished: nothing is left to cancel"), "{over}");
}

#[test]
fn a_wave_that_asks_for_a_person_waits_for_the_promotion() {
    let fleet = Fleet::of(2).coordinators(1).tag("canary", [0]).policy("waves", canary("manual")).build();
    fleet.install("v1", Release::GOOD);
    fleet.launch();
    let rollout = fleet.roll_out("r1", "v1");
    let agent = &fleet.agents[0];
    wait_for("the canary has converged", PATIENCE, || {
        (agent.rollout(&rollout)["rollout"]["wave"] == 1).then_some(())
    });
    let gate = held_by(agent, "host-1", "promotion");
    assert_eq!(gate["reason"], "wave 1 waits for an operator's promotion");
    assert_eq!(fleet.agents[1].times_begun("v1"), 0);
    let last = refused(&fleet, &["promote", &rollout, "--wave", "2"]);
    assert!(last.contains("wave 2 is the last one of stable@r1"), "{last}");
    let said = orders(&fleet, 1, &["promote", &rollout]).ok();
    assert!(said.starts_with("wave 1 of stable@r1 is promoted: 1 of 1 coordinator has it"), "{said}");
    fleet.wait_for_rollout(&rollout, "Terminal");
    fleet.wait_for_release("v1");
    let over = refused(&fleet, &["promote", &rollout, "--wave", "1"]);
    assert!(over.contains("is finished: every wave of it was opened"), "{over}");
}

#[test]
fn a_closed_window_says_when_it_opens_and_a_plan_says_so_before() {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let opens = (Utc::now() + TimeDelta::days(3)).date_naive();
    let day = DAYS[opens.weekday().num_days_from_monday() as usize];
    let windows = json!([{ "days": [day], "start": "12:00", "lengthMinutes": 60 }]);
    let fleet = Fleet::of(1).windows(windows).build();
    fleet.install("v1", Release::GOOD);
    fleet.launch();
    let opens_at = json!(format!("{opens}T12:00:00Z"));
    let file = fleet.sign_ref("r1", "v1");
    let agent = &fleet.agents[0];
    let plan = agent.muster(["plan", "--json"]).arg(&file).run().json();
    let planned = &plan["waves"][0]["hosts"][0];
    assert_eq!((&plan["schema"], &planned["first"]), (&json!(1), &json!(false)), "{plan}");
    assert_eq!(
        (&planned["gates"][0]["gate"], &planned["gates"][0]["opens_at"]),
        (&json!("window"), &opens_at)
    );
    assert_eq!(agent.look("/v1/rollouts")["rollouts"], json!([]), "nothing was sent");
    agent.muster(["publish"]).arg(&file).run().ok();
    let gate = held_by(agent, "host-0", "window");
    assert_eq!(gate["opens_at"], opens_at, "{gate}");
    let text = agent.muster(["explain", "host-0"]).run().ok();
    assert!(text.contains(&format!("at the earliest, {opens}T12:00:00Z")), "{text}");
    assert_eq!(agent.times_begun("v1"), 0);
}

#[test]
fn a_cancelled_rollout_stands_still_until_it_is_cleared() {
    let one = json!([{ "selector": { "all": true }, "maxInFlight": 1 }]);
    let fleet = Fleet::of(2).coordinators(1).budgets(one).build();
    fleet.install("v1", Release::SLOW);
    fleet.launch();
    let rollout = fleet.roll_out("r1", "v1");
    let [first, second] = &fleet.agents[..] else { panic!("two hosts") };
    wait_for("the first host switches", PATIENCE, || (first.times_begun("v1") == 1).then_some(()));
    let said = orders(&fleet, 0, &["cancel", &rollout]).ok();
    assert!(said.starts_with("stable@r1 is cancelled: 1 of 1 coordinator has it; "), "{said}");
    assert!(said.contains("1 host in flight finishes by itself"), "{said}");
    fleet.wait_for_rollout(&rollout, "Failed");
    let twice = refused(&fleet, &["cancel", &rollout]);
    assert!(twice.contains("stable@r1 was cancelled before"), "{twice}");
    first.open_gate(true);
    second.open_gate(true);
    wait_for("the first host is on it", PATIENCE, || (first.current() == "dir:v1").then_some(()));
    assert_eq!(second.times_begun("v1"), 0);
    let said = orders(&fleet, 0, &["clear", &rollout]).ok();
    assert!(said.starts_with("stable@r1 is cleared: "), "{said}");
    fleet.wait_for_rollout(&rollout, "Terminal");
    assert_eq!(second.current(), "dir:v1");
}

#[test]
fn a_skipped_host_frees_its_slot() {
    let one = json!([{ "selector": { "all": true }, "maxInFlight": 1 }]);
    let fleet = Fleet::of(2)
        .coordinators(1)
        .budgets(one)
        .policy("healthGate", json!({ "maxFailures": 1 }))
        .policy("onHealthFailure", json!("halt"))
        .build();
    fleet.agents[0].install("v1", Release::BROKEN);
    fleet.agents[1].install("v1", Release::GOOD);
    fleet.launch();
    let none = refused(&fleet, &["skip", "host-0"]);
    assert!(none.contains("host-0 is in no open rollout and holds no slot"), "{none}");
    let rollout = fleet.roll_out("r1", "v1");
    let agent = &fleet.agents[0];
    wait_for("host-0 has failed", PATIENCE, || {
        (agent.rollout(&rollout)["rollout"]["hosts_failed"] == 1).then_some(())
    });
    let gate = held_by(agent, "host-1", "budget");
    assert_eq!(gate["waits_for"], "host-0", "{gate}");
    let said = orders(&fleet, 1, &["skip", "host-0", "--rollout", &rollout]).ok();
    assert!(said.starts_with("host-0 is skipped in stable@r1: "), "{said}");
    fleet.wait_for_rollout(&rollout, "Terminal");
    assert_eq!(fleet.agents[1].current(), "dir:v1");
}

#[test]
fn a_failed_release_goes_on_once_it_and_its_closure_are_cleared() {
    let fleet = Fleet::of(2).coordinators(1).tag("canary", [0]).policy("waves", canary("auto")).build();
    fleet.agents[0].install("v1", Release::BROKEN);
    fleet.agents[1].install("v1", Release::GOOD);
    fleet.launch();
    let early = refused(&fleet, &["clear", "stable", "dir:v1"]);
    assert!(early.contains("dir:v1 is not quarantined on stable"), "{early}");
    let rollout = fleet.roll_out("r1", "v1");
    fleet.wait_for_rollout(&rollout, "Reverted");
    let agent = &fleet.agents[0];
    wait_for("the quarantine is certified", PATIENCE, || {
        (agent.look("/v1/quarantines")["quarantines"].as_array()?.len() == 1).then_some(())
    });
    let said = orders(&fleet, 0, &["clear", &rollout]).ok();
    assert!(
        said.contains("dir:v1 stays quarantined until it is cleared: muster clear stable dir:v1"),
        "{said}"
    );
    held_by(agent, "host-1", "quarantine");
    let said = orders(&fleet, 0, &["clear", "stable", "dir:v1"]).ok();
    assert!(said.starts_with("dir:v1 is cleared on stable: "), "{said}");
    fleet.wait_for_rollout(&rollout, "Terminal");
    assert_eq!((agent.current(), fleet.agents[1].current()), ("dir:v0".to_owned(), "dir:v1".to_owned()));
}

#[test]
fn a_channel_goes_back_to_what_ran_before() {
    let fleet = Fleet::of(1).build();
    fleet.install("v1", Release::GOOD);
    fleet.install("v2", Release::GOOD);
    fleet.launch();
    let agent = &fleet.agents[0];
    let rollback = |more: &[&str]| {
        let key = fleet.operators[0].file.as_os_str();
        agent.muster(["rollback", "stable", "--key"]).arg(key).args(more).run()
    };
    let nothing = rollback(&[]).expect_code(1).stderr;
    assert!(nothing.contains("nothing was ever released on stable"), "{nothing}");
    for (name, release) in [("r1", "v1"), ("r2", "v2")] {
        let id = fleet.roll_out(name, release);
        fleet.wait_for_rollout(&id, "Terminal");
    }
    let shown: Value = serde_json::from_str(&rollback(&["--dry-run"]).ok()).unwrap();
    assert_eq!((&shown["ref"], &shown["serial"]), (&json!("r1-again-3"), &json!(3)), "{shown}");
    assert_eq!(shown["targets"], json!({ "host-0": "dir:v1" }));
    assert_eq!(agent.current(), "dir:v2");
    let ran = rollback(&[]);
    assert!(ran.stderr.contains("stable goes from r2 back to what r1 released"), "{}", ran.stderr);
    assert!(ran.ok().starts_with("it is published: 1 of 1 coordinator has it"));
    fleet.wait_for_rollout("stable@r1-again-3", "Terminal");
    assert_eq!(agent.current(), "dir:v1");
}

#[test]
fn two_operators_order_together_through_a_file() {
    let fleet = Fleet::of(1).operators(2, 2).build();
    fleet.launch();
    let alone = refused(&fleet, &["pause", "stable"]);
    assert!(alone.contains("2 operators have to sign it") && alone.contains("--out FILE"), "{alone}");
    let file = fleet.folder().join("pause.json");
    let path = file.to_string_lossy().into_owned();
    orders(&fleet, 0, &["pause", "stable", "--out", &path]).ok();
    fleet.sign(&["command", "--add"], &file, &fleet.operators[1]).ok();
    fleet.agents[0].muster(["publish", "--wait"]).arg(&file).run().ok();
    let again = refused(&fleet, &["pause", "stable"]);
    assert!(again.contains("2 operators have to sign it"), "{again}");
    let shown = fleet.agents[0].muster(["resume", "stable", "--dry-run", "--reason", "done"]).run().json();
    assert_eq!((&shown["verb"], &shown["serial"]), (&json!("resume"), &json!(2)), "{shown}");
}
