//! Puts a closure into place on this host, in a way that outlives the agent.

pub mod directory;
pub mod nixos;
mod status;
pub mod switch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use muster_core::id::{Closure, RolloutId};
use muster_core::node::{Fetch, Goods};
use muster_signing::Digest;
use serde::{Deserialize, Serialize};

pub use directory::Directory;
pub use nixos::Nixos;

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

/// What came of a switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Switched {
    /// It is over.
    Ended(Outcome),
    /// The target is the next boot's, and what runs was left alone.
    Deferred {
        /// The component that cannot be swapped on a running system.
        component: String,
    },
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
    /// It set the target for the next boot.
    Deferred {
        /// The component that cannot be swapped on a running system.
        component: String,
    },
}

/// A backend that this build or this host cannot offer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// The directory backend was given no root.
    #[error("activation.backend = \"directory\" needs activation.root, the folder that holds releases/")]
    NoRoot,
}

/// What puts closures into place.
#[derive(Debug, Clone)]
pub enum Backend {
    /// Releases are folders, and a symlink says which one runs.
    Directory(Directory),
    /// Closures are NixOS systems in the store.
    Nixos(Nixos),
}

impl Backend {
    /// The backend that the configuration names; `state_dir` is where it may keep what it has to remember.
    pub fn new(activation: &Activation, state_dir: &Path) -> Result<Self, BackendError> {
        match activation.backend {
            BackendKind::Nixos => {
                let machine = nixos::machine::Machine::default();
                let root = Arc::new(machine.clone());
                Ok(Self::Nixos(Nixos::new(machine, root, activation.defer.clone(), state_dir)))
            }
            BackendKind::Directory => {
                let root = activation.root.clone().ok_or(BackendError::NoRoot)?;
                Ok(Self::Directory(Directory::new(root)))
            }
        }
    }

    /// What runs now; none if that is nothing that the backend put there.
    pub fn current(&self) -> Option<Closure> {
        match self {
            Self::Directory(directory) => directory.current(),
            Self::Nixos(nixos) => nixos.current(),
        }
    }

    /// Whether the backend could switch to a closure now; if not, why.
    pub fn accepts(&self, closure: &Closure) -> Result<(), String> {
        match self {
            Self::Directory(directory) => directory.accepts(closure),
            Self::Nixos(nixos) => nixos.accepts(closure),
        }
    }

    /// Whether a part of what runs takes effect at the next boot only.
    pub fn reboot_is_pending(&self) -> bool {
        match self {
            Self::Directory(_) => false,
            Self::Nixos(nixos) => nixos.reboot_is_pending(),
        }
    }

    /// Lets go of what was fetched ahead and is not wanted any more.
    pub fn keep_ahead(&self, goods: &[Goods]) {
        match self {
            Self::Directory(_) => {}
            Self::Nixos(nixos) => nixos.keep_ahead(goods),
        }
    }

    /// Fetches a closure ahead of its switch; `tell` hears how it goes.
    pub async fn prefetch(&self, goods: &Goods, tell: &mut (dyn FnMut(Fetch) + Send)) {
        match self {
            // Releases are put under the root by whoever publishes them.
            Self::Directory(_) => {}
            Self::Nixos(nixos) => nixos.prefetch(goods, tell).await,
        }
    }

    /// Where a closure's health checks are declared.
    pub fn health_checks(&self, closure: &Closure) -> Option<PathBuf> {
        match self {
            Self::Directory(directory) => directory.health_checks(closure),
            Self::Nixos(nixos) => Some(nixos.health_checks(closure)),
        }
    }

    /// Does a job and waits for its end; the job goes on if the future is dropped or the agent killed. `contents` is what
    /// the operators signed of the target.
    ///
    /// If that very job is under way already, its end is awaited instead; another one's end is awaited first.
    pub async fn switch(&self, job: Job, contents: Option<Digest>, timeout: Duration) -> Switched {
        match self {
            Self::Directory(directory) => Switched::Ended(directory.switch(job, timeout).await),
            Self::Nixos(nixos) => nixos.switch(job, contents, timeout).await,
        }
    }

    /// What became of a job, asked after a restart of the agent.
    pub async fn trace(&self, job: &Job) -> Trace {
        match self {
            Self::Directory(directory) => directory.trace(job),
            Self::Nixos(nixos) => nixos.trace(job).await,
        }
    }

    /// Waits for the end of a job that [`Self::trace`] said is running.
    pub async fn wait(&self, job: &Job) -> Switched {
        match self {
            Self::Directory(directory) => Switched::Ended(directory.wait(job).await),
            Self::Nixos(nixos) => nixos.wait(job).await,
        }
    }

    /// Whether the machine was booted again and again since the switch of a job.
    pub fn is_looping(&self, job: &Job, boot_id: &str) -> bool {
        match self {
            Self::Directory(_) => false,
            Self::Nixos(nixos) => nixos.is_looping(job, boot_id),
        }
    }

    /// Lets go of the traces of jobs whose results are stored.
    pub async fn settle(&self) {
        match self {
            Self::Directory(_) => {}
            Self::Nixos(nixos) => nixos.settle().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_that_cannot_be_had_is_refused_with_the_reason() {
        let folder = Path::new("/nowhere");
        let rootless = Activation { backend: BackendKind::Directory, ..Activation::default() };
        assert_eq!(Backend::new(&rootless, folder).err(), Some(BackendError::NoRoot));
        let directory = Activation { root: Some(folder.into()), ..rootless };
        assert_eq!(Backend::new(&directory, folder).map(|backend| backend.current()), Ok(None));
        let nixos = Backend::new(&Activation::default(), folder);
        assert!(matches!(nixos, Ok(Backend::Nixos(_))), "{nixos:?}");
    }
}
