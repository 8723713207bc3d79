//! `muster fleet`: what a fleet document comes to, before it is signed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use muster_core::document::Fleet;
use muster_core::document::check::{self, FleetReport};
use muster_core::id::HostId;
use muster_signing::{Digest, sha256};
use serde::Serialize;

use super::document_files::{read_document, read_stdin};
use super::output::{self, Tone, count, line, plain, table, toned};
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
}

/// Checks a fleet document, and shows its waves, budgets and edges with the hosts that they come to.
#[derive(Debug, Args)]
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
        }
    }
}

impl Check {
    fn run(self) -> Result<Exit, Failure> {
        let (fleet, hash) = read_fleet(&self.file)?;
        if let Some(path) = &self.replaces {
            follows(&read_fleet(path)?.0, &fleet).map_err(|reason| Failure::file(&self.file, reason))?;
        }
        let report = check::report(&fleet);
        if self.json {
            output::json(&Checked { schema: 1, hash, report: &report });
        } else {
            print(&report, hash);
        }
        Ok(Exit::Done)
    }
}

fn read_fleet(path: &Path) -> Result<(Fleet, Digest), Failure> {
    let (path, bytes) = match path.to_str() {
        Some("-") => (Path::new("stdin"), read_stdin()?),
        Some(_) | None => (path, read_document(path)?),
    };
    let fleet = Fleet::parse(&bytes).map_err(|refusal| Failure::file(path, refusal))?;
    Ok((fleet, sha256(&bytes)))
}

fn follows(old: &Fleet, new: &Fleet) -> Result<(), String> {
    if old.name != new.name {
        return Err(format!("it is of fleet {}, and replaces one of fleet {}", new.name, old.name));
    }
    if new.replaces.is_none() && new.serial <= old.serial {
        return Err(format!(
            "its serial {} is not greater than {}, which it replaces",
            new.serial, old.serial
        ));
    }
    check::same_log(old, new).map_err(|error| error.to_string())
}

fn print(report: &FleetReport, hash: Digest) {
    let title = toned(Tone::Strong, format_args!("fleet {}", report.fleet));
    let (hosts, operators) = (count(report.hosts, "host"), count(report.operators, "operator"));
    line(format_args!("{title}, serial {}: {hosts}, {operators}", report.serial));
    line(toned(Tone::Faint, hash));
    line(format_args!("coordinators: {}", names(&report.electorate.members)));
    line(format_args!("  {}", report.electorate.withstands));
    for channel in &report.channels {
        line("");
        let name = toned(Tone::Strong, format_args!("channel {}", channel.channel));
        let before: Vec<_> = channel.waits_for.iter().map(|id| id.as_str()).collect();
        let after = if before.is_empty() { String::new() } else { format!(", after {}", before.join(", ")) };
        line(format_args!("{name}, policy {}{after}", channel.policy));
        let rows = channel.waves.iter().map(|wave| {
            let then = if wave.manual_promotion { "a person promotes" } else { "" };
            let soak = format!("{} s", wave.soak_secs);
            vec![wave.wave.to_string(), soak, wave.selector.clone(), names(&wave.hosts), then.to_owned()]
        });
        table(&["wave", "soak", "selects", "hosts", "then"], rows);
    }
    if !report.budgets.is_empty() {
        line("");
        let rows = report.budgets.iter().map(|budget| {
            let limit = format!("{} of {}", budget.limit, budget.hosts.len());
            vec![budget.budget.to_string(), limit, budget.selector.clone(), names(&budget.hosts)]
        });
        table(&["budget", "at once", "selects", "hosts"], rows);
    }
    if !report.edges.is_empty() {
        line("");
        let rows = report.edges.iter().map(|edge| {
            vec![edge.edge.to_string(), names(&edge.gates), names(&edge.gated), plain(&edge.reason)]
        });
        table(&["edge", "first", "then", "because"], rows);
    }
    line("");
    for warning in &report.warnings {
        line(format_args!("{} {}", toned(Tone::Warn, "warning:"), plain(&warning.to_string())));
    }
    line(toned(Tone::Good, "valid"));
}

fn names(hosts: &BTreeSet<HostId>) -> String {
    if hosts.is_empty() {
        return "nobody".to_owned();
    }
    hosts.iter().map(HostId::as_str).collect::<Vec<_>>().join(", ")
}
