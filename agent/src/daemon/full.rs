//! A full disk: the agent stays, answers what it is asked, and begins again where its store stands once there is room.
//!
//! What the node owes after a write that failed must not happen, and what the node believes is ahead of the disk.
//! So it is told nothing more, and is then built again from what is durable, as after a restart.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use muster_core::document::Trust;
use muster_core::drive::Drive;
use muster_core::node::{Input, Node, Output, Settings};
use muster_signing::SigningKey;
use muster_store::{CommitError, Store};
use tokio::time::Instant;

use super::{Daemon, now};
use crate::control::{Code, Problem};
use crate::{keys, storage};

/// How often is tried whether the disk has room again.
const TRY_EVERY: Duration = Duration::from_secs(5);

/// How the agent fares with its disk.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// When is tried next whether there is room; none if there is, as far as is known.
    next_try: Option<Instant>,
    /// Whether people were told since the last write that went well.
    told: bool,
}

impl Disk {
    /// Whether the last write found no room.
    pub(super) fn is_full(&self) -> bool {
        self.next_try.is_some()
    }

    /// A write went well.
    pub(super) fn has_room(&mut self) {
        self.told = false;
    }

    /// Waits for the next try; for ever if the disk is not full.
    pub(super) async fn try_again(&self) {
        match self.next_try {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

impl Daemon {
    /// A write found no room: nothing that waits for it may happen.
    pub(super) fn run_out_of_space(&mut self) {
        if !std::mem::replace(&mut self.disk.told, true) {
            tracing::error!(
                "the disk is full: this host learns, switches and signs nothing until there is room; free \
                 some space where {} lies, and the agent goes on by itself",
                self.store_path.display()
            );
        }
        // A leader hands over: what it says to that leaves at once, and nothing else is owed any more.
        let outputs = self.node.step(now(self.clock), Input::DiskFull);
        let parting =
            outputs.into_iter().filter(|output| matches!(output, Output::Send { at_once: true, .. }));
        Drive::new().carry_out(parting.collect(), &mut self.hands);
        self.disk.next_try = Some(Instant::now() + TRY_EVERY);
        self.drive = Drive::new();
        self.hands.forget();
        self.backlog.clear();
        self.reports = self.workers.begin_again();
    }

    /// Tries whether the disk takes a row that it holds already.
    pub(super) fn try_the_disk(&mut self) {
        self.disk.next_try = Some(Instant::now() + TRY_EVERY);
        self.hands.try_to_write(storage::pins_row(&self.pins));
    }

    /// The row was written, or not.
    pub(super) fn tried(&mut self, result: Result<(), CommitError>) -> anyhow::Result<()> {
        match result {
            // An earlier try took longer than the time between two.
            Ok(()) if !self.disk.is_full() => Ok(()),
            Ok(()) => self.begin_again(),
            Err(CommitError::Full) => Ok(()),
            Err(error) => Err(self.no_more_writes(error)),
        }
    }

    /// Builds the node again from what is durable.
    fn begin_again(&mut self) -> anyhow::Result<()> {
        let settings = Settings { seed: seed()?, ..self.node.settings().clone() };
        let (node, outputs) =
            build(settings, &self.key, &self.pins, &self.hands.store, &self.store_path, self.clock)?;
        tracing::info!("the disk has room again");
        self.disk.next_try = None;
        self.node = node;
        self.carry_out(outputs);
        Ok(())
    }
}

/// Starts a node from what is durable.
pub(super) fn build(
    settings: Settings,
    key: &SigningKey,
    pins: &[Trust],
    store: &Store,
    path: &Path,
    clock: std::time::Instant,
) -> anyhow::Result<(Node, Vec<Output>)> {
    let snapshot = store.read()?;
    let rows = storage::SnapshotRows(&snapshot);
    Node::start(settings, key.clone(), pins.to_vec(), &rows, now(clock))
        .with_context(|| format!("{} is not what was written", path.display()))
}

/// A seed for the node's jitter.
pub(super) fn seed() -> anyhow::Result<u64> {
    Ok(u64::from_le_bytes(keys::random::<8>().context("the system gives no randomness")?))
}

/// Why a document cannot be taken in now.
pub(super) fn refusal() -> Problem {
    Problem::new(
        Code::Unavailable,
        "the disk of this host is full; publish at another host, or free some space",
    )
}
