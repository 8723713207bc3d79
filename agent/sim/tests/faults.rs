//! Runs that a seed draws meet faults of many kinds: a kind that hardly ever strikes is as good as not there.

use std::collections::BTreeMap;

use muster_sim::fault::Fault;
use muster_sim::run::{Options, run};

/// Seeds of the sample.
const SEEDS: u64 = 80;
/// The least share of seeds in which a kind has to strike to count, in percent.
const PERCENT: u64 = 5;
/// How many kinds have to.
const KINDS: usize = 45;

#[test]
fn forty_five_kinds_of_faults_strike_in_a_twentieth_of_all_seeds() {
    let mut struck: BTreeMap<Fault, u64> = BTreeMap::new();
    for seed in 0..SEEDS {
        let outcome = run(seed, &Options::default());
        for (fault, _) in outcome.hits.iter().filter(|(_, hits)| **hits > 0) {
            *struck.entry(*fault).or_default() += 1;
        }
    }
    let common = struck.values().filter(|seeds| **seeds * 100 >= SEEDS * PERCENT).count();
    assert!(common >= KINDS, "{common} kinds strike in {PERCENT} % of the seeds: {struck:?}");
}
