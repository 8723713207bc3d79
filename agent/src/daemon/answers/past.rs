//! The same answers from a stopped agent's store, for whoever looks back.

use std::path::Path;
use std::sync::Arc;

use chrono::Utc;
use muster_core::ledger::Ledger;
use muster_store::Store;

use super::history::Source;
use super::rollouts;
use crate::control::{Problem, wire};
use crate::storage::{self, StorageError};

/// What a stopped agent's store comes to.
#[derive(Debug)]
pub struct Past {
    store: Arc<Store>,
    ledger: Ledger,
}

impl Past {
    /// Opens a stopped agent's store and learns all of it again, every signature checked.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let store = Store::open_offline(path)?;
        let ledger = storage::ledger(path, &store.read()?)?;
        Ok(Self { store: Arc::new(store), ledger })
    }

    /// The fleet's name.
    pub fn fleet(&self) -> String {
        self.ledger.documents().fleet_name().to_string()
    }

    /// One rollout, as the running agent would tell it.
    pub fn rollout(&self, id: &str) -> Result<wire::RolloutShow, Problem> {
        let mut show = rollouts::show(&self.ledger, id)?;
        let source = Source::of(Arc::clone(&self.store), &self.ledger, Utc::now());
        show.timeline = rollouts::timeline(source, id, show.timeline)?;
        Ok(show)
    }
}
