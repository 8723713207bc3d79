//! Stories of fleets that give up what is over.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a story that goes wrong is told")]

mod common;

use std::time::Duration;

use muster_core::wire::RolloutState;
use muster_sim::World;
use serde_json::json;

use common::{MINUTES, reaches};

const HOSTS: usize = 5;
/// How long the hosts of these stories keep what is over.
const RETENTION: Duration = Duration::from_secs(600);

fn hosts() -> impl Iterator<Item = String> {
    (1..=HOSTS).map(|n| format!("h{n}"))
}

fn release(world: &mut World, name: &str) {
    let document = world.fleet.publish_ref(world.utc(), name, &format!("dir:{name}"));
    world.publish("h1", document);
    let rollout = format!("stable@{name}");
    reaches(world, &format!("{name} is Terminal"), |world| {
        hosts().all(|host| world.rollout_state(&host, &rollout) == Some(RolloutState::Terminal))
    });
}

/// A fleet of which three hosts coordinate, after three releases.
fn fleet(seed: u64) -> World {
    let mut world = World::keeping(seed, HOSTS, RETENTION);
    let policy = json!({ "waves": [{ "selector": { "all": true }, "soakSeconds": 0 }] });
    let document = world.fleet.publish_fleet(world.utc(), 3, policy, json!([]));
    world.publish("h1", document);
    world.run_until(Duration::from_secs(30), |_| false);
    for name in ["v1", "v2", "v3"] {
        release(&mut world, name);
    }
    world
}

/// Whether no host knows anything of the older releases any more, nor replays what it learnt of them.
fn has_given_up(world: &World) -> bool {
    hosts().all(|host| {
        let gone = ["stable@v1", "stable@v2"].iter().all(|rollout| {
            world.rollout_state(&host, rollout).is_none() && world.host_state(&host, rollout).is_none()
        });
        gone && world.kept_from(&host) > (0, 0)
    })
}

#[test]
fn what_is_over_is_given_up_by_every_host_and_a_start_goes_on_from_a_checkpoint() {
    let mut world = fleet(1);
    world.run_until(RETENTION / 2, |_| false);
    assert!(hosts().all(|host| world.rollout_state(&host, "stable@v1") == Some(RolloutState::Terminal)));
    assert!(world.run_until(RETENTION * 3, has_given_up), "{:?}", world.kept_from("h5"));
    for host in hosts() {
        assert_eq!(world.rollout_state(&host, "stable@v3"), Some(RolloutState::Terminal), "the newest stays");
        let (base, first) = world.kept_from(&host);
        assert_eq!(base, first + 1, "{host} deletes what lies before its checkpoint, but for the last");
    }
    world.check_views().unwrap();
    for host in hosts() {
        let id = host.parse().unwrap();
        world.kill(&id);
        world.start(&id);
    }
    release(&mut world, "v4");
    world.run_until(MINUTES, |_| false);
    world.check_views().unwrap();
    world.check().unwrap();
}

#[test]
fn a_host_that_lost_its_disk_learns_all_that_counts_from_those_who_gave_things_up() {
    let mut world = fleet(2);
    assert!(world.run_until(RETENTION * 3, has_given_up));
    world.lose_disk(&"h5".parse().unwrap());
    world.run_until(MINUTES, |_| false);
    release(&mut world, "v4");
    world.run_until(MINUTES, |_| false);
    world.check_views().unwrap();
    world.check().unwrap();
}
