//! `muster-sim --mutants`: plants every bug in turn, and says in which seed and by which property it was caught.

use std::ops::{ControlFlow, Range};
use std::process::ExitCode;

use muster_sim::Bug;
use muster_sim::fault::Fault;
use muster_sim::property::Violation;
use muster_sim::run::{Options, run};

use super::workers::in_order;

/// Seeds among which every bug has to be caught.
const SEEDS: Range<u64> = 0..500;

/// What is asked for.
pub(super) struct Asked<'a> {
    /// The seeds; none: as many as a bug may need.
    pub(super) seeds: Option<Range<u64>>,
    /// One bug alone.
    pub(super) only: Option<Bug>,
    /// How every run is made.
    pub(super) options: &'a Options,
    /// How many seeds are run at once.
    pub(super) workers: usize,
}

/// Some bugs show only in fleets of one kind, or where certain things happen often.
#[expect(clippy::wildcard_enum_match_arm, reason = "most bugs show wherever a fleet is")]
fn make_ground(bug: Bug, options: &mut Options) {
    let faults: &[Fault] = match bug {
        Bug::MajorityForLies => {
            (options.size.lies, options.size.coordinators) = (true, Some(5));
            return;
        }
        Bug::SkipElectability => {
            options.size.coordinators = Some(3);
            &[
                Fault::Crash,
                Fault::CrashLeader,
                Fault::PartitionLeader,
                Fault::PartitionFlapping,
                Fault::LostWrite,
            ]
        }
        Bug::DeferredKept => &[Fault::Deferral, Fault::BadRelease, Fault::LateFailure, Fault::DeferredReboot],
        Bug::RollbackOnTrust => &[Fault::BadRelease, Fault::RollbackFails, Fault::RollbackLies],
        Bug::ForgedAccepted => &[Fault::ForgedDocument],
        Bug::HistoryRefused => &[Fault::FleetChange, Fault::Crash, Fault::PartitionSingle, Fault::DiskLost],
        Bug::FetchForEver => &[Fault::FetchNever],
        // What holds dispatches back until the ref is stale.
        Bug::StaleDispatched => {
            &[Fault::PartitionLeader, Fault::PartitionFlapping, Fault::FullDisk, Fault::PauseCommand]
        }
        // The first channel has to take its time, or to fail.
        Bug::ChannelEdgeIgnored => &[Fault::BadRelease, Fault::LateFailure],
        // Edges are drawn among many hosts.
        Bug::HostEdgeIgnored => {
            options.faults = Some(vec![Fault::SwitchSlow]);
            return;
        }
        Bug::SnapshotForgets => &[Fault::Crash, Fault::PartitionSingle, Fault::PartitionLeader],
        Bug::ForkUntold => &[Fault::ForkedFeed, Fault::PartitionRing, Fault::Deaf, Fault::Loss],
        _ => return,
    };
    options.faults = Some(faults.to_vec());
    options.size.hosts.get_or_insert(7);
}

/// Each bug is let go at the first seed that catches it.
pub(super) fn mutants(asked: &Asked<'_>) -> ExitCode {
    let seeds = asked.seeds.clone().unwrap_or(SEEDS);
    let (mut planted, mut missed) = (0, 0);
    for bug in Bug::ALL.iter().filter(|bug| asked.only.is_none_or(|only| only == **bug)) {
        planted += 1;
        match first_caught(*bug, seeds.clone(), asked) {
            Some((seed, violation)) => {
                println!(
                    "{:>24} caught by property {:>2} in seed {seed}: {}",
                    bug.name(),
                    violation.property,
                    violation.what
                );
            }
            None => {
                missed += 1;
                println!("{:>24} NOT CAUGHT: {}", bug.name(), bug.what());
            }
        }
    }
    println!("{planted} bugs, {missed} not caught");
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn first_caught(bug: Bug, seeds: Range<u64>, asked: &Asked<'_>) -> Option<(u64, Violation)> {
    let mut options = Options { bug: Some(bug), ..asked.options.clone() };
    if options.faults.is_none() {
        make_ground(bug, &mut options);
    }
    let mut caught = None;
    in_order(
        seeds,
        asked.workers,
        |seed| run(seed, &options).violation,
        |seed, violation| {
            caught = violation.map(|violation| (seed, violation));
            if caught.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
    );
    caught
}
