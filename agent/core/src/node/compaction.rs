//! The log does not grow for ever: now and then its leader asks for a snapshot, every coordinator signs for what the log led
//! to by then, and with a quorum's signatures it takes the place of the entries, here and for whoever needs them no more.

use super::coordinator::Coordinator;
use super::turn::Turn;
use super::{Node, Note};
use crate::coordination::log::{STATE_BYTES_MAX, Snapshot};
use crate::ledger::{Batch, Table, key};
use crate::wire::{LogStatement, codec};

/// After how many entries a snapshot is asked for, unless the caller says otherwise: some megabytes of log.
pub const SNAPSHOT_ENTRIES: u64 = 4096;

/// What stands for the beginning of the log, as the store has it.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct StoredSnapshot {
    /// Behind which index that log begins.
    pub(super) base: u64,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
}

impl StoredSnapshot {
    /// The snapshot, if its bytes are one.
    pub(super) fn read(&self) -> Option<Snapshot> {
        Snapshot::decode(&self.bytes)
    }
}

impl Node {
    /// Tells the log which snapshots count, and lets one that was made here take the place of its entries.
    pub(super) fn compact_log(&mut self, turn: &mut Turn) {
        let Some(coordinator) = self.coordinator.as_mut().filter(|it| it.takes_part()) else { return };
        let certified = self.ledger.certified_snapshots();
        if *certified != coordinator.vouched {
            coordinator.vouched.clone_from(certified);
            let base = coordinator.base;
            let vouched = certified.iter().filter_map(|(at, digest)| Some((at.checked_sub(base)?, digest.0)));
            coordinator.log.vouch(vouched.collect());
        }
        if let Some(snapshot) = self.ledger.certified_here() {
            let bytes = snapshot.state.len();
            if bytes > STATE_BYTES_MAX {
                let message = format!(
                    "the log is not compacted: what it led to has {bytes} bytes, and {STATE_BYTES_MAX} is the most that is \
                     sent; a shorter retention_days of the coordinators makes it smaller"
                );
                return turn.tell(Note::Warning { message });
            }
            let ready = coordinator.log.compact_behind(snapshot);
            self.absorb(turn, ready);
        }
    }

    /// Takes in what a leader sent in place of entries; false as long as it cannot.
    pub(super) fn install_snapshot(&mut self, turn: &mut Turn) -> bool {
        let Some(coordinator) = &mut self.coordinator else { return false };
        let Some(snapshot) = coordinator.installing.take() else { return true };
        // What a start finds on its own disk was mostly applied before.
        if coordinator.base + snapshot.index <= self.ledger.applied() {
            return true;
        }
        if let Err(error) = self.ledger.install(&snapshot) {
            coordinator.installing = Some(snapshot);
            self.cannot_apply(turn, &error);
            return false;
        }
        (coordinator.awaits, coordinator.planned) = (None, None);
        self.house.installed(self.ledger.position() - 1);
        turn.changed = true;
        true
    }

    /// What the leader says once the log has grown long enough.
    pub(super) fn ask_for_snapshot(&self) -> Option<LogStatement> {
        let due = self.ledger.entries_since_snapshot() >= self.settings.snapshot_entries;
        due.then_some(LogStatement::SnapshotAsked {})
    }

    /// Up to which entry a snapshot stands in the place of the log's entries; none for who keeps them all.
    pub fn compacted(&self) -> Option<u64> {
        let snapshot = self.coordinator.as_ref()?.log.snapshot()?;
        Some(self.ledger.log_begins_behind() + snapshot.index)
    }

    /// Up to which entry the log needs none of what the store has any more.
    pub(super) fn compacted_up_to(&self) -> u64 {
        self.compacted().unwrap_or_else(|| self.ledger.log_begins_behind())
    }
}

impl Coordinator {
    /// Writes a snapshot down that stands for all entries up to its own.
    pub(super) fn store_snapshot(&self, rows: &mut Batch, snapshot: &Snapshot) {
        let stored = StoredSnapshot { base: self.base, bytes: snapshot.encode() };
        rows.put(Table::Snapshot, key::log_snapshot(), codec::encode_row(&stored));
    }
}
