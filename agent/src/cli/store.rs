//! `muster store`: what lies on this host's disk.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use muster_store::{Class, StoreError, Table};

use super::asking::Agent;
use super::output::{self, Tone, count, line};
use super::render::{Look, bytes, field, flat, hanging, tinted};
use super::{Exit, Failure, when};
use crate::control::client::parse;
use crate::control::wire::{SCHEMA, StoreInfo, StoreTable, StoreVerified};
use crate::storage::{self, Imported, StorageError};

/// Looks at what lies on this host's disk, checks it, makes it anew, carries it away.
#[derive(Debug, Args)]
pub(super) struct StoreCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Shows the tables and their sizes.
    #[command(after_help = "Examples:
  muster store stats                                      of the running agent
  muster store stats --store /var/lib/muster/muster.redb  of a stopped one")]
    Stats {
        #[command(flatten)]
        agent: Agent,
        /// The store of a stopped agent.
        #[arg(long, value_name = "FILE")]
        store: Option<PathBuf>,
    },
    /// Looks at every signature again, makes every view anew from what was signed, and compares.
    #[command(after_help = "Examples:
  muster store verify                                      of the running agent
  muster store verify --store /var/lib/muster/muster.redb  of a stopped one

Ends with 1 when something differs, and names it. Nothing is written, and a
running agent goes on with its work meanwhile.")]
    Verify {
        #[command(flatten)]
        agent: Agent,
        /// The store of a stopped agent.
        #[arg(long, value_name = "FILE")]
        store: Option<PathBuf>,
    },
    /// Replaces every view of a stopped agent's store by what was signed; the agent must not run.
    #[command(after_help = "Example:
  systemctl stop muster
  muster store rebuild --store /var/lib/muster/muster.redb")]
    Rebuild(Stopped),
    /// Gives the room in a stopped agent's store that nothing uses back to the disk; the agent must not run.
    #[command(after_help = "Example:
  systemctl stop muster && muster store compact --store /var/lib/muster/muster.redb

An agent does the same by itself when it starts and more than half of its store is free.")]
    Compact(Stopped),
    /// Writes everything that was signed from a stopped agent's store to a file; the agent must not run.
    #[command(after_help = "Example:
  systemctl stop muster
  muster store export --store /var/lib/muster/muster.redb --out home.cbor

The file is one CBOR sequence of documents, feeds, decisions and log entries
with their signatures, in the order in which they were learnt: a backup, what
`muster store import` takes into a site without a network, and what `muster
replay` reads anywhere.")]
    Export {
        #[command(flatten)]
        stopped: Stopped,
        /// Where to write; never over a file that is there.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Takes what an export holds into a stopped agent's store, every signature checked; the agent must not run.
    #[command(after_help = "Example:
  systemctl stop muster
  muster store import home.cbor --store /var/lib/muster/muster.redb

The way into a site without a network: documents, decisions and what the other
hosts said, as if a peer had brought them. Nothing that is there is replaced.
Entries of the log are left out, which coordinators get from each other, and this
host's own events, which its agent gets back itself. An agent that never ran has
no store yet: start it once. Ends with 1 if a record did not prove what it has to.")]
    Import {
        /// What muster store export wrote.
        file: PathBuf,
        #[command(flatten)]
        stopped: Stopped,
    },
}

/// The store of a stopped agent; a running one holds its own to itself.
#[derive(Debug, Args)]
struct Stopped {
    /// The store of a stopped agent.
    #[arg(long, value_name = "FILE")]
    store: PathBuf,
}

impl StoreCommand {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        match self.verb {
            Verb::Stats { agent, store: None } => {
                agent.show("/v1/store", |info| text(info, &Look::of_stdout()))
            }
            Verb::Stats { agent, store: Some(store) } => {
                let info = stopped_stats(&store)?;
                if agent.json {
                    output::json(&info);
                } else {
                    line(text(&info, &Look::of_stdout()));
                }
                Ok(Exit::Done)
            }
            Verb::Verify { agent, store: None } => verify_running(&agent),
            Verb::Verify { agent, store: Some(store) } => verify_stopped(&store, agent.json),
            Verb::Rebuild(Stopped { store }) => {
                let rows = storage::rebuild(&store)?;
                line(format_args!("{}: {rows} rows made anew", store.display()));
                Ok(Exit::Done)
            }
            Verb::Compact(Stopped { store }) => {
                let freed = storage::compact(&store)?;
                line(format_args!("{}: {} smaller", store.display(), bytes(freed)));
                Ok(Exit::Done)
            }
            Verb::Export { stopped, out } => export(&stopped.store, &out),
            Verb::Import { file, stopped } => import(&stopped.store, &file),
        }
    }
}

fn verify_running(agent: &Agent) -> Result<Exit, Failure> {
    let body = agent.ask(async |client| Ok(client.verify_store().await?))?;
    let report: StoreVerified = parse(&body)?;
    if agent.json {
        super::asking::raw(&body);
        return Ok(if report.ok { Exit::Done } else { Exit::Refused });
    }
    say(&verified(&agent.socket.socket, &report)?);
    Ok(Exit::Done)
}

fn verify_stopped(store: &Path, json: bool) -> Result<Exit, Failure> {
    let found = match storage::verify(store) {
        Err(error @ StorageError::Store(_)) => return Err(error.into()),
        Err(error) if !json => return Err(error.into()),
        found => found,
    };
    let report = StoreVerified::new(found);
    if json {
        output::json(&report);
        return Ok(if report.ok { Exit::Done } else { Exit::Refused });
    }
    say(&verified(store, &report)?);
    Ok(Exit::Done)
}

fn say(sentence: &str) {
    line(hanging(&flat(sentence), usize::from(Look::of_stdout().width), 0, 2).join("\n"));
}

/// What there is to say of a store that is as it should be; `place` is its file, or its agent's socket.
fn verified(place: &Path, report: &StoreVerified) -> Result<String, Failure> {
    if !report.ok {
        let fault = report.fault.as_deref().unwrap_or("the agent does not say what is wrong");
        return Err(Failure::file(place, fault));
    }
    let number = |number: Option<u64>| usize::try_from(number.unwrap_or(0)).unwrap_or(usize::MAX);
    let learnt = count(number(report.arrivals), "record");
    let views = count(number(report.views), "row");
    let place = place.display();
    Ok(format!("{place}: {learnt}, every signature holds; {views} of views, each as it should be"))
}

fn export(store: &Path, out: &Path) -> Result<Exit, Failure> {
    let file = File::create_new(out).map_err(|error| {
        let there = error.kind() == std::io::ErrorKind::AlreadyExists;
        let failure = Failure::file(out, error);
        if there {
            failure.hint("give another name: a file that is there is never replaced")
        } else {
            failure
        }
    })?;
    match write_export(store, file, out) {
        Ok(records) => {
            line(format_args!("{}: {records} records", out.display()));
            Ok(Exit::Done)
        }
        Err(failure) => {
            // Half an export is none, and would stand in the way of the next try.
            let _ = std::fs::remove_file(out);
            Err(failure)
        }
    }
}

fn write_export(store: &Path, mut file: File, out: &Path) -> Result<u64, Failure> {
    let failed = |error| Failure::file(out, error);
    let mut writer = std::io::BufWriter::new(&mut file);
    let records = storage::export(store, &mut writer)?;
    writer.flush().map_err(failed)?;
    drop(writer);
    file.sync_all().map_err(failed)?;
    Ok(records)
}

fn import(store: &Path, file: &Path) -> Result<Exit, Failure> {
    let Imported { taken, known, own, refused, reasons } = storage::import(store, file, when::now())?;
    let records = |number: u64, what: &str| count(usize::try_from(number).unwrap_or(usize::MAX), what);
    let mut sentence = format!("{}: {} taken in", store.display(), records(taken, "record"));
    if known > 0 {
        sentence.push_str(&format!(", {known} known already"));
    }
    if own > 0 {
        sentence.push_str(&format!(", {} of this host left to its agent", records(own, "event")));
    }
    say(&sentence);
    if refused == 0 {
        return Ok(Exit::Done);
    }
    for reason in &reasons {
        let width = output::note_columns().map_or(usize::MAX, usize::from);
        output::note(hanging(&format!("- {}", flat(reason)), width, 0, 2).join("\n"));
    }
    let what = format_args!("{}: {} refused", file.display(), records(refused, "record"));
    Err(Failure::new(what).hint("why is above; all that proves what it has to was taken in"))
}

fn stopped_stats(store: &Path) -> Result<StoreInfo, Failure> {
    let stats = storage::stats(store)?;
    let outbox = stats.tables.iter().find(|found| found.table == Table::Outbox).map_or(0, |found| found.rows);
    let tables = stats.tables.into_iter().map(|found| StoreTable {
        table: found.table.name().to_owned(),
        rows: found.rows,
        bytes: found.bytes,
        class: class(found.table).to_owned(),
    });
    Ok(StoreInfo {
        schema: SCHEMA,
        path: store.display().to_string(),
        bytes: stats.file_bytes,
        tables: tables.collect(),
        outbox,
        health: "ok".to_owned(),
    })
}

fn class(table: Table) -> &'static str {
    match table.class() {
        Class::Canonical => "canonical",
        Class::Derived => "derived",
        Class::Local => "local",
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        let failure = Self::new(&error);
        match error {
            StorageError::View { .. } => failure,
            StorageError::Store(StoreError::Missing { .. }) => failure
                .hint("it is muster.redb in the agent's state_dir, and is made when the agent first starts"),
            StorageError::Store(_) => {
                failure.hint("an agent that runs holds its store to itself: systemctl stop muster")
            }
            StorageError::NotAnExport { .. } => {
                failure.hint("muster store export writes one, of a stopped agent's store")
            }
            StorageError::Rebuild(_) | StorageError::NoOwner { .. } => failure.hint(
                "the rest of the fleet holds this host's records too: with an empty store it gets them back",
            ),
        }
    }
}

fn text(info: &StoreInfo, look: &Look) -> String {
    let health = if info.health == "ok" { Tone::Good } else { Tone::Bad };
    let outbox = match info.outbox {
        0 => "every own event is stored by a quorum".to_owned(),
        waiting => {
            let events = count(usize::try_from(waiting).unwrap_or(usize::MAX), "own event");
            format!("{events} not stored by a quorum yet")
        }
    };
    let rows = info.tables.iter().map(|table| {
        vec![
            field(&table.table),
            field(table.rows),
            field(bytes(table.bytes)),
            tinted(Tone::Faint, &table.class),
        ]
    });
    format!(
        "{}, {}, {}\n{outbox}\n\n{}",
        flat(&info.path),
        bytes(info.bytes),
        look.tone(health, &info.health),
        look.table(&["TABLE", "ROWS", "SIZE", "CLASS"], rows)
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::render::tests::{check, look};
    use super::*;
    use crate::control::wire::fixtures;

    #[test]
    fn a_verified_store_is_told_apart_from_one_with_a_fault() {
        let place = Path::new("/run/muster/muster.sock");
        let mut report = fixtures::store_verified();
        assert_eq!(
            verified(place, &report),
            Ok("/run/muster/muster.sock: 812 records, every signature holds; 40 rows of views, each as it should be"
                .to_owned())
        );
        (report.ok, report.fault) = (false, Some("arrival 7: the record is missing".to_owned()));
        let failure = verified(place, &report).unwrap_err();
        assert_eq!(failure.exit, Exit::Refused);
        assert_eq!(failure.message, "/run/muster/muster.sock: arrival 7: the record is missing");
    }

    #[test]
    fn the_tables_are_listed_with_their_sizes() {
        check(
            &text(&fixtures::store(), &look()),
            &[
                "/var/lib/muster/muster.redb, 1.5 MiB, ok",
                "2 own events not stored by a quorum yet",
                "",
                "TABLE         ROWS  SIZE       CLASS",
                "feeds         812   392.6 KiB  canonical",
                "host_records  4     960 B      derived",
            ],
        );
    }
}
