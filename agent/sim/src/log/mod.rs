//! The ordered log alone, under every fault that it must survive: groups in virtual time, one seed per run.
//!
//! The members run the shipped log; network and disks are stand-ins that lose, double, reorder, cut and tear. After every
//! step it is checked that what was committed is one list everywhere, that a quorum's disks hold it, and that each term
//! has one leader; after the faults, that everything proposed is committed on every voter that the operators want.

mod check;
mod member;
mod mutant;
mod network;
mod scenario;
mod strike;
mod world;

pub use mutant::{MUTANTS, Mutant, caught_by};

use muster_core::coordination::log::Config;
use network::Weather;
use scenario::{ALL, RAW};
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::{Scenario, World};

/// The scenario without faults.
const HEALTHY: &str = "healthy";

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What was wrong, if anything was.
    pub violation: Option<String>,
    /// How long it took, in ticks.
    pub ticks: u64,
    /// How many of them it took after the faults until everything was committed on every voter.
    pub recovery: Option<u64>,
    /// How many messages were sent.
    pub sent: u64,
    /// How many leaders there were.
    pub leaders: usize,
    /// How many entries were committed.
    pub committed: usize,
    /// How many of them changed the electorate.
    pub steps: usize,
    /// How often a snapshot was installed.
    pub installed: u64,
    /// How many members were readmitted after their disk was put back.
    pub readmitted: usize,
    digest: u64,
}

/// The names of the scenarios.
pub fn scenarios() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|scenario| scenario.name).chain([HEALTHY])
}

/// Runs one seed of a scenario; nothing if none has that name.
#[must_use]
pub fn run(scenario: &str, seed: u64) -> Option<Report> {
    if scenario == HEALTHY {
        return Some(report(RAW, seed, false, |_| {}, stay_healthy));
    }
    let scenario = ALL.iter().find(|it| it.name == scenario)?;
    Some(report(*scenario, seed, false, |_| {}, World::run))
}

/// Runs one seed; a panic inside the log is a violation like any other.
fn report(
    scenario: Scenario,
    seed: u64,
    send_before_store: bool,
    adjust: impl Fn(&mut Config),
    run: impl FnOnce(&mut World) -> Result<(), String>,
) -> Report {
    let mut world = World::new(scenario, seed, adjust);
    world.send_before_store = send_before_store;
    let result = catch_unwind(AssertUnwindSafe(|| run(&mut world)));
    let violation = match result {
        Ok(Ok(())) => None,
        Ok(Err(violation)) => Some(format!("tick {}: {violation}", world.tick)),
        Err(_) => Some(format!("tick {}: the log panicked; see above", world.tick)),
    };
    let checker = &world.checker;
    Report {
        violation,
        ticks: world.tick,
        recovery: world.recovery,
        sent: world.network.sent,
        leaders: checker.leaders.len(),
        committed: checker.committed.len(),
        steps: checker.committed.iter().filter(|entry| entry.change.is_some()).count(),
        installed: checker.installed,
        readmitted: world.readmitted,
        digest: checker.apps.last().map_or(0, |app| app.digest),
    }
}

/// A group without faults but up to 10 % loss, for 10,000 ticks after its first election.
fn stay_healthy(world: &mut World) -> Result<(), String> {
    world.scenario.write_ticks_max = 1;
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
