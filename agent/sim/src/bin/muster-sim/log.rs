//! `muster-sim log`: runs seeds of the ordered log alone, scenario by scenario, with figures.

use std::process::ExitCode;
use std::time::Instant;

use muster_sim::log::{MUTANTS, caught_by, run, scenarios};

const USAGE: &str = "usage: muster-sim log [--seeds A..B] [--scenario NAME] [--mutants]";

/// Asks for every scenario, as naming none does.
const ALL: &str = "all";

pub(super) fn main(words: &[String]) -> ExitCode {
    match parse(words) {
        Ok(asked) if asked.mutants => mutants(asked.seeds.unwrap_or((0, 500))),
        Ok(asked) => campaign(&asked),
        Err(what) => {
            println!("{what}\n{USAGE}\nscenarios: {}", scenarios().collect::<Vec<_>>().join(", "));
            ExitCode::from(2)
        }
    }
}

#[derive(Default)]
struct Asked {
    seeds: Option<(u64, u64)>,
    scenario: Option<String>,
    mutants: bool,
}

fn parse(words: &[String]) -> Result<Asked, String> {
    let mut asked = Asked::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--seeds" => {
                let (from, to) = value()?.split_once("..").ok_or("--seeds is written A..B")?;
                asked.seeds = Some((super::number(from)?, super::number(to)?));
            }
            "--scenario" => {
                let name = value()?;
                if name != ALL && !scenarios().any(|known| known == name) {
                    return Err(format!("no scenario is named {name}"));
                }
                asked.scenario = Some(name.clone()).filter(|name| name != ALL);
            }
            "--mutants" => asked.mutants = true,
            _ => return Err(format!("{word} is not known")),
        }
    }
    Ok(asked)
}

fn campaign(asked: &Asked) -> ExitCode {
    let (from, to) = asked.seeds.unwrap_or((0, 200));
    let mut failed = 0_u64;
    for scenario in scenarios().filter(|name| asked.scenario.as_deref().is_none_or(|asked| asked == *name)) {
        let began = Instant::now();
        let (mut broken, mut leaders, mut committed, mut steps, mut installed, mut readmitted) =
            (0_u64, 0, 0, 0, 0, 0);
        for seed in from..to {
            let Some(report) = run(scenario, seed) else { continue };
            leaders += report.leaders;
            committed += report.committed;
            steps += report.steps;
            installed += report.installed;
            readmitted += report.readmitted;
            if let Some(violation) = report.violation {
                broken += 1;
                println!("seed {seed} of {scenario}: {violation}");
                println!("again: muster-sim log --scenario {scenario} --seeds {seed}..{}", seed + 1);
            }
        }
        let seconds = began.elapsed().as_secs_f64().max(0.001);
        println!(
            "{scenario:>22}: {} seeds, {broken} failed, {:.0} seeds a second; {leaders} leaders, {committed} entries, {steps} steps, {installed} snapshots installed, {readmitted} readmitted",
            to.saturating_sub(from),
            to.saturating_sub(from) as f64 / seconds,
        );
        failed += broken;
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn mutants((from, to): (u64, u64)) -> ExitCode {
    let mut missed = 0;
    for mutant in &MUTANTS {
        let name = format!("{:?}", mutant.bug);
        match caught_by(mutant, from..to) {
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
