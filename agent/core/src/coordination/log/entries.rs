//! The list of entries in memory, and the operations that make the store follow it.

use super::message::{Digest32, Entry, PAYLOAD_BYTES_MAX, ProposalId};
use super::planted::Planted;
use super::snapshot::REPEAT_WINDOW;
use super::state::Log;
use super::{ElectorateStep, Operation, ProposeError};
use crate::time::Now;
use chrono::{DateTime, Utc};

/// Entries that may wait to be committed.
const BACKLOG_ENTRIES_MAX: usize = 1024;
/// Bytes of payload that may wait to be committed.
const BACKLOG_BYTES_MAX: usize = 16 * 1024 * 1024;

impl Log {
    /// The first index whose entry is here, or the next one if none is: what lies before stands in the snapshot.
    #[must_use]
    pub fn first_index(&self) -> u64 {
        self.snapshot.as_ref().map_or(0, |snapshot| snapshot.index) + 1
    }

    /// The last index that this member has, durable or not.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.first_index() - 1 + self.entries.len() as u64
    }

    /// The entry at an index, committed or not; nothing if it is behind the last or stands in the snapshot.
    #[must_use]
    pub fn entry(&self, index: u64) -> Option<&Entry> {
        self.entries.get(self.position(index)?)
    }

    /// Where the entry of an index stands in memory.
    pub(super) fn position(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.first_index())?).ok()
    }

    /// The term of the entry at an index; 0 before the first and behind the last.
    pub(super) fn term_at(&self, index: u64) -> u64 {
        let of_snapshot = self.snapshot.as_ref().filter(|snapshot| snapshot.index == index);
        of_snapshot.map_or_else(|| self.entry(index).map_or(0, |entry| entry.term), |snapshot| snapshot.term)
    }

    /// The chain hash at an index; the epoch before the first.
    pub(super) fn hash_at(&self, index: u64) -> Digest32 {
        match &self.snapshot {
            Some(snapshot) if snapshot.index == index => snapshot.chain_hash,
            _ => self.entry(index).map_or(self.config.epoch, |entry| entry.chain_hash),
        }
    }

    /// The time at an index.
    pub(super) fn time_at(&self, index: u64) -> Option<DateTime<Utc>> {
        match &self.snapshot {
            Some(snapshot) if snapshot.index == index => Some(snapshot.at),
            _ => self.entry(index).map(|entry| entry.at),
        }
    }

    pub(super) fn last_hash(&self) -> Digest32 {
        self.hash_at(self.last_index())
    }

    /// The last index whose term is known to be at most this.
    pub(super) fn last_index_of_term(&self, term: u64) -> u64 {
        let before = self.first_index() - 1;
        if self.term_at(before) > term {
            return 0;
        }
        before + self.entries.partition_point(|entry| entry.term <= term) as u64
    }

    pub(super) fn place(&mut self, entry: Entry) -> u64 {
        let index = self.last_index() + 1;
        if let Some(id) = entry.id
            && let Some(earlier) = self.placed.insert(id, index)
        {
            self.earlier.insert(index, earlier);
        }
        self.note_step(index, &entry);
        self.entries.push(entry);
        index
    }

    /// Whether the proposal at an index stood in the log a little before already; on every member alike.
    pub(super) fn is_repeated(&self, index: u64) -> bool {
        self.earlier.get(&index).is_some_and(|earlier| index - earlier <= REPEAT_WINDOW)
    }

    pub(super) fn append(&mut self, entry: Entry) {
        let index = self.place(entry.clone());
        self.operations.push(Operation::Append { index, entry });
    }

    /// Appends as leader.
    pub(super) fn append_own(&mut self, now: Now, id: Option<ProposalId>, payload: Vec<u8>) {
        let entry = self.own_entry(now, id, payload);
        self.append(entry);
    }

    /// Appends a step of the electorate as leader.
    pub(super) fn append_step(&mut self, now: Now, step: ElectorateStep) {
        let entry = self.own_entry(now, None, Vec::new()).stepping(&self.last_hash(), step);
        self.append(entry);
        self.follow_step(now);
    }

    fn own_entry(&self, now: Now, id: Option<ProposalId>, payload: Vec<u8>) -> Entry {
        let now_whole = DateTime::<Utc>::from_timestamp_micros(now.utc.timestamp_micros()).unwrap_or(now.utc);
        let at = self.time_at(self.last_index()).map_or(now_whole, |last| last.max(now_whole));
        Entry::following(&self.last_hash(), self.hard.term, id, at, payload)
    }

    pub(super) fn cut_from(&mut self, index: u64) {
        debug_assert!(index > self.commit, "what is committed is never cut");
        while self.last_index() >= index {
            let last = self.last_index();
            let Some(entry) = self.entries.pop() else { break };
            if let Some(id) = entry.id {
                match self.earlier.remove(&last) {
                    Some(earlier) => self.placed.insert(id, earlier),
                    None => self.placed.remove(&id),
                };
            }
        }
        if !self.plants(Planted::KeepCutSteps) {
            self.undo_steps_from(index);
        }
        self.durable = self.durable.min(index - 1);
        self.operations.push(Operation::CutFrom(index));
    }

    pub(super) fn has_room(&self, count: usize, bytes: usize) -> bool {
        let committed = self.position(self.commit + 1).unwrap_or(usize::MAX);
        let waiting = self.entries.iter().skip(committed);
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
