//! `muster-sim`: runs seeds of whole fleets, and says which property broke in which.

#![expect(clippy::print_stdout, reason = "it is a program that prints what came of the runs")]

mod arguments;
mod log;
mod mutants;
mod workers;

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use muster_sim::bench;
use muster_sim::fault::Fault;
use muster_sim::run::{Options, Outcome, run};

use arguments::{Arguments, Fleets, Part};

/// Seeds of a campaign of which nobody says how long it is.
const SEEDS: Range<u64> = 0..100;
/// Seeds of busy fleets in a benchmark.
const UNRESTING: u64 = 10;

/// The least share of seeds in which a kind of fault has to strike, in percent.
const PERCENT: u64 = 5;

fn main() -> ExitCode {
    let Arguments { part, fleets } = Arguments::parse();
    match part {
        Some(Part::Log(asked)) => log::main(&asked),
        None if fleets.bench => bench(&fleets),
        None if fleets.mutants => mutants::mutants(&mutants::Asked {
            seeds: fleets.seeds.clone(),
            only: fleets.planted,
            options: &fleets.options(),
            workers: workers(&fleets),
        }),
        None => campaign(&fleets),
    }
}

fn workers(fleets: &Fleets) -> usize {
    fleets.jobs.unwrap_or_else(workers::cores)
}

#[derive(Default)]
struct Sum {
    runs: u64,
    failed: u64,
    steps: u64,
    inputs: BTreeMap<&'static str, u64>,
    virtual_time: Duration,
    decisions: usize,
    hits: BTreeMap<Fault, u64>,
    ended: BTreeMap<&'static str, usize>,
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        self.failed += u64::from(outcome.violation.is_some());
        self.steps += outcome.steps;
        for (kind, count) in &outcome.inputs {
            *self.inputs.entry(kind).or_default() += count;
        }
        self.virtual_time += outcome.took;
        self.decisions += outcome.decisions;
        for (fault, hits) in &outcome.hits {
            *self.hits.entry(*fault).or_default() += u64::from(*hits > 0);
        }
        for (state, count) in &outcome.ended {
            *self.ended.entry(state).or_default() += count;
        }
    }
}

fn campaign(fleets: &Fleets) -> ExitCode {
    let began = Instant::now();
    let mut sum = Sum::default();
    let seeds = fleets.seeds.clone().unwrap_or(SEEDS);
    let options = fleets.options();
    workers::in_order(
        seeds,
        workers(fleets),
        |seed| run(seed, &options),
        |seed, outcome| {
            sum.add(&outcome);
            for line in &outcome.lines {
                println!("{line}");
            }
            if fleets.trace {
                println!("seed {seed}: {} hosts, trace hash {:016x}", outcome.hosts, outcome.hash);
            }
            if let Some(violation) = &outcome.violation {
                report(fleets, seed, &outcome);
                println!(
                    "seed {seed}, {} hosts, {} coordinators: {violation}\n",
                    outcome.hosts, outcome.coordinators
                );
                if !fleets.keep_going {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        },
    );
    if !fleets.trace {
        print_sum(fleets, &sum, began.elapsed());
    }
    if sum.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The end of the story of a failing run, and how to see it again.
fn report(fleets: &Fleets, seed: u64, outcome: &Outcome) {
    const LINES: usize = 60;
    if !fleets.trace && !fleets.keep_going {
        let again = run(seed, &Options { trace: true, ..fleets.options() });
        let from = again.lines.len().saturating_sub(LINES);
        for line in &again.lines[from..] {
            println!("{line}");
        }
        if again.hash != outcome.hash {
            println!("the second run of seed {seed} differs from the first: the simulator itself is broken");
        }
    }
    println!("again: muster-sim --seeds {seed}..{}{} --trace", seed + 1, fleets.command());
}

fn print_sum(fleets: &Fleets, sum: &Sum, took: Duration) {
    let seconds = took.as_secs_f64().max(0.001);
    println!(
        "{} seeds, {} failed; {:.1} virtual hours in {seconds:.1} s ({:.0} times real time); {} steps ({:.0} a second); {} decisions",
        sum.runs,
        sum.failed,
        sum.virtual_time.as_secs_f64() / 3600.0,
        sum.virtual_time.as_secs_f64() / seconds,
        sum.steps,
        sum.steps as f64 / seconds,
        sum.decisions,
    );
    println!("steps: {:?}", sum.inputs);
    println!("rollouts: {:?}", sum.ended);
    if fleets.coverage {
        print_coverage(sum);
    } else {
        let hit: Vec<String> =
            sum.hits.iter().map(|(fault, hits)| format!("{} {hits}", fault.name())).collect();
        println!("faults, in how many seeds: {}", hit.join(", "));
    }
}

/// In how many seeds each kind of fault struck, and which kinds strike too seldom to be as good as there.
fn print_coverage(sum: &Sum) {
    let mut seldom = Vec::new();
    for fault in Fault::ALL {
        let hit = sum.hits.get(fault).copied().unwrap_or(0);
        let is_seldom = hit * 100 < sum.runs * PERCENT;
        seldom.extend(is_seldom.then_some(fault.name()));
        let percent = 100.0 * hit as f64 / sum.runs.max(1) as f64;
        let mark = if is_seldom { "  too seldom" } else { "" };
        println!("{:>25} {hit:>7} seeds, {percent:5.1} %{mark}", fault.name());
    }
    let kinds = Fault::ALL.len();
    println!("{} of {kinds} kinds strike in {PERCENT} % of the seeds or more", kinds - seldom.len());
    if !seldom.is_empty() {
        println!("below {PERCENT} %: {}", seldom.join(", "));
    }
}

/// How fast virtual time passes: a day of a healthy fleet, and seeds whose faults and operators never rest.
fn bench(fleets: &Fleets) -> ExitCode {
    let hosts = fleets.hosts.unwrap_or(30);
    let first = fleets.seeds.as_ref().map_or(0, |seeds| seeds.start);
    let hours = if hosts > 100 { 1 } else { 24 };
    let began = Instant::now();
    let passed = bench::day(first, hosts, Duration::from_secs(hours * 3600));
    let took = began.elapsed();
    println!(
        "{hosts} healthy hosts, {} rollouts: {:.1} virtual hours in {:.1} s ({:.0} times real time); {} steps ({:.0} a second)",
        passed.rollouts,
        passed.time.as_secs_f64() / 3600.0,
        took.as_secs_f64(),
        passed.time.as_secs_f64() / took.as_secs_f64(),
        passed.steps,
        passed.steps as f64 / took.as_secs_f64(),
    );
    if hosts > 100 {
        return ExitCode::SUCCESS;
    }
    let mut options = fleets.options();
    options.size.hosts = Some(hosts);
    options.size.coordinators.get_or_insert(3);
    let began = Instant::now();
    let mut sum = Sum::default();
    for seed in first..first + UNRESTING {
        sum.add(&run(seed, &options));
    }
    println!("{hosts} hosts that know no rest:");
    print_sum(fleets, &sum, began.elapsed());
    ExitCode::SUCCESS
}
