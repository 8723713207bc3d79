//! Stories of fleets whose coordinators come and go.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a story that goes wrong is told")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use muster_core::wire::RolloutState;
use muster_sim::World;
use serde_json::json;

use common::reaches;

const MINUTES: Duration = Duration::from_secs(300);

fn policy() -> serde_json::Value {
    json!({ "waves": [
        { "selector": { "hosts": ["h1", "h4"] }, "soakSeconds": 2 },
        { "selector": { "all": true }, "soakSeconds": 0 },
    ], "sustainedFailureSeconds": 3 })
}

/// A fleet whose first `founders` hosts coordinate.
fn fleet(seed: u64, hosts: usize, founders: usize) -> World {
    let mut world = World::new(seed, hosts);
    let document = world.fleet.publish_fleet(world.utc(), founders, policy(), json!([]));
    world.publish("h2", document);
    world.run_until(Duration::from_secs(30), |_| false);
    world
}

/// Names other coordinators, and waits until the log has walked to them.
#[track_caller]
fn walk(world: &mut World, coordinators: &[&str], founders: &[&str]) {
    let document = world.fleet.publish_electorate(world.utc(), coordinators, founders, policy());
    let serial = world.fleet.serial();
    world.publish("h2", document);
    let keys: BTreeSet<[u8; 32]> = coordinators
        .iter()
        .map(|host| *world.fleet.hosts()[&host.parse().unwrap()].public().as_bytes())
        .collect();
    reaches(world, &format!("{coordinators:?} vote and decide"), |world| {
        coordinators.iter().all(|host| {
            let ledger = world.node(host).unwrap().ledger();
            let voters = ledger.group().map(|group| group.voters.iter().map(|it| it.0).collect());
            voters.as_ref() == Some(&keys) && ledger.deciding_serial() == serial
        })
    });
}

#[track_caller]
fn release(world: &mut World, name: &str, hosts: &[&str], seen_by: &[&str]) {
    let document = world.fleet.publish_ref(world.utc(), name, &format!("dir:{name}"));
    world.publish("h2", document);
    reaches(world, &format!("{name} runs on {hosts:?}"), |world| {
        let runs = |host: &&str| world.running(host).is_some_and(|it| it.as_str() == format!("dir:{name}"));
        hosts.iter().all(runs)
            && seen_by.iter().all(|host| {
                world.rollout_state(host, &format!("stable@{name}")) == Some(RolloutState::Terminal)
            })
    });
}

#[test]
fn a_coordinator_is_replaced_and_may_die_then() {
    let mut world = fleet(1, 5, 3);
    release(&mut world, "v1", &["h1", "h2", "h3", "h4", "h5"], &["h1", "h5"]);
    walk(&mut world, &["h2", "h3", "h4"], &["h1", "h2", "h3"]);
    world.kill(&"h3".parse().unwrap());
    world.run_until(MINUTES, |_| false);
    release(&mut world, "v2", &["h1", "h2", "h4", "h5"], &["h2", "h4"]);
}

#[test]
fn all_coordinators_are_replaced() {
    let mut world = fleet(2, 5, 2);
    walk(&mut world, &["h3", "h4", "h5"], &["h1", "h2"]);
    release(&mut world, "v1", &["h1", "h2", "h3", "h4", "h5"], &["h3", "h4", "h5"]);
    walk(&mut world, &["h1", "h3"], &["h1", "h2"]);
    release(&mut world, "v2", &["h1", "h2", "h3", "h4", "h5"], &["h1", "h3"]);
}

#[test]
fn a_single_coordinator_becomes_three() {
    let mut world = fleet(3, 5, 1);
    release(&mut world, "v1", &["h1", "h2", "h3"], &["h1"]);
    walk(&mut world, &["h1", "h2", "h3"], &["h1"]);
    world.kill(&"h1".parse().unwrap());
    reaches(&mut world, "another leads", |world| {
        world.leader().is_some_and(|leader| leader.as_str() != "h1")
    });
}

#[test]
fn a_walk_in_the_middle_of_a_rollout_ends_both() {
    let mut world = fleet(4, 5, 3);
    let document = world.fleet.publish_ref(world.utc(), "v1", "dir:v1");
    world.publish("h2", document);
    world.run_until(Duration::from_secs(1), |_| false);
    walk(&mut world, &["h3", "h4", "h5"], &["h1", "h2", "h3"]);
    release(&mut world, "v2", &["h1", "h2", "h3", "h4", "h5"], &["h3", "h4", "h5"]);
}
