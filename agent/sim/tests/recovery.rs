//! Stories of fleets whose coordinators are lost for good, and which operators recover.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a story that goes wrong is told")]

mod common;

use std::time::Duration;

use muster_core::wire::{HostState, RolloutState};
use muster_sim::World;
use serde_json::{Value, json};

use common::{MINUTES, reaches};

fn policy() -> Value {
    json!({ "waves": [{ "selector": { "all": true }, "soakSeconds": 2 }], "sustainedFailureSeconds": 3 })
}

/// A fleet on v1 whose first three hosts coordinate, and of those only h3 is left.
fn orphaned(seed: u64) -> World {
    let mut world = World::new(seed, 6);
    let document = world.fleet.publish_fleet(world.utc(), 3, policy(), json!([]));
    world.publish("h6", document);
    world.run_until(Duration::from_secs(30), |_| false);
    release(&mut world, "v1");
    reaches(&mut world, "v1 is Terminal", |world| {
        (3..=6).all(|n| world.rollout_state(&format!("h{n}"), "stable@v1") == Some(RolloutState::Terminal))
    });
    for lost in ["h1", "h2"] {
        world.kill(&lost.parse().unwrap());
    }
    world
}

fn release(world: &mut World, name: &str) {
    let document = world.fleet.publish_ref(world.utc(), name, &format!("dir:{name}"));
    world.publish("h6", document);
}

/// Operators name other coordinators, without asking those of now.
fn recover(world: &mut World, coordinators: &[&str], lost: &[&str], budgets: Value) {
    let document = world.fleet.publish_recovery(world.utc(), coordinators, lost, policy(), budgets);
    world.publish("h6", document);
}

fn run_on(world: &World, hosts: &[&str], closure: &str) -> bool {
    hosts.iter().all(|host| world.running(host).is_some_and(|it| it.as_str() == closure))
}

#[test]
fn operators_recover_a_fleet_that_lost_a_majority_of_its_coordinators() {
    let mut world = orphaned(1);
    release(&mut world, "v2");
    world.run_until(MINUTES, |_| false);
    assert!(run_on(&world, &["h3", "h4", "h5", "h6"], "dir:v1"), "there is no quorum");
    recover(&mut world, &["h3", "h4", "h5"], &["h1", "h2"], json!([]));
    world.run_until(Duration::from_secs(20), |_| false);
    release(&mut world, "v3");
    reaches(&mut world, "v3 is everywhere", |world| {
        run_on(world, &["h3", "h4", "h5", "h6"], "dir:v3")
            && ["h3", "h4", "h5", "h6"]
                .iter()
                .all(|host| world.rollout_state(host, "stable@v3") == Some(RolloutState::Terminal))
    });
    let node = world.node("h6").unwrap();
    assert!(node.alarms().any(|alarm| alarm.contains("recovered the fleet")));
    // The new coordinators come back from their disks, and one of them may be away.
    for host in ["h3", "h4", "h5"] {
        world.kill(&host.parse().unwrap());
        world.start(&host.parse().unwrap());
    }
    world.run_until(Duration::from_secs(30), |_| false);
    world.kill(&"h4".parse().unwrap());
    world.run_until(MINUTES, |_| false);
    release(&mut world, "v4");
    reaches(&mut world, "v4 is everywhere", |world| run_on(world, &["h3", "h5", "h6"], "dir:v4"));
    world.check().unwrap();
}

#[test]
fn coordinator_of_the_old_log_that_comes_back_takes_part_in_nothing_of_it() {
    let mut world = orphaned(2);
    recover(&mut world, &["h2", "h3", "h4"], &["h1"], json!([]));
    world.run_until(Duration::from_secs(20), |_| false);
    release(&mut world, "v2");
    reaches(&mut world, "v2 is everywhere else", |world| run_on(world, &["h3", "h4", "h5", "h6"], "dir:v2"));
    // Nobody told it: it meets the others with the log of before.
    world.start(&"h2".parse().unwrap());
    reaches(&mut world, "it has learnt it", |world| {
        world.host_state("h2", "stable@v2") == Some(HostState::Converged)
            && world.rollout_state("h2", "stable@v2") == Some(RolloutState::Terminal)
    });
    world.kill(&"h3".parse().unwrap());
    world.run_until(MINUTES, |_| false);
    release(&mut world, "v3");
    reaches(&mut world, "it decides with the others", |world| {
        run_on(world, &["h2", "h4", "h5", "h6"], "dir:v3")
    });
    world.check().unwrap();
}

#[test]
fn host_that_has_not_shown_that_it_holds_the_recovery_counts_as_in_flight() {
    let mut world = orphaned(3);
    let away = "h5".parse().unwrap();
    world.kill(&away);
    let one_at_a_time = json!([{ "selector": { "all": true }, "maxInFlight": 1 }]);
    recover(&mut world, &["h3", "h4", "h6"], &["h1", "h2"], one_at_a_time);
    world.run_until(Duration::from_secs(60), |_| false);
    release(&mut world, "v2");
    world.run_until(MINUTES, |_| false);
    assert!(run_on(&world, &["h3", "h4", "h6"], "dir:v1"), "h5 may be in the middle of anything");
    world.start(&away);
    reaches(&mut world, "v2 is everywhere", |world| run_on(world, &["h3", "h4", "h5", "h6"], "dir:v2"));
    world.check().unwrap();
}

#[test]
fn host_in_flight_when_the_coordinators_are_lost_ends_by_itself_and_keeps_its_slot_until_then() {
    let mut world = World::new(4, 6);
    let slow = json!({
        "waves": [{ "selector": { "hosts": ["h5"] }, "soakSeconds": 120 }, { "selector": { "all": true }, "soakSeconds": 0 }],
        "sustainedFailureSeconds": 3,
    });
    let document = world.fleet.publish_fleet(world.utc(), 3, slow, json!([]));
    world.publish("h6", document);
    world.run_until(Duration::from_secs(30), |_| false);
    release(&mut world, "v1");
    reaches(&mut world, "h5 soaks", |world| world.host_state("h5", "stable@v1") == Some(HostState::Soaking));
    world.kill(&"h1".parse().unwrap());
    world.kill(&"h2".parse().unwrap());
    let one_at_a_time = json!([{ "selector": { "all": true }, "maxInFlight": 1 }]);
    recover(&mut world, &["h3", "h4", "h6"], &["h1", "h2"], one_at_a_time);
    world.run_until(Duration::from_secs(20), |_| false);
    release(&mut world, "v2");
    world.run_until(Duration::from_secs(60), |_| false);
    assert!(run_on(&world, &["h3", "h4", "h6"], "dir:v0"), "h5 is in flight");
    reaches(&mut world, "v2 is everywhere", |world| run_on(world, &["h3", "h4", "h5", "h6"], "dir:v2"));
    world.check().unwrap();
}
