//! Stories of hosts whose wall clock jumps while they soak.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a story that goes wrong is told")]

mod common;

use std::time::Duration;

use chrono::TimeDelta;
use muster_core::id::HostId;
use muster_core::wire::HostState;
use muster_sim::World;
use serde_json::json;

use common::reaches;

fn policy() -> serde_json::Value {
    json!({ "waves": [{ "selector": { "all": true }, "soakSeconds": 10 }], "sustainedFailureSeconds": 3 })
}

/// A fleet whose fourth host has begun to soak.
fn soaking(seed: u64) -> (World, HostId) {
    let mut world = World::new(seed, 4);
    let document = world.fleet.publish_fleet(world.utc(), 3, policy(), json!([]));
    world.publish("h1", document);
    world.run_until(Duration::from_secs(30), |_| false);
    let document = world.fleet.publish_ref(world.utc(), "v1", "dir:v1");
    world.publish("h1", document);
    reaches(&mut world, "h4 soaks", |world| state(world) == Some(HostState::Soaking));
    world.run_until(Duration::from_secs(6), |_| false);
    (world, "h4".parse().unwrap())
}

fn state(world: &World) -> Option<HostState> {
    world.host_state("h4", "stable@v1")
}

#[test]
fn host_that_sees_its_clock_jump_soaks_again() {
    let (mut world, host) = soaking(1);
    world.turn_clock(&host, TimeDelta::seconds(300));
    world.run_until(Duration::from_secs(9), |_| false);
    assert_eq!(state(&world), Some(HostState::Soaking));
    reaches(&mut world, "h4 has soaked", |world| state(world) == Some(HostState::Converged));
    world.check().unwrap();
}

#[test]
fn jump_that_is_taken_back_before_anybody_looked_changes_nothing() {
    let (mut world, host) = soaking(2);
    world.turn_clock(&host, TimeDelta::seconds(300));
    world.turn_clock(&host, TimeDelta::seconds(-300));
    world.run_until(Duration::from_secs(5), |world| state(world) == Some(HostState::Converged));
    assert_eq!(state(&world), Some(HostState::Converged));
    world.run_until(Duration::from_secs(1), |_| false);
    world.check().unwrap();
}

#[test]
fn jump_after_the_end_of_a_soak_does_not_take_it_back() {
    let (mut world, host) = soaking(3);
    world.slow_disk(&host, Duration::from_secs(20));
    reaches(&mut world, "h4 has soaked", |world| state(world) == Some(HostState::Converged));
    // What it says of itself is on its way to the disk.
    world.turn_clock(&host, TimeDelta::seconds(300));
    world.run_until(Duration::from_secs(2), |_| false);
    assert_eq!(state(&world), Some(HostState::Converged));
    world.check().unwrap();
}
