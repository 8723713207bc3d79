//! Whole runs from seeds: no property breaks in any, and the same seed is the same run.

use muster_sim::run::{Options, Outcome, run};

/// Seeds of the first kind; larger campaigns are run by the program.
const SEEDS: u64 = 500;
/// Seeds that are run twice.
const TWICE: u64 = 100;

fn check(outcome: &Outcome) {
    let (seed, next) = (outcome.seed, outcome.seed + 1);
    if let Some(violation) = &outcome.violation {
        panic!(
            "seed {seed}: {violation}\nagain: cargo run --release -p muster-sim -- --seeds {seed}..{next} --trace"
        );
    }
}

/// Two halves, since tests run side by side.
fn check_seeds(remainder: u64) {
    for seed in (0..SEEDS).filter(|seed| seed % 2 == remainder) {
        check(&run(seed, &Options::default()));
    }
}

#[test]
fn no_property_breaks_in_even_seeds() {
    check_seeds(0);
}

#[test]
fn no_property_breaks_in_odd_seeds() {
    check_seeds(1);
}

#[test]
fn seeds_that_found_something_once_find_nothing_any_more() {
    let found = include_str!("../seeds.txt").lines().filter(|line| !line.starts_with('#'));
    for line in found {
        let seed = line.split_whitespace().next().and_then(|seed| seed.parse().ok());
        check(&run(seed.unwrap_or_else(|| panic!("not a seed: {line}")), &Options::default()));
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 1000..1000 + TWICE {
        let (first, second) = (run(seed, &Options::default()), run(seed, &Options::default()));
        assert_eq!((first.hash, first.steps), (second.hash, second.steps), "seed {seed}");
    }
}
