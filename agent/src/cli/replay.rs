//! `muster replay`: the fleet as it was.

use std::fmt::Write;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use clap::Args;
use muster_store::Store;

use super::output::{self, Tone, count, line};
use super::render::{Look, flat, moment};
use super::{Exit, Failure, status, when};
use crate::control::wire::HostStatus;
use crate::daemon::past::{self, HostThen, Move, Then};
use crate::storage::{Export, SnapshotRows, StorageError};

/// The store of an agent with the defaults.
const STORE_DEFAULT: &str = "/var/lib/muster/muster.redb";
/// How a store's file begins; an export is something else.
const STORE_MAGIC: &[u8] = b"redb";

/// Shows the fleet as it was, from a stopped agent's store or from an export of one.
///
/// What that host learnt is learnt again in the same order, by the code that the agent itself runs, every signature
/// checked again, up to the first thing that was signed later than --until. Who was online then nobody wrote down, and of
/// what lies before the oldest checkpoint there is no order any more: the view begins there.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  muster replay --store home.cbor                      as it was at the end
  muster replay --store home.cbor --until 2026-11-24T06:00:00Z
  muster replay --store home.cbor --until 2h --follow  every move on the way there
  systemctl stop muster && muster replay               this host's own store

With --json the view is one object; with --follow before it every move is one
object a line.")]
pub(super) struct Replay {
    /// The store of a stopped agent, or an export.
    #[arg(long, value_name = "FILE", default_value = STORE_DEFAULT)]
    store: PathBuf,
    /// The moment to look at: a time, or how long ago, such as 2h; by default the end.
    #[arg(long, value_name = "TIME", value_parser = when::since)]
    until: Option<DateTime<Utc>>,
    /// Tell every move of a host or a rollout on the way.
    #[arg(long)]
    follow: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Replay {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let then = self.replay()?;
        if self.json {
            if self.follow {
                self.object(&then);
            } else {
                output::json(&then);
            }
        } else {
            if self.follow {
                line("");
            }
            line(text(&then, &Look::of_stdout()).trim_end());
        }
        Ok(Exit::Done)
    }

    fn replay(&self) -> Result<Then, StorageError> {
        let tell = |step: Move| {
            if self.follow && self.json {
                self.object(&step);
            } else if self.follow {
                let at = step.at.map(moment).unwrap_or_default();
                line(format_args!("{at:20}  {}", flat(&step.what)));
            }
        };
        if is_store(&self.store) {
            let store = Store::open_offline(&self.store)?;
            let snapshot = store.read()?;
            return past::replay(&self.store, &SnapshotRows(&snapshot), self.until, tell);
        }
        past::replay(&self.store, &Export::read(&self.store)?, self.until, tell)
    }

    /// One line of JSON.
    fn object(&self, value: &impl serde::Serialize) {
        if let Ok(text) = serde_json::to_string(value) {
            line(text);
        }
    }
}

/// Whether the file is a store; one that is not there is taken for one, whose absence the store tells best.
fn is_store(path: &Path) -> bool {
    let mut magic = [0; STORE_MAGIC.len()];
    match File::open(path) {
        Ok(mut file) => file.read_exact(&mut magic).is_ok() && magic == STORE_MAGIC,
        Err(_) => true,
    }
}

fn text(then: &Then, look: &Look) -> String {
    let mut text = String::new();
    let (fleet, host) = (look.tone(Tone::Strong, &then.fleet), flat(&then.host));
    let records = count(usize::try_from(then.records).unwrap_or(usize::MAX), "record");
    let at =
        then.at.map_or_else(|| "before anything was signed".to_owned(), |at| format!("at {}", moment(at)));
    let _ = writeln!(text, "{fleet} {at}, as {host} knew it: {records}");
    let _ = match then.fleet_serial {
        Some(serial) => writeln!(text, "fleet document {serial}, {}", count(then.quarantines, "quarantine")),
        None => writeln!(text, "no fleet document yet"),
    };
    text.push('\n');
    let hosts: Vec<HostStatus> = then.hosts.iter().map(shown).collect();
    text.push_str(&status::body(&then.channels, &hosts, &then.rollouts, look));
    text
}

fn shown(then: &HostThen) -> HostStatus {
    let HostThen { host, state, current, target } = then.clone();
    HostStatus {
        host,
        state,
        current,
        target,
        online: true,
        waits_for: None,
        fetching: None,
        reboot_pending: false,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::render::tests::{check, look};
    use super::*;
    use crate::control::wire::{HostState, SCHEMA, fixtures};

    #[test]
    fn the_past_looks_as_the_present_does() {
        let host = |host: &str, state| HostThen {
            host: host.to_owned(),
            state,
            current: Some("dir:v2".to_owned()),
            target: Some("dir:v2".to_owned()),
        };
        let then = Then {
            schema: SCHEMA,
            fleet: "home".to_owned(),
            host: "web-01".to_owned(),
            at: Some(fixtures::at(0)),
            records: 812,
            fleet_serial: Some(4),
            channels: fixtures::status().channels,
            hosts: vec![host("db-01", None), host("web-01", Some(HostState::Converged))],
            rollouts: vec![fixtures::rollout_show()],
            quarantines: 1,
        };
        check(
            &text(&then, &look()),
            &[
                "home at 2026-11-18T11:06:40Z, as web-01 knew it: 812 records",
                "fleet document 4, 1 quarantine",
                "",
                "edge    nothing released yet",
                "stable  v2  Active, wave 2 of 3",
                "  wave 1   ████████████████████  1 of 1 done",
                "  wave 2   ░░░░░░░░░░░░░░░░░░░░  0 of 1 done, 1 soaking",
                "  wave 3   ░░░░░░░░░░░░░░░░░░░░  0 of 1 done",
                "",
                "HOST    STATE      CURRENT  TARGET",
                "db-01   idle       dir:v2   same",
                "web-01  Converged  dir:v2   same",
            ],
        );
    }

    #[test]
    fn what_is_neither_a_store_nor_an_export_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("notes");
        for content in [&b"these are notes"[..], &[0x83; 5000], b"redb but no more"] {
            std::fs::write(&file, content).unwrap();
            let replay = Replay { store: file.clone(), until: None, follow: false, json: false };
            let failure = replay.run().unwrap_err();
            assert!(failure.message.contains("notes"), "{failure}");
        }
        let missing = Replay { store: folder.path().join("none"), until: None, follow: false, json: true };
        assert!(missing.run().unwrap_err().message.contains("there is no store"));
    }
}
