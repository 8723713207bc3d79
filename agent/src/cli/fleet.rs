//! `muster fleet`: what a fleet document comes to, before it is signed.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use muster_core::document::check::{self, FleetReport};
use muster_core::document::{Fleet, diff};
use muster_core::id::HostId;
use muster_signing::{Digest, sha256};
use serde::Serialize;

use super::document_files::{read_document, read_stdin};
use super::fleet_diff::FleetDiffer;
use super::output::{self, Tone, count, line};
use super::render::{Look, field, flat, hanging, labelled, span};
use super::{Exit, Failure};

/// Looks at fleet documents.
#[derive(Debug, Args)]
pub struct FleetCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Check(Check),
    Diff(FleetDiffer),
}

/// Checks a fleet document, and shows its waves, budgets and edges with the hosts that they come to.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  muster fleet check fleet.json
  muster fleet check fleet.json --replaces fleet.old.json   can one follow?")]
struct Check {
    /// The fleet document, - for what comes on stdin; its signatures are not looked at.
    file: PathBuf,
    /// The fleet document that it is to replace: also checks that a running fleet can follow.
    #[arg(long, value_name = "FILE")]
    replaces: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Checked<'a> {
    schema: u32,
    hash: Digest,
    #[serde(flatten)]
    report: &'a FleetReport,
}

impl FleetCommand {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        match self.what {
            What::Check(check) => check.run(),
            What::Diff(differ) => differ.run(),
        }
    }
}

impl Check {
    fn run(self) -> Result<Exit, Failure> {
        let (fleet, hash) = read_fleet(&self.file)?;
        if let Some(path) = &self.replaces {
            diff::follows(&read_fleet(path)?.0, &fleet)
                .map_err(|reason| Failure::file(&self.file, reason))?;
        }
        let report = check::report(&fleet);
        if self.json {
            output::json(&Checked { schema: 1, hash, report: &report });
        } else {
            line(text(&report, hash, &Look::of_stdout()).trim_end());
        }
        Ok(Exit::Done)
    }
}

pub(super) fn read_fleet(path: &Path) -> Result<(Fleet, Digest), Failure> {
    let (path, bytes) = match path.to_str() {
        Some("-") => (Path::new("stdin"), read_stdin()?),
        Some(_) | None => (path, read_document(path)?),
    };
    let fleet = Fleet::parse(&bytes).map_err(|refusal| Failure::file(path, refusal))?;
    Ok((fleet, sha256(&bytes)))
}

fn text(report: &FleetReport, hash: Digest, look: &Look) -> String {
    let mut text = String::new();
    let title = look.tone(Tone::Strong, &format!("fleet {}", report.fleet));
    let (hosts, operators) = (count(report.hosts, "host"), count(report.operators, "operator"));
    let _ = writeln!(text, "{title}, serial {}: {hosts}, {operators}", report.serial);
    let _ = writeln!(text, "{}", look.tone(Tone::Faint, &hash.to_string()));
    let mut say = |sentence: String, indent| {
        for part in hanging(&flat(&sentence), usize::from(look.width), indent, 2) {
            let _ = writeln!(text, "{part}");
        }
    };
    say(format!("coordinators: {}", names(&report.electorate.members)), 0);
    say(report.electorate.withstands.to_string(), 2);
    for channel in &report.channels {
        let name = look.tone(Tone::Strong, &format!("channel {}", channel.channel));
        let before: Vec<_> = channel.waits_for.iter().map(|id| id.as_str()).collect();
        let after = if before.is_empty() { String::new() } else { format!(", after {}", before.join(", ")) };
        let _ = writeln!(text, "\n{name}, policy {}{after}", channel.policy);
        let rows = channel.waves.iter().map(|wave| {
            let then = if wave.manual_promotion { "a person promotes" } else { "" };
            let hosts = field(names(&wave.hosts));
            vec![field(wave.wave), field(span(wave.soak_secs)), field(&wave.selector), hosts, field(then)]
        });
        let _ = writeln!(text, "{}", look.table(&["WAVE", "SOAK", "SELECTS", "HOSTS", "THEN"], rows));
    }
    if !report.budgets.is_empty() {
        let rows = report.budgets.iter().map(|budget| {
            let limit = format!("{} of {}", budget.limit, budget.hosts.len());
            let hosts = field(names(&budget.hosts));
            vec![field(budget.budget.to_string()), field(limit), field(&budget.selector), hosts]
        });
        let _ = writeln!(text, "\n{}", look.table(&["BUDGET", "AT ONCE", "SELECTS", "HOSTS"], rows));
    }
    if !report.edges.is_empty() {
        let rows = report.edges.iter().map(|edge| {
            let hosts = [field(names(&edge.gates)), field(names(&edge.gated))];
            let (place, because) = (field(edge.edge.to_string()), field(&edge.reason));
            [place].into_iter().chain(hosts).chain([because]).collect()
        });
        let _ = writeln!(text, "\n{}", look.table(&["EDGE", "FIRST", "THEN", "BECAUSE"], rows));
    }
    text.push('\n');
    for warning in &report.warnings {
        let _ = writeln!(text, "{}", labelled(look, Tone::Warn, "warning:", &warning.to_string(), 2));
    }
    let _ = writeln!(text, "{}", look.tone(Tone::Good, "valid"));
    text
}

fn names(hosts: &BTreeSet<HostId>) -> String {
    if hosts.is_empty() {
        return "nobody".to_owned();
    }
    hosts.iter().map(HostId::as_str).collect::<Vec<_>>().join(", ")
}
