//! The ordered log under every fault that it must survive; `muster-sim log` runs more seeds.

use muster_sim::log::{MUTANTS, caught_by, run, scenarios};

/// Seeds of each scenario.
const SEEDS: u64 = 200;
/// Seeds among which a planted bug is found.
const MUTANT_SEEDS: u64 = 500;

fn check(scenario: &str) {
    for seed in 0..SEEDS {
        let report = run(scenario, seed).unwrap_or_else(|| panic!("no scenario is named {scenario}"));
        if let Some(violation) = report.violation {
            panic!(
                "seed {seed} of {scenario}: {violation}\nagain: cargo run --release -p muster-sim -- log --scenario {scenario} --seeds {seed}..{}",
                seed + 1
            );
        }
    }
}

#[test]
fn loss_doubling_and_reordering_harm_nothing() {
    check("raw-network");
}

#[test]
fn partitions_of_every_shape_harm_nothing() {
    check("partitions");
}

#[test]
fn flapping_links_harm_nothing() {
    check("flapping");
}

#[test]
fn crashes_between_any_two_operations_harm_nothing() {
    check("crashes-inside-writes");
}

#[test]
fn crashes_of_a_majority_harm_nothing() {
    check("majority-crashes");
}

#[test]
fn pauses_harm_nothing() {
    check("pauses");
}

#[test]
fn one_member_alone_keeps_what_it_committed() {
    check("one-member");
}

#[test]
fn hand_overs_closed_connections_and_full_disks_harm_nothing() {
    check("hand-overs");
}

#[test]
fn small_batches_of_many_entries_harm_nothing() {
    check("small-batches");
}

#[test]
fn leaders_struck_soon_after_their_election_harm_nothing() {
    check("hunted-leaders");
}

#[test]
fn walks_from_electorate_to_electorate_harm_nothing() {
    check("membership-walks");
}

#[test]
fn leaders_struck_in_the_middle_of_a_walk_harm_nothing() {
    check("hunted-walks");
}

#[test]
fn snapshots_harm_nothing() {
    check("snapshots");
}

#[test]
fn disks_put_back_in_time_are_noticed_and_their_members_readmitted() {
    check("disks-put-back");
}

#[test]
fn all_faults_together_harm_nothing() {
    check("everything");
}

#[test]
fn healthy_group_never_changes_its_leader() {
    check("healthy");
}

#[test]
fn one_seed_gives_one_run() {
    for seed in 0..20 {
        assert!(run("everything", seed) == run("everything", seed), "seed {seed} differs from itself");
    }
}

#[test]
fn every_scenario_is_run_here() {
    let source = include_str!("ordered_log.rs");
    for scenario in scenarios() {
        assert!(source.contains(&format!("check(\"{scenario}\")")), "{scenario} is not");
    }
}

#[test]
fn faults_reach_what_they_are_for() {
    let runs = 20;
    for (scenario, leaders_min, committed_min, steps_min, installed_min, readmitted_min) in [
        ("partitions", 2, 30, 0, 0, 0),
        ("crashes-inside-writes", 2, 15, 0, 0, 0),
        ("hunted-leaders", 8, 40, 0, 0, 0),
        ("majority-crashes", 3, 15, 0, 0, 0),
        ("membership-walks", 3, 30, 10, 1, 0),
        ("hunted-walks", 3, 20, 4, 0, 0),
        ("snapshots", 2, 30, 1, 2, 0),
        ("disks-put-back", 1, 20, 2, 1, 1),
        ("everything", 3, 30, 1, 1, 0),
    ] {
        let reports: Vec<_> = (0..runs as u64).filter_map(|seed| run(scenario, seed)).collect();
        let sum = |of: fn(&muster_sim::log::Report) -> usize| reports.iter().map(of).sum::<usize>();
        let found = [
            sum(|it| it.leaders),
            sum(|it| it.committed),
            sum(|it| it.steps),
            sum(|it| usize::try_from(it.installed).unwrap_or(0)),
            sum(|it| it.readmitted),
        ];
        let wanted = [leaders_min, committed_min, steps_min, installed_min, readmitted_min];
        let enough = found.iter().zip(wanted).all(|(found, wanted)| *found >= runs * wanted);
        assert!(enough, "{scenario}: {found:?} in {runs} runs, wanted {wanted:?} in each");
    }
}

#[test]
fn every_planted_bug_is_caught() {
    let missed: Vec<_> =
        MUTANTS.iter().filter(|mutant| caught_by(mutant, 0..MUTANT_SEEDS).is_none()).collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}
