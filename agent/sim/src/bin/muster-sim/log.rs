//! `muster-sim log`: runs seeds of the ordered log alone, scenario by scenario, with figures.

use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;

use muster_sim::log::{MUTANTS, Report, caught_by, run, scenarios};

use super::arguments::{EVERY_SCENARIO, LogAlone};

/// Seeds of each scenario if nobody says otherwise.
const SEEDS: Range<u64> = 0..200;
/// Seeds among which every bug has to be caught.
const MUTANT_SEEDS: Range<u64> = 0..500;

pub(super) fn main(asked: &LogAlone) -> ExitCode {
    match asked.mutants {
        true => mutants(asked.seeds.clone().unwrap_or(MUTANT_SEEDS)),
        false => campaign(&asked.scenario, asked.seeds.clone().unwrap_or(SEEDS)),
    }
}

/// What came of the seeds of one scenario.
#[derive(Default)]
struct Sum {
    seeds: u64,
    broken: u64,
    /// Ticks that each seed took to recover, of those that had anything to recover from.
    recoveries: Vec<u64>,
    leaders: usize,
    changes: usize,
    committed: usize,
    steps: usize,
    installed: u64,
    readmitted: usize,
}

impl Sum {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.broken += u64::from(report.violation.is_some());
        self.recoveries.extend(report.recovery);
        self.leaders += report.leaders;
        self.changes += report.leaders.saturating_sub(1);
        self.committed += report.committed;
        self.steps += report.steps;
        self.installed += report.installed;
        self.readmitted += report.readmitted;
    }

    /// The ticks within which so many of a hundred seeds recovered.
    fn recovered_within(&mut self, percent: usize) -> String {
        self.recoveries.sort_unstable();
        let rank = (self.recoveries.len() * percent).div_ceil(100).saturating_sub(1);
        self.recoveries.get(rank).map_or_else(|| "-".to_owned(), u64::to_string)
    }
}

fn campaign(scenario: &str, seeds: Range<u64>) -> ExitCode {
    let mut failed = 0;
    println!("{:>42}", "ticks to recover");
    println!(
        "{:>21}{:>7}{:>7}{:>7}{:>6}{:>6}{:>9}{:>9}{:>9}{:>8}{:>10}{:>11}{:>8}",
        "scenario",
        "seeds",
        "broken",
        "p50",
        "p99",
        "max",
        "leaders",
        "changes",
        "entries",
        "steps",
        "snapshots",
        "readmitted",
        "seeds/s"
    );
    for name in scenarios().filter(|name| [EVERY_SCENARIO, name].contains(&scenario)) {
        let began = Instant::now();
        let mut sum = Sum::default();
        for report in seeds.clone().filter_map(|seed| Some((seed, run(name, seed)?))) {
            let (seed, report) = report;
            sum.add(&report);
            if let Some(violation) = report.violation {
                println!("seed {seed} of {name}: {violation}");
                println!("again: muster-sim log --scenario {name} --seeds {seed}..{}", seed + 1);
            }
        }
        let a_second = sum.seeds as f64 / began.elapsed().as_secs_f64().max(0.001);
        let [p50, p99, max] = [50, 99, 100].map(|percent| sum.recovered_within(percent));
        println!(
            "{name:>21}{:>7}{:>7}{p50:>7}{p99:>6}{max:>6}{:>9}{:>9}{:>9}{:>8}{:>10}{:>11}{a_second:>8.0}",
            sum.seeds,
            sum.broken,
            sum.leaders,
            sum.changes,
            sum.committed,
            sum.steps,
            sum.installed,
            sum.readmitted
        );
        failed += sum.broken;
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn mutants(seeds: Range<u64>) -> ExitCode {
    let mut missed = 0;
    for mutant in &MUTANTS {
        let name = format!("{:?}", mutant.bug);
        match caught_by(mutant, seeds.clone()) {
            Some((seed, report)) => {
                let violation = report.violation.unwrap_or_default();
                println!("{name:>26} caught by {} in seed {seed}: {violation}", mutant.scenario());
            }
            None => {
                missed += 1;
                println!("{name:>26} NOT CAUGHT by {}", mutant.scenario());
            }
        }
    }
    println!("{} bugs, {missed} not caught", MUTANTS.len());
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::Sum;

    #[test]
    fn ticks_are_told_by_rank() {
        for (recoveries, told) in [
            (vec![], ["-", "-", "-"]),
            (vec![7], ["7", "7", "7"]),
            (vec![9, 1], ["1", "9", "9"]),
            ((1..=200).rev().collect(), ["100", "198", "200"]),
        ] {
            let mut sum = Sum { recoveries, ..Sum::default() };
            assert_eq!([50, 99, 100].map(|percent| sum.recovered_within(percent)), told);
        }
    }
}
