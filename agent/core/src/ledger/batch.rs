//! What the node asks the store to write: rows of tables, keys and values made here.

use muster_signing::Digest;
use serde::Serialize;

use crate::id::{ChannelId, Closure, HostId, RolloutId};
use crate::wire::{DecisionId, DocumentKind};

/// The version in front of every derived row.
pub const ROW_VERSION: u32 = 1;

/// The tables of a host's store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    /// Facts about the store itself: incarnation, boot counter, epoch.
    Meta,
    /// Signed documents.
    Documents,
    /// Signed envelopes of every feed.
    Feeds,
    /// The newest position of every feed.
    FeedHeads,
    /// The coordinators' log.
    Log,
    /// The term and the vote.
    HardState,
    /// What this node knew at some positions of `arrivals`, and what stands for the beginning of the log.
    Snapshot,
    /// Certified decisions.
    Decisions,
    /// What this coordinator signed or objected to.
    Endorsed,
    /// Proofs of lies and of equivocation.
    Proofs,
    /// The order in which this node learnt things.
    Arrivals,
    /// Own durable events that a quorum has not stored yet.
    Outbox,
    /// How far coordinators have stored this host's feed.
    Marks,
    /// What every host is in every rollout.
    HostRecords,
    /// What every rollout is.
    Rollouts,
    /// Closures barred from channels.
    Quarantines,
    /// Probes that fail.
    ProbeFailures,
}

impl Table {
    /// The views: what `arrivals` and the canonical tables derive.
    pub const DERIVED: [Self; 5] =
        [Self::FeedHeads, Self::HostRecords, Self::Rollouts, Self::Quarantines, Self::ProbeFailures];
}

/// One row to write; no value deletes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The table.
    pub table: Table,
    /// The row's key.
    pub key: Vec<u8>,
    /// The row's value.
    pub value: Option<Vec<u8>>,
}

/// Rows that are written in one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch(pub Vec<Change>);

impl Batch {
    /// Adds a row.
    pub fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.0.push(Change { table, key, value: Some(value) });
    }

    /// Deletes a row.
    pub fn delete(&mut self, table: Table, key: Vec<u8>) {
        self.0.push(Change { table, key, value: None });
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Moves the rows of another batch behind these.
    pub fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }
}

/// A row of a view: the value and the arrival that it follows from.
#[derive(Debug, Clone, Serialize, serde::Deserialize)]
pub struct ViewRow<T> {
    /// The version of the row's form.
    pub v: u32,
    /// The position in `arrivals`.
    pub position: u64,
    /// The value.
    pub row: T,
}

/// An entry of `arrivals`: the canonical row that was learnt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Reference {
    /// Where it is.
    pub table: Table,
    /// Its key there.
    #[serde(with = "serde_bytes")]
    pub key: Vec<u8>,
}

/// Keys of rows; numbers are big-endian, so that keys sort as numbers do, and texts end with a zero byte.
pub mod key {
    use super::{ChannelId, Closure, DecisionId, Digest, DocumentKind, HostId, RolloutId};

    /// `meta`: by name.
    pub fn meta(name: &str) -> Vec<u8> {
        name.as_bytes().to_vec()
    }

    /// The byte that keys of one kind of documents begin with.
    pub fn document_kind(kind: DocumentKind) -> u8 {
        match kind {
            DocumentKind::Fleet => 0,
            DocumentKind::ChannelRef => 1,
            DocumentKind::Command => 2,
        }
    }

    /// `documents`: (kind, channel, serial, hash).
    pub fn document(kind: DocumentKind, channel: Option<&ChannelId>, serial: u64, hash: &Digest) -> Vec<u8> {
        let mut key = vec![document_kind(kind)];
        text(&mut key, channel.map_or("", ChannelId::as_str));
        key.extend(serial.to_be_bytes());
        key.extend(hash.as_bytes());
        key
    }

    /// `feeds`: (host, incarnation, seq).
    pub fn feed(host: &HostId, incarnation: u64, seq: u64) -> Vec<u8> {
        let mut key = feed_head(host, incarnation);
        key.extend(seq.to_be_bytes());
        key
    }

    /// What a key of `feeds` names: (host, incarnation, seq).
    pub fn read_feed(key: &[u8]) -> Option<(HostId, u64, u64)> {
        let (rest, seq) = key.split_last_chunk()?;
        let (host, incarnation) = rest.split_last_chunk()?;
        let host = std::str::from_utf8(host.strip_suffix(&[0])?).ok()?;
        Some((host.parse().ok()?, u64::from_be_bytes(*incarnation), u64::from_be_bytes(*seq)))
    }

    /// `feed_heads`: (host, incarnation).
    pub fn feed_head(host: &HostId, incarnation: u64) -> Vec<u8> {
        let mut key = Vec::new();
        text(&mut key, host.as_str());
        key.extend(incarnation.to_be_bytes());
        key
    }

    /// `log` and `arrivals`: by number.
    pub fn number(number: u64) -> Vec<u8> {
        number.to_be_bytes().to_vec()
    }

    /// `snapshot`: (position, piece); the head of a checkpoint is its piece 0.
    pub(crate) fn checkpoint(position: u64, piece: u32) -> Vec<u8> {
        let mut key = number(position);
        key.extend(piece.to_be_bytes());
        key
    }

    /// The position of the checkpoint whose head has that key.
    pub(crate) fn head_of_checkpoint(key: &[u8]) -> Option<u64> {
        let (position, piece) = key.split_first_chunk::<8>().filter(|_| key.len() == 12)?;
        (piece == 0_u32.to_be_bytes()).then(|| u64::from_be_bytes(*position))
    }

    /// `snapshot`: what stands for the beginning of the log.
    pub(crate) fn log_snapshot() -> Vec<u8> {
        b"log".to_vec()
    }

    /// `snapshot`: a leader's snapshot of the log, by the position of its arrival.
    pub(crate) fn installed(position: u64) -> Vec<u8> {
        let mut key = b"installed".to_vec();
        key.extend(position.to_be_bytes());
        key
    }

    /// The position at which the snapshot of that key arrived.
    pub(crate) fn read_installed(key: &[u8]) -> Option<u64> {
        key.strip_prefix(b"installed")?.try_into().ok().map(u64::from_be_bytes)
    }

    /// `decisions`: (fleet serial, log index, ordinal).
    pub fn decision(fleet_serial: u64, id: DecisionId) -> Vec<u8> {
        let mut key = number(fleet_serial);
        key.extend(endorsed(id));
        key
    }

    /// `endorsed`: (log index, ordinal).
    pub fn endorsed(id: DecisionId) -> Vec<u8> {
        let mut key = number(id.log_index);
        key.extend(id.ordinal.to_be_bytes());
        key
    }

    /// `host_records`: (rollout, host).
    pub fn host_record(rollout: &RolloutId, host: &HostId) -> Vec<u8> {
        let mut key = Vec::new();
        text(&mut key, rollout.as_str());
        text(&mut key, host.as_str());
        key
    }

    /// `rollouts`: by id.
    pub fn rollout(rollout: &RolloutId) -> Vec<u8> {
        rollout.as_str().as_bytes().to_vec()
    }

    /// `quarantines`: (channel, closure).
    pub fn quarantine(channel: &ChannelId, closure: &Closure) -> Vec<u8> {
        let mut key = Vec::new();
        text(&mut key, channel.as_str());
        text(&mut key, closure.as_str());
        key
    }

    fn text(key: &mut Vec<u8>, text: &str) {
        key.extend(text.as_bytes());
        key.push(0);
    }
}
