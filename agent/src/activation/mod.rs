//! Puts a closure into place on this host, in a way that outlives the agent.

pub mod directory;
pub mod nixos;
mod status;
pub mod switch;

use std::path::PathBuf;
use std::time::Duration;

use muster_core::id::{Closure, RolloutId};
use serde::{Deserialize, Serialize};

pub use directory::Directory;

use crate::config::{Activation, BackendKind};

/// Which way a job goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// To the target of a rollout.
    Switch,
    /// Back to what ran before it.
    RollBack,
}

/// One switch to be done; the rollout, the log index and the task are its identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The rollout that asks for it.
    pub rollout: RolloutId,
    /// Which way it goes.
    pub task: Task,
    /// What is to run after it.
    pub target: Closure,
    /// What ran before it, if that is known.
    pub previous: Option<Closure>,
    /// The log index of the dispatch that asks for it.
    pub log_index: u64,
}

impl Job {
    /// Whether both are the same job, whoever asks for it.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.rollout, self.log_index, self.task) == (&other.rollout, other.log_index, other.task)
    }
}

/// How a switch ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The exit code of what was run; 128 and more for a signal, -1 where there is none.
    pub exit_code: i32,
    /// The end of what it wrote to stderr, at most [`muster_core::wire::STDERR_TAIL_BYTES_MAX`] bytes.
    pub stderr_tail: String,
    /// What runs now, as far as the backend can tell.
    pub observed: Option<Closure>,
}

/// What is known of a job that may have been begun in an earlier life of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trace {
    /// It never began, or nothing is known of it any more.
    None,
    /// It is under way.
    Running,
    /// It is over.
    Ended(Outcome),
}

/// A backend that this build or this host cannot offer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// The configuration asks for the NixOS backend.
    #[error(
        "activation.backend = \"nixos\" is not built into this version of muster, which has only \"directory\""
    )]
    NixosNotBuilt,
    /// The directory backend was given no root.
    #[error("activation.backend = \"directory\" needs activation.root, the folder that holds releases/")]
    NoRoot,
}

/// What puts closures into place.
#[derive(Debug, Clone)]
pub enum Backend {
    /// Releases are folders, and a symlink says which one runs.
    Directory(Directory),
}

impl Backend {
    /// The backend that the configuration names.
    pub fn new(activation: &Activation) -> Result<Self, BackendError> {
        match activation.backend {
            BackendKind::Nixos => Err(BackendError::NixosNotBuilt),
            BackendKind::Directory => {
                let root = activation.root.clone().ok_or(BackendError::NoRoot)?;
                Ok(Self::Directory(Directory::new(root)))
            }
        }
    }

    /// How the backend switches, in its own words.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Directory(_) => "directory",
        }
    }

    /// What runs now; none if that is nothing that the backend put there.
    pub fn current(&self) -> Option<Closure> {
        match self {
            Self::Directory(directory) => directory.current(),
        }
    }

    /// Whether the backend could switch to a closure now; if not, why.
    pub fn accepts(&self, closure: &Closure) -> Result<(), String> {
        match self {
            Self::Directory(directory) => directory.accepts(closure),
        }
    }

    /// Whether the backend fetches closures ahead of their switch.
    pub fn prefetches(&self) -> bool {
        match self {
            Self::Directory(_) => false,
        }
    }

    /// Where a closure's health checks are declared.
    pub fn health_checks(&self, closure: &Closure) -> Option<PathBuf> {
        match self {
            Self::Directory(directory) => directory.health_checks(closure),
        }
    }

    /// Does a job and waits for its end; the job goes on if the future is dropped or the agent killed.
    ///
    /// If that very job is under way already, its end is awaited instead; another one's end is awaited first.
    pub async fn switch(&self, job: Job, timeout: Duration) -> Outcome {
        match self {
            Self::Directory(directory) => directory.switch(job, timeout).await,
        }
    }

    /// What became of a job, asked after a restart of the agent.
    pub fn trace(&self, job: &Job) -> Trace {
        match self {
            Self::Directory(directory) => directory.trace(job),
        }
    }

    /// Waits for the end of a job that [`Self::trace`] said is running.
    pub async fn wait(&self, job: &Job) -> Outcome {
        match self {
            Self::Directory(directory) => directory.wait(job).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_that_cannot_be_had_is_refused_with_the_reason() {
        let nixos = Activation::default();
        assert_eq!(Backend::new(&nixos).err(), Some(BackendError::NixosNotBuilt));
        let rootless = Activation { backend: BackendKind::Directory, ..nixos };
        assert_eq!(Backend::new(&rootless).err(), Some(BackendError::NoRoot));
        let directory = Activation { root: Some("/nowhere".into()), ..rootless };
        let backend = Backend::new(&directory);
        assert_eq!(
            backend.as_ref().map(|backend| (backend.method(), backend.prefetches())),
            Ok(("directory", false))
        );
        assert_eq!(backend.map(|backend| backend.current()), Ok(None));
    }
}
