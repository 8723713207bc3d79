//! The table of planted bugs speaks of all of them, and a few of them are caught here.

use std::collections::BTreeSet;

use muster_core::planted::Bug;
use muster_sim::fault::Fault;
use muster_sim::property::PROPERTIES;
use muster_sim::run::{Options, run};

/// The rows of the table: a bug, what is wrong, the property that caught it.
fn rows() -> Vec<(&'static str, &'static str, &'static str)> {
    let lines = include_str!("../mutants.md").lines().filter(|line| line.starts_with("| `"));
    let row = |line: &'static str| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let mut next = || cells.next().unwrap_or_default();
        (next().trim_matches('`'), next(), next())
    };
    lines.map(row).collect()
}

#[test]
fn the_table_names_exactly_the_bugs_that_can_be_planted() {
    let told: Vec<(&str, &str)> = rows().into_iter().map(|(name, what, _)| (name, what)).collect();
    let known: Vec<(&str, &str)> = Bug::ALL.iter().map(|bug| (bug.name(), bug.what())).collect();
    assert_eq!(told, known);
    assert!(known.len() >= 40, "{} bugs", known.len());
}

#[test]
fn every_bug_of_the_table_was_caught_by_a_property_that_there_is() {
    let numbers: BTreeSet<String> = PROPERTIES.iter().map(|(number, _)| number.to_string()).collect();
    for (name, _, property) in rows() {
        assert!(numbers.contains(property), "{name}: {property:?}");
    }
}

#[test]
fn bugs_that_any_run_shows_are_caught_at_once() {
    for bug in [Bug::QuorumMinusOne, Bug::BudgetOffByOne, Bug::PromotionIgnored, Bug::PauseIgnored] {
        let options = Options { bug: Some(bug), ..Options::default() };
        assert!((0..20).any(|seed| run(seed, &options).violation.is_some()), "{}", bug.name());
    }
}

#[test]
fn a_wave_that_a_fetch_holds_for_ever_is_caught() {
    let bug = Some(Bug::FetchForEver);
    let options = Options { bug, faults: Some(vec![Fault::FetchNever]), ..Options::default() };
    let caught = (0..10).find_map(|seed| run(seed, &options).violation);
    assert_eq!(caught.map(|violation| violation.property), Some(12));
}
