//! The file beside the lock that tells a restarted agent how far a switch came.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use muster_core::id::Closure;
use serde::{Deserialize, Serialize};

use super::{Job, Outcome, Trace};

/// The most that is read of a status file; what is written stays far below it.
const STATUS_BYTES_MAX: u64 = 64 * 1024;
/// The form of the file.
const SCHEMA: u32 = 1;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Status {
    schema: u32,
    /// The job.
    pub(super) job: Job,
    /// What ran when it was begun.
    pub(super) before: Option<Closure>,
    /// How long its program may take, in milliseconds.
    pub(super) timeout_ms: u64,
    /// How far it came.
    pub(super) phase: Phase,
}

/// How far a switch came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// The agent has the lock; nothing is touched yet.
    Starting,
    /// The process that switches has begun.
    Running,
    /// It is over.
    Ended(Outcome),
}

impl Status {
    /// A job that is about to start.
    pub(super) fn starting(job: Job, before: Option<Closure>, timeout_ms: u64) -> Self {
        Self { schema: SCHEMA, job, before, timeout_ms, phase: Phase::Starting }
    }

    /// Reads the file; none if there is none.
    pub(super) fn read(root: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path(root)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut text = Vec::new();
        file.take(STATUS_BYTES_MAX).read_to_end(&mut text)?;
        let status: Self = serde_json::from_slice(&text)?;
        if status.schema == SCHEMA {
            Ok(Some(status))
        } else {
            Err(io::Error::other(format!("schema {} is not {SCHEMA}", status.schema)))
        }
    }

    /// Replaces the file; after it returns the new content survives a power cut.
    pub(super) fn write(&self, root: &Path) -> io::Result<()> {
        let fresh = root.join(".switch.status.new");
        let mut file = File::create(&fresh)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&fresh, path(root))?;
        sync_folder(root)
    }

    /// What the file says of `job`, once nobody holds the lock any more.
    pub(super) fn concluded(&self, job: &Job, current: Option<Closure>) -> Trace {
        if !self.job.is_same(job) {
            return Trace::None;
        }
        match &self.phase {
            Phase::Starting => Trace::None,
            Phase::Ended(outcome) => Trace::Ended(outcome.clone()),
            Phase::Running => {
                let target = Some(&self.job.target);
                // The symlink moves only after the program has exited with 0.
                let swapped = self.before.as_ref() != target && current.as_ref() == target;
                Trace::Ended(if swapped {
                    Outcome { exit_code: 0, stderr_tail: String::new(), observed: current }
                } else {
                    Outcome {
                        exit_code: -1,
                        stderr_tail: "the switch was killed, or the machine went down, before it ended"
                            .to_owned(),
                        observed: current,
                    }
                })
            }
        }
    }
}

/// Makes renames in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn path(root: &Path) -> PathBuf {
    root.join("switch.status")
}
