//! A state in place of the entries that led to it: made locally, sent to whom the entries are gone for, and installed.
//!
//! The state is the caller's and opaque here. Beside it a snapshot tells what the log itself needs to go on behind it:
//! the place and digest of its last entry, the electorate there, and which proposals came last. Each member makes its own,
//! at any index that it applied; a member that is down holds nobody up. It travels in chunks, one at a time, and is
//! installed by one operation, so that no crash leaves half of it.

use super::message::{
    AppendAnswer, Body, Digest32, MemberId, Outcome, ProposalId, SNAPSHOT_CHUNK_BYTES, SnapshotAnswer,
    SnapshotChunk, encode,
};
use super::planted::Planted;
use super::state::Log;
use super::{Alarm, CompactError, Membership, Operation, Ready};
use crate::time::Now;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of a snapshot's state.
pub const STATE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of an encoded snapshot: the state, and room for the proposals and members.
const SNAPSHOT_BYTES_MAX: u64 = STATE_BYTES_MAX as u64 + 1024 * 1024;
/// A proposal that stands in the log again is left out if it stood there within so many entries before.
pub const REPEAT_WINDOW: u64 = 1024;
/// No log gets so far; a greater index is a lie that could make sums overflow.
const INDEX_MAX: u64 = 1 << 48;
/// Maps and arrays inside one another in a snapshot.
const NESTING_MAX: usize = 8;

/// What stands for all entries up to an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The time of its last entry.
    #[serde(with = "chrono::serde::ts_microseconds")]
    pub at: DateTime<Utc>,
    /// The term of its last entry.
    pub term: u64,
    /// The index of its last entry.
    pub index: u64,
    /// What the caller made of the entries.
    #[serde(with = "serde_bytes")]
    pub state: Vec<u8>,
    /// The proposals among the last entries, and where each stands.
    pub recent: Vec<(ProposalId, u64)>,
    /// The chain hash of its last entry.
    #[serde(with = "serde_bytes")]
    pub chain_hash: Digest32,
    /// Who belongs to the group there.
    pub membership: Membership,
}

impl Snapshot {
    /// The bytes in which it is stored and sent: the same on every member that made it of the same entries.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a snapshot from exactly these bytes; nothing if they are none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let snapshot: Self = ciborium::de::from_reader_with_recursion_limit(&mut rest, NESTING_MAX).ok()?;
        let sound = rest.is_empty()
            && (1..INDEX_MAX).contains(&snapshot.index)
            && snapshot.term > 0
            && snapshot.recent.len() as u64 <= REPEAT_WINDOW
            && snapshot.recent.iter().all(|(_, at)| *at <= snapshot.index)
            && snapshot.membership.members().count() <= super::MEMBERS_MAX
            && !snapshot.membership.voters.is_empty();
        sound.then_some(snapshot)
    }
}

/// A snapshot as it travels.
#[derive(Debug)]
pub(super) struct Parcel {
    index: u64,
    digest: Digest32,
    bytes: Vec<u8>,
}

/// A snapshot on its way to one member.
#[derive(Debug)]
pub(super) struct Transfer {
    parcel: Arc<Parcel>,
    /// What has arrived.
    offset: u64,
}

/// A snapshot that is arriving.
#[derive(Debug)]
pub(super) struct Arriving {
    from: MemberId,
    index: u64,
    total: u64,
    digest: Digest32,
    bytes: Vec<u8>,
}

impl Log {
    /// Replaces the entries up to one that was applied by the state that they led to.
    pub fn compact(&mut self, index: u64, state: Vec<u8>) -> Result<Ready, CompactError> {
        if index > self.emitted {
            return Err(CompactError::NotApplied { index, applied: self.emitted });
        }
        if state.len() > STATE_BYTES_MAX {
            return Err(CompactError::TooLong(state.len()));
        }
        let Some(at) = self.entry(index).map(|entry| entry.at) else {
            return Ok(self.finish());
        };
        let founders = self.plants(Planted::SnapshotWithoutElectorate);
        let membership = if founders { self.membership_at(0) } else { self.membership_at(index) };
        let snapshot = Snapshot {
            at,
            term: self.term_at(index),
            index,
            state,
            recent: self.recent_at(index),
            chain_hash: self.hash_at(index),
            membership: membership.clone(),
        };
        Ok(self.stand_in(snapshot))
    }

    /// The same with a snapshot that the caller made of the entries itself; one that is not of these entries changes
    /// nothing.
    pub fn compact_behind(&mut self, snapshot: Snapshot) -> Ready {
        let index = snapshot.index;
        let of_these = index <= self.emitted
            && self.entry(index).is_some_and(|entry| entry.term == snapshot.term)
            && self.hash_at(index) == snapshot.chain_hash
            && *self.membership_at(index) == snapshot.membership;
        match of_these && snapshot.state.len() <= STATE_BYTES_MAX {
            true => self.stand_in(snapshot),
            false => self.finish(),
        }
    }

    fn stand_in(&mut self, snapshot: Snapshot) -> Ready {
        if !self.is_stopped() {
            self.operations.push(Operation::Compact(Box::new(snapshot.clone())));
            self.forget_up_to(snapshot);
        }
        self.finish()
    }

    /// Names the snapshots, by index and the digest of their bytes, that may be taken from a leader.
    pub fn vouch(&mut self, snapshots: BTreeMap<u64, Digest32>) {
        self.vouched = snapshots;
    }

    /// What stands for the entries up to an index, if anything does.
    #[must_use]
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// Whether the caller vouched for what a leader sends, where it has to.
    fn is_vouched(&self, chunk: &SnapshotChunk) -> bool {
        !self.config.vouched_snapshots || self.vouched.get(&chunk.index) == Some(&chunk.digest)
    }

    /// The proposals that stand among the last entries up to an index.
    fn recent_at(&self, index: u64) -> Vec<(ProposalId, u64)> {
        if self.plants(Planted::SnapshotWithoutProposals) {
            return Vec::new();
        }
        let first = index.saturating_sub(REPEAT_WINDOW) + 1;
        let of_snapshot = self.snapshot.iter().flat_map(|snapshot| snapshot.recent.iter().copied());
        let of_entries = (self.first_index()..=index)
            .filter_map(|at| self.entry(at).and_then(|entry| entry.id).map(|id| (id, at)));
        of_snapshot.chain(of_entries).filter(|(_, at)| *at >= first).collect()
    }

    /// Drops from memory what the snapshot stands for.
    fn forget_up_to(&mut self, snapshot: Snapshot) {
        let index = snapshot.index;
        let gone = usize::try_from(index - (self.first_index() - 1)).unwrap_or(usize::MAX);
        self.entries.drain(..gone.min(self.entries.len()));
        let newest = self.membership_at(index).clone();
        self.memberships.retain(|(at, _)| *at > index);
        self.memberships.insert(0, (index, newest));
        let first = index.saturating_sub(REPEAT_WINDOW);
        self.placed.retain(|_, at| *at > first);
        self.earlier.retain(|at, _| *at > index);
        self.snapshot = Some(snapshot);
        self.parcel = None;
    }

    /// Takes over a snapshot at the start or from a leader: it stands for everything.
    pub(super) fn begin_behind(&mut self, snapshot: Snapshot) {
        let index = snapshot.index;
        self.entries.clear();
        self.memberships = vec![(index, snapshot.membership.clone())];
        self.placed = snapshot.recent.iter().copied().collect();
        self.earlier.clear();
        self.commit = index;
        self.emitted = index;
        self.snapshot = Some(snapshot);
        self.parcel = None;
    }

    /// The leader's side: sends what comes next of a snapshot, or only asks how far it came.
    pub(super) fn send_chunk(&mut self, now: Now, member: MemberId, with_data: bool) {
        let Some(parcel) = self.parcel() else { return };
        let Some(peer) = self.peer_mut(member) else { return };
        // One of which a part has arrived goes on, even if there is a newer one by now.
        let transfer = peer.transfer.take().filter(|transfer| transfer.offset > 0);
        let transfer = peer.transfer.insert(transfer.unwrap_or(Transfer { parcel, offset: 0 }));
        let (parcel, offset) = (transfer.parcel.clone(), transfer.offset);
        peer.go_back_to(peer.matched + 1);
        peer.last_sent = now.mono;
        peer.answered = false;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(parcel.bytes.len());
        let end = if with_data { (start + SNAPSHOT_CHUNK_BYTES).min(parcel.bytes.len()) } else { start };
        let chunk = SnapshotChunk {
            data: parcel.bytes[start..end].to_vec(),
            sent: now.mono.0,
            index: parcel.index,
            total: parcel.bytes.len() as u64,
            digest: parcel.digest,
            offset,
        };
        self.send(member, Body::Snapshot(chunk));
    }

    fn parcel(&mut self) -> Option<Arc<Parcel>> {
        if self.parcel.is_none() {
            let snapshot = self.snapshot.as_ref()?;
            let bytes = encode(snapshot);
            let digest = Sha256::digest(&bytes).into();
            self.parcel = Some(Arc::new(Parcel { index: snapshot.index, digest, bytes }));
        }
        self.parcel.clone()
    }

    /// Only progress triggers the next chunk; a receiver that lost what it had says so in answer to the newest message.
    pub(super) fn on_snapshot_answer(&mut self, now: Now, from: MemberId, answer: &SnapshotAnswer) {
        let Some(peer) = self.peer_mut(from) else { return };
        peer.heard = Some(now.mono);
        peer.measure(now.mono, answer.sent);
        let newest = answer.sent == peer.last_sent.0;
        let Some(transfer) = peer.transfer.as_mut() else { return };
        let total = transfer.parcel.bytes.len() as u64;
        let moved = answer.received > transfer.offset || (newest && answer.received < transfer.offset);
        if answer.digest == transfer.parcel.digest && answer.received <= total && moved {
            transfer.offset = answer.received;
            self.send_chunk(now, from, true);
        }
    }

    /// The follower's side.
    pub(super) fn on_snapshot(&mut self, now: Now, from: MemberId, term: u64, chunk: SnapshotChunk) {
        let sent = chunk.sent;
        if !self.accept_leader(now, from, term, sent) {
            return;
        }
        let matched = chunk.index;
        if chunk.index > self.commit {
            let (digest, received) = self.take_chunk(from, chunk);
            if let Some(received) = received {
                self.send(from, Body::SnapshotAnswer(SnapshotAnswer { sent, digest, received }));
                return;
            }
        }
        self.send(from, Body::AppendAnswer(AppendAnswer { sent, outcome: Outcome::Stored { matched } }));
    }

    /// How many bytes have arrived now; nothing once the snapshot was complete.
    fn take_chunk(&mut self, from: MemberId, chunk: SnapshotChunk) -> (Digest32, Option<u64>) {
        let digest = chunk.digest;
        let same = |it: &Arriving| {
            (it.from, it.index, it.digest, it.total) == (from, chunk.index, digest, chunk.total)
        };
        // Whoever vouches may not have heard of it yet: the leader asks again with its next heartbeat.
        if chunk.total > SNAPSHOT_BYTES_MAX || !self.is_vouched(&chunk) {
            return (digest, Some(0));
        }
        let arriving = match self.arriving.take().filter(same) {
            Some(arriving) => arriving,
            None => Arriving { from, index: chunk.index, total: chunk.total, digest, bytes: Vec::new() },
        };
        let arriving = self.arriving.insert(arriving);
        let room = arriving.total - arriving.bytes.len() as u64;
        if chunk.offset == arriving.bytes.len() as u64 && chunk.data.len() as u64 <= room {
            arriving.bytes.extend(&chunk.data);
        }
        let received = arriving.bytes.len() as u64;
        if received < arriving.total {
            let early = self.plants(Planted::AcknowledgeFirstChunk) && received > 0;
            return (digest, (!early).then_some(received));
        }
        let Some(complete) = self.arriving.take() else { return (digest, Some(0)) };
        let sound = digest == Digest32::from(Sha256::digest(&complete.bytes));
        let snapshot = Snapshot::decode(&complete.bytes)
            .filter(|it| sound && it.index == complete.index && it.term <= self.hard.term);
        let Some(snapshot) = snapshot else {
            self.alarm(Alarm::BadSnapshot { from, index: complete.index });
            return (digest, Some(0));
        };
        self.install(snapshot);
        (digest, None)
    }

    fn install(&mut self, snapshot: Snapshot) {
        let index = snapshot.index;
        if self.term_at(index) == snapshot.term && self.hash_at(index) == snapshot.chain_hash {
            // The entries themselves are here: the snapshot only tells that they are committed.
            self.commit = index;
            return;
        }
        self.durable = 0;
        self.operations.push(Operation::Install(Box::new(snapshot.clone())));
        self.installed = Some(Box::new(snapshot.clone()));
        self.begin_behind(snapshot);
    }
}
