//! `muster-sim`: runs seeds of whole fleets, and says which property broke in which.

#![expect(clippy::print_stdout, reason = "it is a program that prints what came of the runs")]

mod log;
mod mutants;
mod workers;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use muster_sim::Bug;
use muster_sim::bench;
use muster_sim::fault::Fault;
use muster_sim::run::{Options, Outcome, run};

const USAGE: &str =
    "usage: muster-sim [--seeds A..B] [--hosts N] [--coordinators N] [--tolerate lies] [--faults LIST]
                  [--real-signatures] [--trace] [--coverage] [--bench] [--mutants] [--planted BUG] [--keep-going] [--jobs N]
       muster-sim log [--seeds A..B] [--scenario NAME] [--mutants]: the coordinators' log alone";

/// Seeds of a campaign of which nobody says how long it is.
const SEEDS: u64 = 100;
/// Seeds of busy fleets in a benchmark.
const UNRESTING: u64 = 10;

struct Arguments {
    seeds: Option<(u64, u64)>,
    workers: usize,
    options: Options,
    coverage: bool,
    bench: bool,
    mutants: bool,
    keep_going: bool,
    command: String,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some((_, words)) = words.split_first().filter(|(first, _)| *first == "log") {
        return log::main(words);
    }
    match parse(words) {
        Ok(arguments) if arguments.bench => bench(&arguments),
        Ok(arguments) if arguments.mutants => mutants::mutants(&mutants::Asked {
            seeds: arguments.seeds,
            only: arguments.options.bug,
            options: &arguments.options,
            workers: arguments.workers,
        }),
        Ok(arguments) => campaign(&arguments),
        Err(what) => {
            println!("{what}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn parse(words: Vec<String>) -> Result<Arguments, String> {
    let mut arguments = Arguments {
        seeds: None,
        workers: workers::cores(),
        options: Options::default(),
        coverage: false,
        bench: false,
        mutants: false,
        keep_going: false,
        command: String::new(),
    };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--seeds" => {
                let range = value()?;
                let (from, to) = range.split_once("..").ok_or("--seeds is written A..B")?;
                arguments.seeds = Some((number(from)?, number(to)?));
                continue;
            }
            "--hosts" => arguments.options.size.hosts = Some(number(&value()?)? as usize),
            "--coordinators" => arguments.options.size.coordinators = Some(number(&value()?)? as usize),
            "--tolerate" => arguments.options.size.lies = value()? == "lies",
            "--planted" => {
                let name = value()?;
                let bug = Bug::ALL.iter().find(|bug| bug.name() == name);
                arguments.options.bug = Some(*bug.ok_or_else(|| format!("no bug is named {name}"))?);
            }
            "--faults" => {
                let list = value()?;
                let named =
                    |name: &str| Fault::named(name).ok_or_else(|| format!("no fault is named {name}"));
                let list = list.split(',').filter(|name| !name.is_empty() && *name != "none");
                arguments.options.faults = Some(list.map(named).collect::<Result<_, _>>()?);
            }
            "--real-signatures" => arguments.options.real_signatures = true,
            "--trace" => arguments.options.trace = true,
            "--jobs" => arguments.workers = number(&value()?)? as usize,
            "--coverage" => arguments.coverage = true,
            "--bench" => arguments.bench = true,
            "--mutants" => arguments.mutants = true,
            "--keep-going" => arguments.keep_going = true,
            _ => return Err(format!("{word} is not known")),
        }
    }
    let size = &arguments.options.size;
    for (flag, value) in [("--hosts", size.hosts), ("--coordinators", size.coordinators)] {
        if let Some(value) = value {
            arguments.command.push_str(&format!(" {flag} {value}"));
        }
    }
    if size.lies {
        arguments.command.push_str(" --tolerate lies");
    }
    if let Some(bug) = arguments.options.bug {
        arguments.command.push_str(&format!(" --planted {}", bug.name()));
    }
    if let Some(faults) = &arguments.options.faults {
        let names: Vec<&str> = faults.iter().map(|fault| fault.name()).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(",") };
        arguments.command.push_str(&format!(" --faults {names}"));
    }
    Ok(arguments)
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
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

fn campaign(arguments: &Arguments) -> ExitCode {
    let began = Instant::now();
    let mut sum = Sum::default();
    let (from, to) = arguments.seeds.unwrap_or((0, SEEDS));
    let work = |seed| run(seed, &arguments.options);
    workers::in_order(from..to, arguments.workers, work, |seed, outcome| {
        sum.add(&outcome);
        for line in &outcome.lines {
            println!("{line}");
        }
        if arguments.options.trace {
            println!("seed {seed}: {} hosts, trace hash {:016x}", outcome.hosts, outcome.hash);
        }
        if let Some(violation) = &outcome.violation {
            report(arguments, seed, &outcome);
            println!(
                "seed {seed}, {} hosts, {} coordinators: {violation}\n",
                outcome.hosts, outcome.coordinators
            );
            if !arguments.keep_going {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    if !arguments.options.trace {
        print_sum(arguments, &sum, began.elapsed());
    }
    if sum.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The end of the story of a failing run, and how to see it again.
fn report(arguments: &Arguments, seed: u64, outcome: &Outcome) {
    const LINES: usize = 60;
    if !arguments.options.trace && !arguments.keep_going {
        let again = run(seed, &Options { trace: true, ..arguments.options.clone() });
        let from = again.lines.len().saturating_sub(LINES);
        for line in &again.lines[from..] {
            println!("{line}");
        }
        if again.hash != outcome.hash {
            println!("the second run of seed {seed} differs from the first: the simulator itself is broken");
        }
    }
    println!("again: muster-sim --seeds {seed}..{}{} --trace", seed + 1, arguments.command);
}

fn print_sum(arguments: &Arguments, sum: &Sum, took: Duration) {
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
    if arguments.coverage {
        for fault in Fault::ALL {
            let hit = sum.hits.get(fault).copied().unwrap_or(0);
            println!(
                "{:>22} {hit:>7} seeds, {:5.1} %",
                fault.name(),
                100.0 * hit as f64 / sum.runs.max(1) as f64
            );
        }
    } else {
        let hit: Vec<String> =
            sum.hits.iter().map(|(fault, hits)| format!("{} {hits}", fault.name())).collect();
        println!("faults, in how many seeds: {}", hit.join(", "));
    }
}

/// How fast virtual time passes: a day of a healthy fleet, and seeds whose faults and operators never rest.
fn bench(arguments: &Arguments) -> ExitCode {
    let hosts = arguments.options.size.hosts.unwrap_or(30);
    let first = arguments.seeds.map_or(0, |(from, _)| from);
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
    let mut options = arguments.options.clone();
    options.size.hosts = Some(hosts);
    options.size.coordinators.get_or_insert(3);
    let began = Instant::now();
    let mut sum = Sum::default();
    for seed in first..first + UNRESTING {
        sum.add(&run(seed, &options));
    }
    println!("{hosts} hosts that know no rest:");
    print_sum(arguments, &sum, began.elapsed());
    ExitCode::SUCCESS
}
