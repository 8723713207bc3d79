//! Stories of coordinators whose log was compacted.

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

const COORDINATORS: [&str; 3] = ["h1", "h2", "h3"];
/// After how many entries the coordinators of these stories ask for a snapshot.
const ENTRIES: u64 = 12;
const YEARS: Duration = Duration::from_secs(1_000_000_000);

/// A fleet whose first three hosts coordinate and whose first release is out.
fn fleet(seed: u64, retention: Duration) -> World {
    let mut world = World::compacting(seed, 5, ENTRIES, retention);
    let policy = json!({ "waves": [{ "selector": { "all": true }, "soakSeconds": 2 }] });
    let document = world.fleet.publish_fleet(world.utc(), 3, policy, json!([]));
    world.publish("h5", document);
    world.run_until(Duration::from_secs(30), |_| false);
    release(&mut world, "v1");
    world
}

fn compacted(world: &World, host: &str) -> u64 {
    world.node(host).and_then(Node::compacted).unwrap_or_default()
}

fn applied(world: &World, host: &str) -> u64 {
    world.node(host).map_or(0, |node| node.ledger().applied())
}

/// A coordinator that does not lead.
fn follower(world: &World) -> &'static str {
    let leader = world.leader().unwrap();
    COORDINATORS.into_iter().find(|host| *host != leader.as_str()).unwrap()
}

/// A machine goes down, and everybody knows it: what is released now does not wait for it.
fn goes_down(world: &mut World, host: &str) {
    world.kill(&host.parse().unwrap());
    world.run_until(Duration::from_secs(60), |_| false);
}

/// Releases until those who are up have put a snapshot in the place of more than the one that is down has.
fn grow(world: &mut World, prefix: &str, beyond: u64) {
    for number in 0..12 {
        release(world, &format!("{prefix}{number}"));
        let leader = world.leader().unwrap();
        if compacted(world, leader.as_str()) > beyond {
            return;
        }
    }
    panic!("the log was not compacted beyond entry {beyond}");
}

/// Whether every coordinator has come as far as the one that came farthest.
fn all_follow(world: &World) -> bool {
    let farthest = COORDINATORS.into_iter().map(|host| applied(world, host)).max();
    COORDINATORS.into_iter().all(|host| Some(applied(world, host)) == farthest)
}

#[test]
fn coordinator_that_missed_what_was_compacted_takes_the_snapshot_and_leads_with_it() {
    let mut world = fleet(1, YEARS);
    let late = follower(&world);
    let id = late.parse().unwrap();
    let knew = applied(&world, late);
    goes_down(&mut world, late);
    grow(&mut world, "a", knew);
    world.start(&id);
    reaches(&mut world, "all follow", all_follow);
    assert!(world.installed() >= 1, "it took a snapshot in place of what is gone");
    assert_eq!(world.logs_differ(), None);
    // One of the others goes: nothing is decided now without the one that was late, nor after it has started again.
    let other = COORDINATORS.into_iter().find(|host| *host != late).unwrap();
    goes_down(&mut world, other);
    release(&mut world, "b");
    world.kill(&id);
    world.start(&id);
    release(&mut world, "c");
    assert_eq!(world.logs_differ(), None);
    world.check_views().unwrap();
    world.check().unwrap();
}

#[test]
fn coordinator_with_a_new_disk_learns_the_log_from_a_snapshot_and_the_rest_from_what_was_signed() {
    let mut world = fleet(2, YEARS);
    grow(&mut world, "a", 0);
    let lost = follower(&world);
    let id = lost.parse().unwrap();
    world.kill(&id);
    world.lose_disk(&id);
    world.start(&id);
    world.run_until(Duration::from_secs(30), |_| false);
    let command = world.fleet.sign_command(world.utc(), json!({ "verb": "readmit", "host": lost }));
    world.publish("h5", command);
    reaches(&mut world, "it follows", |world| applied(world, lost) > 0 && all_follow(world));
    assert!(world.installed() >= 1);
    let other = COORDINATORS.into_iter().find(|host| *host != lost).unwrap();
    reaches(&mut world, "it votes", |world| {
        let leader = world.leader().and_then(|leader| world.node(leader.as_str()));
        leader.and_then(|node| node.ledger().group()).is_some_and(|group| {
            group.voters.len() == 3
                && group.learners.is_empty()
                && world.node(lost).is_some_and(Node::is_settled)
        })
    });
    goes_down(&mut world, other);
    release(&mut world, "b");
    assert_eq!(world.logs_differ(), None);
    world.check().unwrap();
}

#[test]
fn entries_leave_the_disk_once_a_snapshot_stands_for_them_and_no_history_names_them() {
    let retention = Duration::from_secs(600);
    let mut world = fleet(3, retention);
    grow(&mut world, "a", 0);
    let shrunk = |world: &World| {
        COORDINATORS.into_iter().all(|host| {
            let (held, last) = world.entries_on_disk(host);
            compacted(world, host) > 0 && (held as u64) <= last - compacted(world, host)
        })
    };
    assert!(!shrunk(&world), "what is kept can still be looked back at");
    assert!(world.run_until(retention * 3, shrunk), "{:?}", world.entries_on_disk("h1"));
    for host in COORDINATORS {
        let id = host.parse().unwrap();
        world.kill(&id);
        world.start(&id);
    }
    release(&mut world, "b");
    world.run_until(MINUTES, all_follow);
    world.check_views().unwrap();
    assert_eq!(world.logs_differ(), None);
    world.check().unwrap();
}
