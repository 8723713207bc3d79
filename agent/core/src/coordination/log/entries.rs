//! The list of entries in memory, and the operations that make the store follow it.

use super::message::{Digest32, Entry, PAYLOAD_BYTES_MAX, ProposalId};
use super::state::Log;
use super::{Operation, ProposeError};
use crate::time::Now;
use chrono::{DateTime, Utc};

/// Entries that may wait to be committed.
const BACKLOG_ENTRIES_MAX: usize = 1024;
/// Bytes of payload that may wait to be committed.
const BACKLOG_BYTES_MAX: usize = 16 * 1024 * 1024;

impl Log {
    /// The term of the entry at an index; 0 before the first and behind the last.
    pub(super) fn term_at(&self, index: u64) -> u64 {
        self.entry(index).map_or(0, |entry| entry.term)
    }

    /// The chain hash at an index; the epoch before the first.
    pub(super) fn hash_at(&self, index: u64) -> Digest32 {
        self.entry(index).map_or(self.config.epoch, |entry| entry.chain_hash)
    }

    pub(super) fn last_hash(&self) -> Digest32 {
        self.hash_at(self.last_index())
    }

    /// The last index whose term is at most this.
    pub(super) fn last_index_of_term(&self, term: u64) -> u64 {
        self.entries.partition_point(|entry| entry.term <= term) as u64
    }

    pub(super) fn place(&mut self, entry: Entry) -> u64 {
        let index = self.last_index() + 1;
        if let Some(id) = entry.id {
            self.placed.entry(id).or_insert(index);
        }
        self.entries.push(entry);
        index
    }

    pub(super) fn append(&mut self, entry: Entry) {
        let index = self.place(entry.clone());
        self.operations.push(Operation::Append { index, entry });
    }

    /// Appends as leader.
    pub(super) fn append_own(&mut self, now: Now, id: Option<ProposalId>, payload: Vec<u8>) {
        let now_whole = DateTime::<Utc>::from_timestamp_micros(now.utc.timestamp_micros()).unwrap_or(now.utc);
        let at = self.entries.last().map_or(now_whole, |last| last.at.max(now_whole));
        self.append(Entry::following(&self.last_hash(), self.hard.term, id, at, payload));
    }

    pub(super) fn cut_from(&mut self, index: u64) {
        debug_assert!(index > self.commit, "what is committed is never cut");
        while self.last_index() >= index {
            let Some(entry) = self.entries.pop() else { break };
            if let Some(id) = entry.id
                && self.placed.get(&id) == Some(&(self.last_index() + 1))
            {
                self.placed.remove(&id);
            }
        }
        self.durable = self.durable.min(index - 1);
        self.operations.push(Operation::CutFrom(index));
    }

    pub(super) fn has_room(&self, count: usize, bytes: usize) -> bool {
        let waiting = self.entries.iter().skip(usize::try_from(self.commit).unwrap_or(usize::MAX));
        let (entries, payload) =
            waiting.fold((count, bytes), |sum, it| (sum.0 + 1, sum.1 + it.payload.len()));
        entries <= BACKLOG_ENTRIES_MAX && payload <= BACKLOG_BYTES_MAX
    }
}

pub(super) fn check_lengths(payloads: &[Vec<u8>]) -> Result<(), ProposeError> {
    match payloads.iter().map(Vec::len).max() {
        Some(longest) if longest > PAYLOAD_BYTES_MAX => Err(ProposeError::TooLong(longest)),
        _ => Ok(()),
    }
}
