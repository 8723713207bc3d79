//! The NixOS backend: a closure is a system in the store, and `switch-to-configuration` puts it into place.
//!
//! What needs root is an [`root::Order`], carried out in this process or by the privileged helper; everything else, such as
//! fetching, comparing and asking what became of a unit, needs none. A switch runs in a transient unit whose name follows
//! from its dispatch, so that an agent that was restarted finds it again. Nothing here removes a generation.

mod boots;
pub mod compare;
pub mod contents;
pub mod fetch;
pub mod machine;
#[cfg(test)]
mod real_nix;
pub mod root;
mod switch;
#[cfg(test)]
pub(crate) mod testing;
pub mod unit;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use muster_core::host::Boots;
use muster_core::id::Closure;
use muster_core::node::{Fetch, Goods};

use super::{Job, Task};
use crate::config::Component;
use fetch::{Patience, Roots};
use machine::Machine;
use root::{Dispatch, Order, Root, Unit};

/// Where a system declares its health checks, below its own path.
const HEALTH_CHECKS: &str = "etc/muster/health-checks.json";

/// NixOS systems, put into place by `switch-to-configuration`.
#[derive(Debug, Clone)]
pub struct Nixos {
    machine: Arc<Machine>,
    root: Arc<dyn Root>,
    defer: Vec<Component>,
    state_dir: PathBuf,
    patience: Patience,
    /// Units whose result was told to the node: once it is stored, systemd need not keep it.
    told: Arc<Mutex<BTreeSet<Unit>>>,
    /// Dispatches that were gone back from: what of their switch is still to be begun is not begun any more. Whoever
    /// begins one holds the lock.
    given_up: Arc<tokio::sync::Mutex<BTreeSet<Dispatch>>>,
}

impl Nixos {
    /// The backend of a machine; `root` does what this process may not.
    pub fn new(machine: Machine, root: Arc<dyn Root>, defer: Vec<Component>, state_dir: &Path) -> Self {
        Self {
            machine: Arc::new(machine),
            root,
            defer,
            state_dir: state_dir.to_owned(),
            patience: Patience::default(),
            told: Arc::default(),
            given_up: Arc::default(),
        }
    }

    /// The same with other patience.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// The machine that it switches.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The same, with another who does what this process may not.
    #[must_use]
    pub fn with_root(self, root: Arc<dyn Root>) -> Self {
        Self { root, ..self }
    }

    /// The system that runs.
    pub fn current(&self) -> Option<Closure> {
        self.machine.current()
    }

    /// Whether the closure is of this backend's form.
    pub fn accepts(&self, closure: &Closure) -> Result<(), String> {
        match closure.directory_release() {
            Some(_) => Err(root::RootError::NotAStorePath(closure.clone()).to_string()),
            None => Ok(()),
        }
    }

    /// Whether a part of what runs takes effect at the next boot only.
    pub fn reboot_is_pending(&self) -> bool {
        self.machine.reboot_is_pending()
    }

    /// Where a system declares its health checks; a path that does not exist if it declares none.
    pub fn health_checks(&self, closure: &Closure) -> PathBuf {
        let path = Path::new(closure.as_str()).join(HEALTH_CHECKS);
        self.machine.real(self.machine.resolve(&path).unwrap_or(path))
    }

    /// Fetches a system ahead of its switch, with bounded patience; `tell` hears how it goes.
    pub async fn prefetch(&self, goods: &Goods, tell: &mut (dyn FnMut(Fetch) + Send)) {
        let root = self.roots().ahead(&goods.closure);
        let mut failed = 0;
        loop {
            let result = {
                let mut progress = |words: String| tell(Fetch::Goes(words));
                let limit = self.patience.each;
                self.machine.fetch(&goods.closure, goods.contents, &root, limit, Some(&mut progress)).await
            };
            let Err(error) = result else {
                // So that a switch finds it in place, too; if it cannot be kept now, the switch says so.
                if let Some(running) = self.current()
                    && let Err(error) = self.keep_way_back(&running, self.patience.each).await
                {
                    tracing::warn!(%error, "the running system cannot be kept in the store");
                }
                return tell(Fetch::Done);
            };
            failed += 1;
            let tries = self.patience.tries;
            let again = error.may_pass() && failed < tries;
            let next = if again { format!(" (try {failed} of {tries})") } else { String::new() };
            tracing::warn!(closure = %goods.closure, %error, failed, again, "a system could not be fetched ahead");
            tell(Fetch::Fails(format!("cannot be fetched{next}: {error}")));
            if !again || !fetch::pause(&self.patience, failed).await {
                return;
            }
        }
    }

    /// Lets go of what was fetched ahead and is not wanted any more.
    pub fn keep_ahead(&self, goods: &[Goods]) {
        let wanted: Vec<Closure> = goods.iter().map(|goods| goods.closure.clone()).collect();
        if let Err(error) = self.roots().keep_ahead(&wanted) {
            tracing::warn!(%error, "the roots of what was fetched ahead cannot be tidied up");
        }
    }

    /// Whether the machine was booted again and again since a switch.
    pub fn is_looping(&self, job: &Job, boot_id: &str) -> bool {
        let boots = boots::note(&self.state_dir, &dispatch(job), boot_id).unwrap_or_else(|error| {
            tracing::warn!(%error, "the boots since the switch cannot be counted");
            Boots::default()
        });
        boots.is_looping()
    }

    /// Lets systemd forget the results that are stored by now.
    pub async fn settle(&self) {
        let told = std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner));
        for unit in told {
            let name = unit.name();
            if let Err(error) = self.root.carry_out(&Order::Reset(unit)).await {
                tracing::warn!(unit = name, %error, "a unit whose result is stored is still there");
            }
        }
    }

    fn roots(&self) -> Roots {
        Roots::of(&self.state_dir)
    }

    fn was_told(&self, unit: &Unit) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(unit.clone());
    }
}

fn dispatch(job: &Job) -> Dispatch {
    let Job { rollout, task: Task::Switch | Task::RollBack, log_index, .. } = job;
    Dispatch { rollout: rollout.clone(), log_index: *log_index }
}

#[cfg(test)]
mod tests;
