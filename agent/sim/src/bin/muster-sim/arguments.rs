//! What people may ask the simulator for.

use std::ops::Range;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use muster_sim::Bug;
use muster_sim::fault::Fault;
use muster_sim::log::scenarios;
use muster_sim::run::Options;

/// Asks for every scenario of the log.
pub(super) const EVERY_SCENARIO: &str = "all";

const EXAMPLES: &str = "Examples:
  muster-sim --seeds 0..1000                        a campaign; ends at the first seed that breaks a property
  muster-sim --seeds 0..1000 --keep-going           the same, and goes on after a broken one
  muster-sim --seeds 42..43 --trace                 the story of one seed, line by line
  muster-sim --coverage --seeds 0..500              how many seeds each kind of fault struck
  muster-sim --seeds 7..8 --faults crash,loss       one seed with these two kinds and no others
  muster-sim --tolerate lies --coordinators 5       fleets that tolerate lying coordinators, and have some
  muster-sim --mutants                              plants every bug in turn; each has to be caught
  muster-sim --mutants --planted said-once          one of them
  muster-sim --bench                                how fast virtual time passes
  muster-sim log --help                             the coordinators' log alone

A seed gives one run, whatever the machine. It fails with the property that broke and the command that shows it again.
Exit status: 0 nothing broke; 1 a property broke, or a planted bug was not caught; 2 the arguments are wrong.";

const LOG_EXAMPLES: &str = "Examples:
  muster-sim log                                        200 seeds of every scenario
  muster-sim log --scenario all --seeds 0..500          more of them
  muster-sim log --scenario hunted-walks --seeds 7..8   one run
  muster-sim log --mutants                              plants bugs into the log; each has to be caught

A row says of a scenario: its seeds and how many broke; the ticks, of 10 ms, from the end of the faults until everything
proposed is committed on every voter, in half of the seeds, in 99 of 100 and in the worst; and of all its seeds together
how many leaders were elected, how often another one took over, and what was committed, installed and readmitted.";

/// Runs whole fleets in virtual time, from seeds, with faults, and says which property broke in which.
#[derive(Debug, Parser)]
#[command(name = "muster-sim", disable_help_subcommand = true, args_conflicts_with_subcommands = true)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) part: Option<Part>,
    #[command(flatten)]
    pub(super) fleets: Fleets,
}

/// What is run instead of whole fleets.
#[derive(Debug, Subcommand)]
pub(super) enum Part {
    Log(LogAlone),
}

/// Runs the coordinators' ordered log alone, scenario by scenario, with figures.
#[derive(Debug, Args)]
#[command(after_help = LOG_EXAMPLES)]
pub(super) struct LogAlone {
    /// The seeds from A up to but not B [default: 0..200, and 0..500 with --mutants].
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    pub(super) seeds: Option<Range<u64>>,
    /// Which faults strike.
    #[arg(long, value_name = "NAME", default_value = EVERY_SCENARIO)]
    #[arg(value_parser = PossibleValuesParser::new([EVERY_SCENARIO].into_iter().chain(scenarios())))]
    pub(super) scenario: String,
    /// Plants one bug after the other into the log; each has to be caught.
    #[arg(long, conflicts_with = "scenario")]
    pub(super) mutants: bool,
}

/// Whole fleets.
#[derive(Debug, Args)]
pub(super) struct Fleets {
    /// The seeds from A up to but not B [default: 0..100, and 0..500 with --mutants].
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    pub(super) seeds: Option<Range<u64>>,
    /// How many seeds are run at once [default: one for each core].
    #[arg(long, value_name = "N")]
    pub(super) jobs: Option<usize>,
    /// Goes on after a seed that breaks a property.
    #[arg(long)]
    pub(super) keep_going: bool,
    /// Prints all that happens.
    #[arg(long)]
    pub(super) trace: bool,
    /// Prints in how many seeds each kind of fault struck, and which kinds strike too seldom.
    #[arg(long, conflicts_with_all = ["bench", "mutants"])]
    pub(super) coverage: bool,
    /// Measures how fast virtual time passes: in a day of a healthy fleet, and in seeds that know no rest.
    #[arg(long, conflicts_with = "mutants")]
    pub(super) bench: bool,
    /// Plants one bug after the other into every node; each has to be caught.
    #[arg(long)]
    pub(super) mutants: bool,
    /// How many hosts each fleet has [default: the seed's own].
    #[arg(long, value_name = "N", help_heading = "The fleet")]
    pub(super) hosts: Option<usize>,
    /// How many of them coordinate [default: the seed's own].
    #[arg(long, value_name = "N", help_heading = "The fleet")]
    pub(super) coordinators: Option<usize>,
    /// What the coordinators withstand; with lies, as many of them lie as are tolerated [default: the seed's own].
    #[arg(long, value_name = "WHAT", help_heading = "The fleet")]
    pub(super) tolerate: Option<Tolerate>,
    /// Signs with real keys, which takes longer, instead of stand-ins.
    #[arg(long, help_heading = "The fleet")]
    pub(super) real_signatures: bool,
    /// The kinds of faults, separated by commas, or none at all; --coverage names them [default: the seed's own].
    #[arg(long, value_name = "KINDS|none", value_parser = faults, help_heading = "What goes wrong")]
    pub(super) faults: Option<Kinds>,
    /// The bug that every node has; mutants.md names them.
    #[arg(long, value_name = "BUG", value_parser = bug, help_heading = "What goes wrong")]
    pub(super) planted: Option<Bug>,
}

/// What coordinators withstand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Tolerate {
    /// That some of them are down.
    Crash,
    /// That some of them lie.
    Lies,
}

/// Kinds of faults.
#[derive(Debug, Clone)]
pub(super) struct Kinds(Vec<Fault>);

impl Fleets {
    /// How each seed is run.
    pub(super) fn options(&self) -> Options {
        let mut options = Options {
            faults: self.faults.clone().map(|kinds| kinds.0),
            real_signatures: self.real_signatures,
            trace: self.trace,
            bug: self.planted,
            ..Options::default()
        };
        options.size.hosts = self.hosts;
        options.size.coordinators = self.coordinators;
        options.size.lies = self.tolerate == Some(Tolerate::Lies);
        options
    }

    /// What of the command line makes a run what it is, beside its seed.
    pub(super) fn command(&self) -> String {
        let mut command = String::new();
        for (flag, value) in [("--hosts", self.hosts), ("--coordinators", self.coordinators)] {
            command.extend(value.map(|value| format!(" {flag} {value}")));
        }
        if self.tolerate == Some(Tolerate::Lies) {
            command.push_str(" --tolerate lies");
        }
        if self.real_signatures {
            command.push_str(" --real-signatures");
        }
        command.extend(self.planted.map(|bug| format!(" --planted {}", bug.name())));
        if let Some(Kinds(kinds)) = &self.faults {
            let names: Vec<&str> = kinds.iter().map(|fault| fault.name()).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(",") };
            command.push_str(&format!(" --faults {names}"));
        }
        command
    }
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text:?} is not a number"));
    let (from, to) = text.split_once("..").ok_or("seeds are written A..B")?;
    let (from, to) = (number(from)?, number(to)?);
    if from < to { Ok(from..to) } else { Err(format!("there is no seed from {from} up to but not {to}")) }
}

fn faults(list: &str) -> Result<Kinds, String> {
    let named = |name: &str| Fault::named(name).ok_or_else(|| format!("no fault is named {name:?}"));
    let names = list.split(',').filter(|name| !name.is_empty() && *name != "none");
    names.map(named).collect::<Result<_, _>>().map(Kinds)
}

fn bug(name: &str) -> Result<Bug, String> {
    let bug = Bug::ALL.iter().find(|bug| bug.name() == name);
    bug.copied().ok_or_else(|| format!("no bug is named {name:?}"))
}
