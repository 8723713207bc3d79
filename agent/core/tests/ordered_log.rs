//! The ordered log under every fault that it must survive, in virtual time, one seed per run.

#[path = "ordered_log/check.rs"]
mod check;
#[path = "ordered_log/member.rs"]
mod member;
#[path = "ordered_log/network.rs"]
mod network;
#[path = "ordered_log/random.rs"]
mod random;
#[path = "ordered_log/world.rs"]
mod world;

use network::Weather;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::{Scenario, World};

/// Seeds of each scenario; the environment's `MUSTER_SEEDS=a..b` asks for others.
const SEEDS: Range<u64> = 0..200;

const RAW: Scenario = Scenario {
    name: "raw network",
    members: (1, 7),
    fault_ticks: 1_000,
    loss_percent_max: 50,
    delay_ticks_max: 20,
    write_ticks_max: 2,
    batch_max: 64,
    burst_max: 4,
    partition: 0,
    crash: 0,
    majority_crash: 0,
    pause: 0,
    hand_over: 0,
    disconnect: 0,
    hunt: false,
    pace: 40,
};
const PARTITIONS: Scenario = Scenario {
    name: "partitions",
    members: (2, 7),
    fault_ticks: 2_500,
    loss_percent_max: 10,
    partition: 70,
    pace: 250,
    ..RAW
};
const FLAPPING: Scenario = Scenario { name: "flapping", fault_ticks: 1_000, pace: 15, ..PARTITIONS };
const CRASHES: Scenario = Scenario {
    name: "crashes inside writes",
    loss_percent_max: 20,
    delay_ticks_max: 5,
    write_ticks_max: 6,
    crash: 50,
    pace: 60,
    ..RAW
};
const MAJORITY_CRASHES: Scenario =
    Scenario { name: "majority crashes", crash: 10, majority_crash: 30, ..CRASHES };
const PAUSES: Scenario = Scenario { name: "pauses", members: (2, 7), pause: 40, delay_ticks_max: 5, ..RAW };
const ALONE: Scenario = Scenario { name: "one member", members: (1, 1), ..CRASHES };
const HAND_OVERS: Scenario = Scenario {
    name: "hand-overs",
    members: (2, 7),
    hand_over: 40,
    disconnect: 40,
    loss_percent_max: 20,
    ..RAW
};
const BATCHES: Scenario = Scenario {
    name: "small batches",
    members: (3, 5),
    loss_percent_max: 20,
    delay_ticks_max: 6,
    write_ticks_max: 3,
    batch_max: 3,
    burst_max: 12,
    partition: 40,
    crash: 30,
    pace: 40,
    ..RAW
};
const HUNT: Scenario = Scenario {
    name: "leaders struck soon after their election",
    members: (3, 5),
    fault_ticks: 3_000,
    loss_percent_max: 5,
    batch_max: 2,
    burst_max: 8,
    partition: 60,
    crash: 40,
    pace: 120,
    hunt: true,
    ..BATCHES
};
const EVERYTHING: Scenario = Scenario {
    name: "everything",
    write_ticks_max: 4,
    partition: 20,
    crash: 15,
    majority_crash: 3,
    pause: 10,
    hand_over: 10,
    disconnect: 10,
    batch_max: 16,
    burst_max: 8,
    ..RAW
};

fn seeds() -> Range<u64> {
    let asked = std::env::var("MUSTER_SEEDS").ok();
    let parsed = asked.as_deref().and_then(|range| {
        let (first, end) = range.split_once("..")?;
        Some(first.parse().ok()?..end.parse().ok()?)
    });
    parsed.unwrap_or(SEEDS)
}

/// Runs one seed; a panic inside the log is a violation like any other.
fn outcome(run: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err("the log panicked; see above".to_owned()))
}

fn run_seed(scenario: Scenario, seed: u64) -> Result<(), String> {
    outcome(|| {
        let mut world = World::new(scenario, seed, |_| {});
        world.run().map_err(|violation| format!("tick {}: {violation}", world.tick))
    })
}

fn check(scenario: Scenario) {
    for seed in seeds() {
        let result = run_seed(scenario, seed);
        assert!(result.is_ok(), "MUSTER_SEEDS={seed}..{} {}: {result:?}", seed + 1, scenario.name);
    }
}

#[test]
fn loss_doubling_and_reordering_harm_nothing() {
    check(RAW);
}

#[test]
fn partitions_of_every_shape_harm_nothing() {
    check(PARTITIONS);
}

#[test]
fn flapping_links_harm_nothing() {
    check(FLAPPING);
}

#[test]
fn crashes_between_any_two_operations_harm_nothing() {
    check(CRASHES);
}

#[test]
fn crashes_of_a_majority_harm_nothing() {
    check(MAJORITY_CRASHES);
}

#[test]
fn pauses_harm_nothing() {
    check(PAUSES);
}

#[test]
fn one_member_alone_keeps_what_it_committed() {
    check(ALONE);
}

#[test]
fn hand_overs_and_closed_connections_harm_nothing() {
    check(HAND_OVERS);
}

#[test]
fn small_batches_of_many_entries_harm_nothing() {
    check(BATCHES);
}

#[test]
fn leaders_struck_soon_after_their_election_harm_nothing() {
    check(HUNT);
}

#[test]
fn all_faults_together_harm_nothing() {
    check(EVERYTHING);
}

#[test]
fn healthy_group_never_changes_its_leader() {
    for seed in seeds() {
        let result = outcome(|| stay_healthy(seed));
        assert!(result.is_ok(), "MUSTER_SEEDS={seed}..{} healthy: {result:?}", seed + 1);
    }
}

/// A group without faults but up to 10 % loss, for 10,000 ticks after its first election.
fn stay_healthy(seed: u64) -> Result<(), String> {
    let mut world = World::new(Scenario { write_ticks_max: 1, members: (1, 7), ..RAW }, seed, |_| {});
    let loss_percent = world.random.between(0, 10);
    world.network.weather = Weather { loss_percent, ..Weather::CALM };
    while world.leader().is_none() && world.tick < 1_000 {
        world.step(1_000)?;
    }
    let first = world.leader().ok_or("nobody leads after 1,000 ticks")?;
    let end = world.tick + 10_000;
    while world.tick < end {
        world.step(world.tick + 1_000)?;
        if world.leader() != Some(first) {
            return Err(format!("tick {}: the leader changed: {}", world.tick, world.summary()));
        }
        if world.random.permille(20) {
            world.propose_one(first)?;
        }
    }
    Ok(())
}

#[test]
fn one_seed_gives_one_run() {
    for seed in seeds().take(20) {
        let trace = || {
            let mut world = World::new(EVERYTHING, seed, |_| {});
            let result = world.run();
            (result, world.tick, world.network.sent, world.checker.committed)
        };
        assert!(trace() == trace(), "seed {seed} differs from itself");
    }
}

#[test]
fn faults_reach_what_they_are_for() {
    for (scenario, leaders_min, committed_min) in
        [(PARTITIONS, 2, 30), (CRASHES, 2, 15), (HUNT, 8, 40), (MAJORITY_CRASHES, 3, 15), (EVERYTHING, 3, 30)]
    {
        let (runs, mut leaders, mut committed) = (20, 0, 0);
        for seed in 0..runs as u64 {
            let mut world = World::new(scenario, seed, |_| {});
            assert_eq!(world.run(), Ok(()), "seed {seed} of {}", scenario.name);
            leaders += world.checker.leaders.len();
            committed += world.checker.committed.len();
        }
        let enough = leaders >= runs * leaders_min && committed >= runs * committed_min;
        assert!(enough, "{}: {leaders} leaders and {committed} entries in {runs} runs", scenario.name);
    }
}

#[cfg(feature = "planted")]
mod planted {
    use super::*;
    use muster_core::coordination::log::Planted;

    /// The seed that finds the bug, if one of 500 does.
    fn found_by(bug: Planted, scenario: Scenario) -> Option<(u64, String)> {
        (0..500).find_map(|seed| {
            let result = outcome(|| {
                let mut world = World::new(scenario, seed, |config| config.planted = Some(bug));
                world.send_before_store = bug == Planted::SendBeforeStore;
                world.run()
            });
            result.err().map(|violation| (seed, violation))
        })
    }

    #[test]
    fn every_planted_bug_is_caught() {
        let bugs = [
            (Planted::SendBeforeStore, CRASHES),
            (Planted::CountOwnMatchEarly, ALONE),
            (Planted::VoteTwice, RAW),
            (Planted::CommitOldTerm, HUNT),
            (Planted::SkipElectability, PARTITIONS),
            (Planted::DuplicateAckStorm, RAW),
        ];
        let missed: Vec<_> =
            bugs.into_iter().filter(|(bug, scenario)| found_by(*bug, *scenario).is_none()).collect();
        assert!(missed.is_empty(), "not found: {missed:?}");
    }
}
