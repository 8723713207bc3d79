//! An agent killed at each stage of a rollout comes back and tells the same story to its end.

use std::time::Duration;

use muster_tests::{Activation, Agent, Fleet, Health, Release, wait_for};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

/// The events of a host's feed, in order, as an agent knows them.
fn feed(observer: &Agent, host: &str) -> Vec<(String, String, String)> {
    let own = |event: &Value| event["kind"] == "event" && event["host"] == host;
    let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let events = observer.events().into_iter().filter(own);
    events.map(|event| (text(&event, "name"), text(&event, "at"), text(&event, "detail"))).collect()
}

/// A fleet whose last host is the one to be killed; it is no coordinator.
struct Story {
    fleet: Fleet,
}

impl Story {
    fn new(soak_secs: u64, release: Release) -> Self {
        let fleet = Fleet::of(3)
            .coordinators(1)
            .tag("victim", [2])
            .policy("waves", json!([{ "selector": { "all": true }, "soakSeconds": soak_secs }]))
            .policy("healthGate", json!({ "maxFailures": 0 }))
            .build();
        fleet.install("v1", Release::GOOD);
        fleet.agents[2].install("v1", release);
        fleet.launch();
        Self { fleet }
    }

    fn victim(&self) -> &Agent {
        &self.fleet.agents[2]
    }

    /// Waits until any agent, the victim included, shows that the victim said something.
    fn wait_until_said(&self, name: &str) {
        wait_for(&format!("the victim says {name}"), SOON, || {
            let said = |agent: &Agent| feed(agent, &self.victim().name).iter().any(|event| event.0 == name);
            self.fleet.agents.iter().any(said).then_some(())
        });
    }

    fn restart(&self) {
        self.victim().start();
        self.fleet.wait_until_up(self.victim());
    }

    /// After the end: every node holds the same feed of the victim, without a gap, with each step in it once.
    fn check(&self, steps: &[&str]) {
        let victim = self.victim();
        let own = wait_for("all hold the victim's whole feed", SOON, || {
            let own = feed(victim, &victim.name);
            let others = &self.fleet.agents[..2];
            others.iter().all(|agent| feed(agent, &victim.name) == own).then_some(own)
        });
        for step in steps {
            let times = own.iter().filter(|event| event.0 == *step).count();
            assert_eq!(times, 1, "{step} in {own:#?}");
        }
        for agent in &self.fleet.agents[..2] {
            wait_for(&format!("{} is not behind", agent.name), SOON, || {
                let peers = agent.look("/v1/peers");
                let peer =
                    peers["peers"].as_array()?.iter().find(|peer| peer["host"] == victim.name.as_str())?;
                // A feed is counted from 1, so a feed without a gap has as many events as its last position says.
                (peer["feed_seq"] == json!(own.len()) && peer["feed_behind"] == 0).then_some(())
            });
        }
    }
}

/// What a host says once, and only once, on the way to a healthy end.
const GOOD_STEPS: [&str; 4] = ["DispatchAck", "ActivationStarted", "ActivationCompleted", "Converged"];

#[test]
fn killed_when_just_dispatched_it_switches_once() {
    let story = Story::new(0, Release::SLOW);
    let rollout = story.fleet.roll_out("r1", "v1");
    story.wait_until_said("DispatchAck");
    story.victim().kill();
    story.victim().open_gate(true);
    story.restart();
    story.fleet.wait_for_rollout(&rollout, "Terminal");
    assert_eq!(story.victim().times_begun("v1"), 1);
    story.check(&GOOD_STEPS);
}

#[test]
fn killed_while_switching_it_finds_the_switch_done() {
    let story = Story::new(0, Release::SLOW);
    let rollout = story.fleet.roll_out("r1", "v1");
    wait_for("the switch begins", SOON, || (story.victim().times_begun("v1") == 1).then_some(()));
    story.victim().kill();
    story.victim().open_gate(true);
    wait_for("the switch ends without the agent", SOON, || {
        (story.victim().current() == "dir:v1").then_some(())
    });
    story.restart();
    story.fleet.wait_for_rollout(&rollout, "Terminal");
    assert_eq!(story.victim().times_begun("v1"), 1);
    story.check(&GOOD_STEPS);
}

#[test]
fn killed_while_switching_it_waits_for_the_switch_under_way() {
    let story = Story::new(0, Release::SLOW);
    let rollout = story.fleet.roll_out("r1", "v1");
    wait_for("the switch begins", SOON, || (story.victim().times_begun("v1") == 1).then_some(()));
    story.victim().kill();
    story.restart();
    assert_eq!(story.victim().current(), "dir:v0");
    story.victim().open_gate(true);
    story.fleet.wait_for_rollout(&rollout, "Terminal");
    assert_eq!(story.victim().times_begun("v1"), 1);
    story.check(&GOOD_STEPS);
}

#[test]
fn killed_while_soaking_it_soaks_on_and_converges() {
    let story = Story::new(4, Release::GOOD);
    let rollout = story.fleet.roll_out("r1", "v1");
    story.wait_until_said("ActivationCompleted");
    story.victim().kill();
    story.restart();
    story.fleet.wait_for_rollout(&rollout, "Terminal");
    assert_eq!(story.victim().times_begun("v1"), 1);
    story.check(&GOOD_STEPS);
}

#[test]
fn killed_while_rolling_back_it_ends_on_what_ran_before() {
    let story = Story::new(60, Release { activation: Activation::Works, health: Health::AsTheTestSays });
    let victim = story.victim();
    // What ran before takes its time to be switched back to.
    victim.install("v0", Release::SLOW);
    let rollout = story.fleet.roll_out("r1", "v1");
    wait_for("the rollback begins", SOON, || (victim.times_begun("v0") == 1).then_some(()));
    victim.kill();
    victim.open_gate(true);
    story.restart();
    story.fleet.wait_for_rollout(&rollout, "Reverted");
    assert_eq!(victim.current(), "dir:v0");
    assert_eq!(victim.times_begun("v1"), 1, "the sick release was switched to once");
    story.check(&["DispatchAck", "ActivationStarted", "ActivationCompleted", "Failed", "RollbackComplete"]);
}
