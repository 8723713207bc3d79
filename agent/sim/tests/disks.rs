//! Stories of coordinators whose disks are lost, put back in time or cloned.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a story that goes wrong is told")]

mod common;
#[path = "common/release.rs"]
mod release;

use std::time::Duration;

use muster_core::node::Node;
use muster_sim::World;
use serde_json::json;

use common::{MINUTES, reaches};
use release::release;

fn policy() -> serde_json::Value {
    json!({ "waves": [{ "selector": { "all": true }, "soakSeconds": 2 }], "sustainedFailureSeconds": 3 })
}

/// A fleet whose first three hosts coordinate and whose first release is out.
fn fleet(seed: u64) -> World {
    let mut world = World::new(seed, 5);
    let document = world.fleet.publish_fleet(world.utc(), 3, policy(), json!([]));
    world.publish("h5", document);
    world.run_until(Duration::from_secs(30), |_| false);
    release(&mut world, "v1");
    world
}

fn readmit(world: &mut World, host: &str) {
    let command = world.fleet.sign_command(world.utc(), json!({ "verb": "readmit", "host": host }));
    world.publish("h5", command);
    world.run_until(Duration::from_secs(1), |_| false);
}

/// A coordinator that does not lead.
fn follower(world: &World) -> String {
    let leader = world.leader().unwrap();
    ["h1", "h2", "h3"].into_iter().find(|host| *host != leader.as_str()).unwrap().to_owned()
}

fn is_out(world: &World, host: &str) -> bool {
    world.node(host).is_some_and(Node::awaits_readmission)
}

/// Whether a host votes in the log as the readmitted member that it is, and the old one is gone.
fn votes_again(world: &World, host: &str) -> bool {
    let (id, leader) = (host.parse().unwrap(), world.leader());
    let Some(node) = leader.and_then(|leader| world.node(leader.as_str())) else { return false };
    let key = world.fleet.hosts()[&id].public();
    let group = node.ledger().group().unwrap();
    let newest = node.ledger().newest_readmission(&id, world.utc());
    newest.is_some()
        && node.ledger().readmission(&id).map(|(command, _)| command) == newest
        && group.voters.contains(&node.ledger().member_of(&key, &id))
        && group.voters.len() == 3
}

#[track_caller]
fn shown_everywhere(world: &mut World, host: &str) {
    let says = format!("sign a readmit command for host {host}");
    reaches(world, "everybody shows what to do", |world| {
        (1..=5).all(|n| world.node(&format!("h{n}")).unwrap().alarms().any(|alarm| alarm.contains(&says)))
    });
    let node = world.node("h5").unwrap();
    assert_eq!(node.quorum(world.mono("h5")).missing, [host.parse().unwrap()]);
}

/// The others go on without it; readmitted, it counts like them.
#[track_caller]
fn comes_back(world: &mut World, host: &str) {
    shown_everywhere(world, host);
    release(world, "v2");
    assert!(is_out(world, host), "nobody has readmitted it");
    readmit(world, host);
    reaches(world, "it votes again", |world| votes_again(world, host));
    assert!(!is_out(world, host));
    let says = format!("readmit command for host {host}");
    reaches(world, "nothing is left to do", |world| {
        (1..=5).all(|n| !world.node(&format!("h{n}")).unwrap().alarms().any(|alarm| alarm.contains(&says)))
    });
    // Without it there would be no quorum.
    let other = ["h1", "h2", "h3"].into_iter().find(|other| *other != host).unwrap();
    world.kill(&other.parse().unwrap());
    world.run_until(MINUTES, |_| false);
    let targets = world.fleet.publish_ref(world.utc(), "v3", "dir:v3");
    world.publish("h5", targets);
    reaches(world, "v3 runs on those who are there", |world| {
        (1..=5)
            .map(|n| format!("h{n}"))
            .filter(|host| host != other)
            .all(|host| world.running(&host).is_some_and(|it| it.as_str() == "dir:v3"))
    });
    world.check().unwrap();
}

#[test]
fn coordinator_that_lost_its_disk_takes_no_part_until_it_is_readmitted() {
    let mut world = fleet(1);
    let host = follower(&world);
    world.lose_disk(&host.parse().unwrap());
    reaches(&mut world, "it finds out", |world| is_out(world, &host));
    comes_back(&mut world, &host);
}

#[test]
fn leader_that_lost_its_disk_is_replaced_and_comes_back_when_it_is_readmitted() {
    let mut world = fleet(2);
    let host = world.leader().unwrap().to_string();
    world.lose_disk(&host.parse().unwrap());
    reaches(&mut world, "it finds out", |world| is_out(world, &host));
    comes_back(&mut world, &host);
}

#[test]
fn coordinator_whose_disk_was_put_back_takes_no_part_until_it_is_readmitted() {
    let mut world = fleet(3);
    let host = follower(&world);
    world.keep_disk(&host.parse().unwrap());
    release(&mut world, "between");
    world.put_disk_back();
    reaches(&mut world, "it finds out", |world| is_out(world, &host));
    world.run_until(Duration::from_secs(1), |_| false);
    // A start of the agent changes nothing about it.
    world.kill(&host.parse().unwrap());
    world.start(&host.parse().unwrap());
    assert!(is_out(&world, &host));
    comes_back(&mut world, &host);
}

#[test]
fn coordinator_may_lose_its_disk_again_after_it_was_readmitted() {
    let mut world = fleet(4);
    let host = follower(&world);
    for name in ["a", "b", "c"] {
        world.lose_disk(&host.parse().unwrap());
        reaches(&mut world, "it finds out", |world| is_out(world, &host));
        release(&mut world, name);
        readmit(&mut world, &host);
        reaches(&mut world, "it votes again", |world| votes_again(world, &host));
    }
    world.check().unwrap();
}

#[test]
fn operators_may_readmit_a_coordinator_before_it_comes_back() {
    let mut world = fleet(5);
    let host = follower(&world);
    world.kill(&host.parse().unwrap());
    readmit(&mut world, &host);
    world.run_until(Duration::from_secs(20), |_| false);
    world.lose_disk(&host.parse().unwrap());
    reaches(&mut world, "it votes again", |world| votes_again(world, &host));
    release(&mut world, "v2");
    world.check().unwrap();
}

#[test]
fn readmission_of_a_coordinator_that_is_well_changes_nothing_but_its_name() {
    let mut world = fleet(6);
    readmit(&mut world, "h2");
    reaches(&mut world, "it votes under its new name", |world| votes_again(world, "h2"));
    release(&mut world, "v2");
    world.check().unwrap();
}

#[test]
fn cloned_coordinator_stops_and_the_others_go_on() {
    let mut world = fleet(7);
    let host = follower(&world);
    world.clone_machine(&host.parse().unwrap());
    world.run_until(MINUTES, |_| false);
    let document = world.fleet.publish_ref(world.utc(), "v2", "dir:v2");
    world.publish("h5", document);
    let others: Vec<String> = (1..=5).map(|n| format!("h{n}")).filter(|other| *other != host).collect();
    reaches(&mut world, "the others converge", |world| {
        others.iter().all(|other| world.running(other).is_some_and(|it| it.as_str() == "dir:v2"))
    });
    world.check().unwrap();
}

#[test]
fn leader_whose_disk_is_full_hands_over_at_once_and_does_not_lead_until_there_is_room() {
    let mut world = fleet(8);
    let leader = world.leader().unwrap();
    world.fill_disk(&leader, Duration::from_secs(120));
    let document = world.fleet.publish_ref(world.utc(), "v2", "dir:v2");
    world.publish("h5", document);
    let since = world.utc();
    reaches(&mut world, "another leads", |world| world.leader().is_some_and(|other| other != leader));
    let took = world.utc().signed_duration_since(since);
    assert!(took < chrono::TimeDelta::milliseconds(200), "nobody waited for its silence, it took {took}");
    world.run_until(Duration::from_secs(100), |_| false);
    assert_ne!(world.leader(), Some(leader));
}
