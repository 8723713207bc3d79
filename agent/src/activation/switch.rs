//! The process that does one switch of the directory backend: `muster internal-switch ROOT`, which outlives the agent.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::time::Duration;

use muster_core::id::Closure;
use muster_core::wire::STDERR_TAIL_BYTES_MAX;

use super::directory::{ACTIVATE, Directory, lock_path};
use super::status::{Phase, Status, sync_folder};
use super::{Job, Outcome};
use crate::process::{Ended, Ending, Program, run};
use crate::text::tail;

/// Why a switch was not begun.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// Whoever started it did not hand the lock on.
    #[error("stdin is not the locked {0}; the agent starts this command, people do not")]
    NotLocked(String),
    /// The agent left no job.
    #[error("no switch is about to start in {0}")]
    NoJob(String),
    /// A file or the session could not be had.
    #[error("{what}: {source}")]
    Io {
        /// What was wanted.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// Does the switch that the agent wrote down under `root`, holding the lock that came as stdin.
pub fn perform(root: &Path) -> Result<(), SwitchError> {
    let lock = inherited_lock(root).map_err(|source| SwitchError::Io { what: "the lock", source })?;
    if lock.is_none() {
        return Err(SwitchError::NotLocked(lock_path(root).display().to_string()));
    }
    nix::unistd::setsid()
        .map_err(|error| SwitchError::Io { what: "a session of its own", source: error.into() })?;
    let status = Status::read(root).map_err(|source| SwitchError::Io { what: "the status file", source })?;
    let Some(mut status) = status.filter(|status| status.phase == Phase::Starting) else {
        return Err(SwitchError::NoJob(root.display().to_string()));
    };
    let root = &fs::canonicalize(root).map_err(|source| SwitchError::Io { what: "the root", source })?;
    let (job, timeout) = (status.job.clone(), Duration::from_millis(status.timeout_ms));
    let mut record = |phase| {
        status.phase = phase;
        status.write(root).map_err(|source| SwitchError::Io { what: "the status file", source })
    };
    record(Phase::Running)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| SwitchError::Io { what: "the runtime", source })?;
    let (exit_code, said) = runtime.block_on(activate(root, &job, timeout));
    let observed = Directory::new(root).current();
    record(Phase::Ended(Outcome { exit_code, stderr_tail: bounded(&said), observed }))
}

/// The file on stdin if it is the lock and locked; to lock it again through the same open file changes nothing.
fn inherited_lock(root: &Path) -> io::Result<Option<fs::File>> {
    let file = fs::File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let (given, wanted) = (file.metadata()?, fs::metadata(lock_path(root))?);
    let same = (given.dev(), given.ino()) == (wanted.dev(), wanted.ino());
    Ok((same && file.try_lock().is_ok()).then_some(file))
}

/// Runs the release's program, if it has one, and moves the symlink: the exit code, and what to say about it.
async fn activate(root: &Path, job: &Job, timeout: Duration) -> (i32, String) {
    let folder = match Directory::new(root).release(&job.target) {
        Ok(folder) => folder,
        Err(reason) => return (-1, reason),
    };
    let program = folder.join(ACTIVATE);
    let mut said = String::new();
    if program.exists() {
        let previous = job.previous.as_ref().map_or("", Closure::as_str);
        let ended = run(&Program {
            program: program.clone(),
            args: Vec::new(),
            dir: folder,
            env: vec![
                ("MUSTER_CLOSURE", job.target.as_str().into()),
                ("MUSTER_PREVIOUS", previous.into()),
                ("MUSTER_ROOT", root.into()),
            ],
            timeout,
            tail_bytes_max: STDERR_TAIL_BYTES_MAX,
        })
        .await;
        match judged(ended, &program, timeout) {
            (0, stderr) => said = stderr,
            failed => return failed,
        }
    }
    match swap(root, &job.target) {
        Ok(()) => (0, said),
        Err(error) => (-1, format!("{said}\nthe symlink {}: {error}", root.join("current").display())),
    }
}

fn judged(ended: Ended, program: &Path, timeout: Duration) -> (i32, String) {
    let Ended { ending, tail: said } = ended;
    let (program, before) = (program.display(), said.trim_end());
    match ending {
        Ending::Exited(code) => (code, said),
        Ending::Signalled(signal) => {
            (128 + signal, format!("{before}\n{program} was ended by signal {signal}"))
        }
        Ending::TimedOut => (-1, format!("{before}\n{program} was killed after {} s", timeout.as_secs_f64())),
        Ending::Lost(reason) => (-1, format!("{program}: {reason}")),
    }
}

/// Lets `current` name another release, in one step that survives a power cut.
fn swap(root: &Path, target: &Closure) -> io::Result<()> {
    let Some(name) = target.directory_release() else {
        return Err(io::Error::other("not a release of the directory backend"));
    };
    let fresh = root.join(".current.new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(Path::new("releases").join(name), &fresh)?;
    fs::rename(&fresh, root.join("current"))?;
    sync_folder(root)
}

/// The end of a text, as much as an event carries.
pub(super) fn bounded(text: &str) -> String {
    tail(text.trim_start(), STDERR_TAIL_BYTES_MAX).to_owned()
}
