//! How fast virtual time passes: a healthy fleet with the agent's own rhythm, released to now and then.

use std::time::Duration;

use serde_json::json;

use crate::world::{Habits, World};

/// How often the agent speaks, pulls and probes where nobody says otherwise.
const HABITS: Habits = Habits {
    heartbeat: Duration::from_secs(30),
    sync_interval: Duration::from_secs(10),
    probe_interval: Duration::from_secs(10),
    real_signatures: false,
    retention: Duration::from_secs(muster_core::rollout::RETENTION_SECS),
    snapshot_entries: muster_core::node::SNAPSHOT_ENTRIES,
};
/// In larger fleets only the coordinators are told everything, and the others what concerns them.
const TOLD_EVERYTHING_MAX: usize = 100;
/// How many coordinate.
const COORDINATORS: usize = 3;
/// Between two releases.
const RELEASES: Duration = Duration::from_secs(2 * 3600);

/// What passed.
#[derive(Debug, Clone, Copy)]
pub struct Passed {
    /// Virtual time.
    pub time: Duration,
    /// Steps that nodes took.
    pub steps: u64,
    /// Rollouts that ended well.
    pub rollouts: usize,
}

/// A fleet of `hosts`, three of which coordinate, gets a release in three waves every two hours: a canary that soaks for
/// ten minutes, a tenth of the fleet that soaks for five, and the rest with at most a fifth of it in flight.
pub fn day(seed: u64, hosts: usize, time: Duration) -> Passed {
    let mut world = World::asleep(seed, hosts, HABITS);
    let coordinators = COORDINATORS.min(hosts);
    world.audience = (hosts > TOLD_EVERYTHING_MAX)
        .then(|| (0..world.hosts.len()).map(|host| host < coordinators).collect());
    world.wake();
    let tenth: Vec<String> = (2..2 + hosts.div_ceil(10)).map(|number| format!("h{number}")).collect();
    let policy = json!({
        "waves": [
            { "selector": { "hosts": ["h1"] }, "soakMinutes": 10 },
            { "selector": { "hosts": tenth }, "soakMinutes": 5 },
            { "selector": { "all": true }, "soakMinutes": 0 },
        ],
    });
    let budgets = json!([{ "selector": { "all": true }, "maxInFlightPct": 20 }]);
    let fleet = world.fleet.publish_fleet(world.utc(), coordinators, policy, budgets);
    world.publish("h1", fleet);
    let mut passed = Duration::from_secs(60);
    world.run_until(passed, |_| false);
    let mut releases = Vec::new();
    while passed < time {
        let name = format!("v{}", releases.len() + 1);
        let release = world.fleet.publish_ref(world.utc(), &name, &format!("dir:{name}"));
        world.publish("h1", release);
        releases.push(format!("stable@{name}"));
        let until_next = RELEASES.min(time - passed);
        world.run_until(until_next, |_| false);
        passed += until_next;
    }
    let ended =
        |id: &&String| world.rollout_state("h1", id) == Some(muster_core::wire::RolloutState::Terminal);
    Passed { time: passed, steps: world.steps(), rollouts: releases.iter().filter(ended).count() }
}
