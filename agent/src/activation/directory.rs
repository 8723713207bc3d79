//! The directory backend: a release is a folder under `releases/`, and the `current` symlink says which one runs.
//!
//! A switch is done by a process of its own (see [`super::switch`]), so that it ends well when the agent does not. The
//! agent takes the lock, writes down what is about to happen and hands the locked file on as that process's stdin: a lock
//! belongs to the open file, not to a process, so there is no instant at which nobody holds it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use muster_core::id::Closure;
use tokio::sync::oneshot;

use super::status::Status;
use super::{Job, Outcome, Trace};
use crate::process::search_path;

/// The program that a release may bring.
pub(super) const ACTIVATE: &str = "activate";
/// The name of a release's health checks.
const HEALTH_CHECKS: &str = "health-checks.json";
/// This very program, also after its file was replaced by an upgrade.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Releases in folders below one root.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
    program: PathBuf,
}

impl Directory {
    /// The backend over `<root>/releases`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self::with_program(root, OWN_PROGRAM)
    }

    /// The same, with another muster to do the switching than the running one.
    pub fn with_program(root: impl Into<PathBuf>, program: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), program: program.into() }
    }

    /// The release that the `current` symlink names; none if there is no such release.
    pub fn current(&self) -> Option<Closure> {
        let link = fs::read_link(self.root.join("current")).ok()?;
        let name = link.strip_prefix("releases").ok()?.to_str()?;
        let closure: Closure = format!("dir:{name}").parse().ok()?;
        self.release(&closure).ok()?;
        Some(closure)
    }

    /// Whether the release is there and in good form; if not, why.
    pub fn accepts(&self, closure: &Closure) -> Result<(), String> {
        self.release(closure).map(|_| ())
    }

    /// Where a release declares its health checks; none if it is no release of this backend.
    pub fn health_checks(&self, closure: &Closure) -> Option<PathBuf> {
        Some(self.root.join("releases").join(closure.directory_release()?).join(HEALTH_CHECKS))
    }

    /// The folder of a release, after every check of its form.
    pub(super) fn release(&self, closure: &Closure) -> Result<PathBuf, String> {
        let Some(name) = closure.directory_release() else {
            return Err(format!("{closure} is not a dir:<name> closure, which the directory backend needs"));
        };
        let releases = fs::canonicalize(self.root.join("releases"))
            .map_err(|error| format!("{}: {error}", self.root.join("releases").display()))?;
        let folder = releases.join(name);
        let found =
            fs::symlink_metadata(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        if !found.is_dir() {
            return Err(format!("{} is not a folder, or is a symlink", folder.display()));
        }
        for file in [ACTIVATE, HEALTH_CHECKS] {
            let path = folder.join(file);
            match fs::canonicalize(&path) {
                Ok(real) if real.starts_with(&folder) => {}
                Ok(real) => {
                    return Err(format!(
                        "{} leads out of its release, to {}",
                        path.display(),
                        real.display()
                    ));
                }
                Err(_) if fs::symlink_metadata(&path).is_err() => {}
                Err(error) => return Err(format!("{}: {error}", path.display())),
            }
        }
        Ok(folder)
    }

    /// See [`super::Backend::switch`].
    pub async fn switch(&self, job: Job, timeout: Duration) -> Outcome {
        match self.try_switch(&job, timeout).await {
            Ok(outcome) => outcome,
            Err(reason) => self.failed(reason),
        }
    }

    async fn try_switch(&self, job: &Job, timeout: Duration) -> Result<Outcome, String> {
        self.release(&job.target)?;
        let under_way = self.trace(job) == Trace::Running;
        let lock =
            self.locked().await.map_err(|error| format!("the lock of {}: {error}", self.root.display()))?;
        if under_way && let Trace::Ended(outcome) = self.concluded(job) {
            return Ok(outcome);
        }
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        Status::starting(job.clone(), self.current(), timeout_ms)
            .write(&self.root)
            .map_err(|error| format!("the status file in {}: {error}", self.root.display()))?;
        let mut child = self.spawn(&lock).map_err(|error| format!("{}: {error}", self.program.display()))?;
        // The agent's copy of the lock lasts until the result is read, so that no other switch writes over it.
        let ended = child.wait().await;
        match self.concluded(job) {
            Trace::Ended(outcome) => Ok(outcome),
            Trace::None | Trace::Running | Trace::Deferred { .. } => Err(match ended {
                Ok(status) => format!("the process that switches ended at once: {status}"),
                Err(error) => format!("the process that switches: {error}"),
            }),
        }
    }

    fn spawn(&self, lock: &File) -> io::Result<tokio::process::Child> {
        tokio::process::Command::new(&self.program)
            .arg("internal-switch")
            .arg(&self.root)
            .env_clear()
            .env("PATH", search_path())
            .stdin(Stdio::from(lock.try_clone()?))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
    }

    /// See [`super::Backend::trace`].
    pub fn trace(&self, job: &Job) -> Trace {
        let free = match lock_file(&self.root) {
            Ok(file) => match file.try_lock_shared() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => false,
                Err(TryLockError::Error(error)) => {
                    tracing::warn!(root = %self.root.display(), %error, "the lock of switches cannot be tried");
                    false
                }
            },
            // Without a root nothing can have been begun in it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Trace::None,
            Err(error) => {
                tracing::warn!(root = %self.root.display(), %error, "the lock of switches cannot be opened");
                false
            }
        };
        if free {
            return self.concluded(job);
        }
        match self.read_status() {
            Some(status) if status.job.is_same(job) => Trace::Running,
            Some(_) | None => Trace::None,
        }
    }

    /// See [`super::Backend::wait`].
    pub async fn wait(&self, job: &Job) -> Outcome {
        let lock = self.locked().await;
        let trace = self.concluded(job);
        drop(lock);
        match trace {
            Trace::Ended(outcome) => outcome,
            Trace::None | Trace::Running | Trace::Deferred { .. } => {
                self.failed("nothing is known of this switch".to_owned())
            }
        }
    }

    fn concluded(&self, job: &Job) -> Trace {
        self.read_status().map_or(Trace::None, |status| status.concluded(job, self.current()))
    }

    fn read_status(&self) -> Option<Status> {
        Status::read(&self.root).unwrap_or_else(|error| {
            tracing::warn!(root = %self.root.display(), %error, "the status of the last switch is unreadable");
            None
        })
    }

    /// Waits for the lock on a thread of its own, since a wait that nobody is interested in any more must hold up nothing.
    async fn locked(&self) -> io::Result<File> {
        let file = lock_file(&self.root)?;
        let (sender, receiver) = oneshot::channel();
        std::thread::Builder::new().name("switch-lock".to_owned()).spawn(move || {
            let locked = file.lock().map(|()| file);
            // If nobody waits any more, the file is dropped here and with it the lock.
            let _ = sender.send(locked);
        })?;
        receiver.await.map_err(io::Error::other)?
    }

    fn failed(&self, reason: String) -> Outcome {
        Outcome { exit_code: -1, stderr_tail: super::switch::bounded(&reason), observed: self.current() }
    }
}

/// The open file that switches lock.
fn lock_file(root: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(lock_path(root))
}

/// Where it lies.
pub(super) fn lock_path(root: &Path) -> PathBuf {
    root.join("switch.lock")
}
