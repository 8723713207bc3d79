//! Bugs planted into the log, each of which the scenarios must catch.

use super::scenario::{ALONE, CRASHES, HUNT, HUNTED_WALKS, PARTITIONS, RAW, SNAPSHOTS, WALKS};
use super::world::{Scenario, World};
use super::{Report, report};
use muster_core::coordination::log::Planted;

/// A bug, and the scenario that catches it.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// The bug.
    pub bug: Planted,
    scenario: Scenario,
}

impl Mutant {
    /// The name of the scenario.
    #[must_use]
    pub fn scenario(&self) -> &'static str {
        self.scenario.name
    }
}

const fn mutant(bug: Planted, scenario: Scenario) -> Mutant {
    Mutant { bug, scenario }
}

/// All of them.
pub const MUTANTS: [Mutant; 14] = [
    mutant(Planted::SendBeforeStore, CRASHES),
    mutant(Planted::CountOwnMatchEarly, ALONE),
    mutant(Planted::VoteTwice, RAW),
    mutant(Planted::CommitOldTerm, HUNT),
    mutant(Planted::SkipElectability, PARTITIONS),
    mutant(Planted::DuplicateAckStorm, RAW),
    mutant(Planted::TwoStepsAtOnce, WALKS),
    mutant(Planted::StepBeforeOwnTerm, HUNTED_WALKS),
    mutant(Planted::RemovedStillCounted, WALKS),
    mutant(Planted::LearnersCounted, WALKS),
    mutant(Planted::KeepCutSteps, HUNTED_WALKS),
    mutant(Planted::SnapshotWithoutElectorate, SNAPSHOTS),
    mutant(Planted::SnapshotWithoutProposals, SNAPSHOTS),
    mutant(Planted::AcknowledgeFirstChunk, SNAPSHOTS),
];

/// The first of these seeds that finds the bug, and what it found.
#[must_use]
pub fn caught_by(mutant: &Mutant, mut seeds: std::ops::Range<u64>) -> Option<(u64, Report)> {
    seeds.find_map(|seed| {
        let early = mutant.bug == Planted::SendBeforeStore;
        let plant = |config: &mut muster_core::coordination::log::Config| config.planted = Some(mutant.bug);
        let report = report(mutant.scenario, seed, early, plant, World::run);
        report.violation.is_some().then_some((seed, report))
    })
}
