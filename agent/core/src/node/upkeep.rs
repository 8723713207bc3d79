//! Keeping house: a checkpoint is made now and then, and what lies before one that is old enough is given up.
//!
//! How old, this host's own configuration says. A checkpoint is one write with whatever its step writes anyway; the row
//! that makes an older one the base of every later replay is another; and the arrivals before it go in bounded pieces
//! after that, which may be interrupted anywhere.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::Node;
use super::turn::Turn;
use crate::coordination::approval::CLOCK_AHEAD_MAX;
use crate::ledger::{CheckpointHead, RebuildError, Rows, Table, base, checkpoints, key, put_base};
use crate::planted::Bug;
use crate::time::Mono;

/// How many checkpoints are made in the time for which things are kept.
const CHECKPOINTS: u32 = 8;
/// The longest and the shortest time between two looks at whether anything is due.
const LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));
/// The most arrivals that one write deletes.
const CLEARED_MAX: u64 = 2_000;

/// What is kept, as far as the store goes.
#[derive(Debug, Default)]
pub(super) struct House {
    /// The checkpoints, the oldest first.
    checkpoints: VecDeque<CheckpointHead>,
    /// From where on a replay goes.
    base: u64,
    /// The first of the arrivals that are still there.
    first: u64,
    /// The first entry of the log that may still be there.
    first_entry: u64,
    /// Where leaders' snapshots of the log arrived.
    installed: BTreeSet<u64>,
    look_at: Mono,
}

impl House {
    /// What a store holds.
    pub(super) fn read(rows: &impl Rows) -> Result<Self, RebuildError> {
        let base = base(rows)?;
        let first = rows.table(Table::Arrivals).next().transpose().map_err(RebuildError::Store)?;
        let first = first.and_then(|(key, _)| key.try_into().ok()).map_or(base, u64::from_be_bytes);
        let entry = rows.table(Table::Log).next().transpose().map_err(RebuildError::Store)?;
        let first_entry = entry.and_then(|(key, _)| key.try_into().ok()).map_or(0, u64::from_be_bytes);
        let mut installed = BTreeSet::new();
        for row in rows.since(Table::Snapshot, &key::installed(0)) {
            let (of, _) = row.map_err(RebuildError::Store)?;
            installed.extend(key::read_installed(&of));
        }
        let checkpoints = checkpoints(rows)?.into();
        Ok(Self { checkpoints, base, first, first_entry, installed, look_at: Mono::default() })
    }

    /// A leader's snapshot of the log arrived at that position.
    pub(super) fn installed(&mut self, position: u64) {
        self.installed.insert(position);
    }
}

impl Node {
    /// Makes a checkpoint if one is due, and gives up what one makes superfluous; the last thing that a step does.
    pub(super) fn keep_house(&mut self, turn: &mut Turn) {
        let now = turn.now;
        if now.mono < self.house.look_at {
            return;
        }
        let pause = (self.settings.retention / (8 * CHECKPOINTS)).clamp(LOOK.0, LOOK.1);
        self.house.look_at = now.mono.after(pause);
        // A clock that is off says nothing of how old anything is.
        if self.presences.own_offset(now).is_some_and(|offset| offset.abs() > CLOCK_AHEAD_MAX) {
            return;
        }
        let before = now.utc.checked_sub_signed(self.retention()).unwrap_or_default();
        self.move_base(turn, before);
        self.clear_arrivals(turn);
        self.clear_log(turn);
        if self.checkpoint_is_due(now.utc, before) {
            self.make_checkpoint(turn, now.utc, before);
        }
    }

    fn checkpoint_is_due(&self, now: DateTime<Utc>, before: DateTime<Utc>) -> bool {
        let last = self.house.checkpoints.back();
        // Before the first one, what is known is as old as the fleet.
        let founded = self.ledger.documents().chain().first().map(|fleet| fleet.signed_at);
        let interval = TimeDelta::from_std(self.settings.retention / CHECKPOINTS).unwrap_or(TimeDelta::MAX);
        let due =
            last.map(|last| last.at).or(founded).is_some_and(|at| now.signed_duration_since(at) >= interval);
        // Of a fleet in which nothing happens there is nothing new to write down, but what is over grows old.
        let news = last.is_none_or(|last| last.position < self.ledger.position());
        due && (news || !self.ledger.retiring(before).is_empty())
    }

    fn make_checkpoint(&mut self, turn: &mut Turn, at: DateTime<Utc>, before: DateTime<Utc>) {
        let Some(head) = self.ledger.checkpoint(at, before) else { return };
        // One that was made here before holds more: this one takes its place.
        let same = self.house.checkpoints.back().filter(|last| last.position == head.position);
        if let Some(pieces) = same.map(|last| last.pieces) {
            for piece in head.pieces..pieces {
                turn.rows.delete(Table::Snapshot, key::checkpoint(head.position, piece + 1));
            }
            self.house.checkpoints.pop_back();
        }
        self.house.checkpoints.push_back(head);
    }

    /// A replay goes on from the newest checkpoint that is older than what is to be kept.
    fn move_base(&mut self, turn: &mut Turn, before: DateTime<Utc>) {
        let House { checkpoints, base, .. } = &mut self.house;
        let due = checkpoints.iter().filter(|head| head.at <= before && head.position > *base);
        let Some(position) = due.map(|head| head.position).max() else { return };
        *base = position;
        put_base(&mut turn.rows, position);
        if self.ledger.planted().has(Bug::CheckpointDropped) {
            checkpoints.retain(|head| head.position > position);
            return (0..=1)
                .for_each(|piece| turn.rows.delete(Table::Snapshot, key::checkpoint(position, piece)));
        }
        let kept = checkpoints.partition_point(|head| head.position < position);
        for head in checkpoints.drain(..kept) {
            for piece in 0..=head.pieces {
                turn.rows.delete(Table::Snapshot, key::checkpoint(head.position, piece));
            }
        }
    }

    /// Deletes a piece of the arrivals before the base; the last one stays, for it tells how much was learnt.
    fn clear_arrivals(&mut self, turn: &mut Turn) {
        let House { base, first, installed, look_at, .. } = &mut self.house;
        let end = base.saturating_sub(1);
        let until = end.min(first.saturating_add(CLEARED_MAX));
        for position in *first..until {
            turn.rows.delete(Table::Arrivals, key::number(position));
        }
        *first = until.max(*first);
        if *first < end {
            *look_at = turn.now.mono.after(LOOK.0);
        }
        while let Some(position) = installed.first().copied().filter(|position| *position < *first) {
            installed.pop_first();
            turn.rows.delete(Table::Snapshot, key::installed(position));
        }
    }

    /// Deletes a piece of the log's entries that no arrival before the base names any more, and for which a snapshot stands.
    fn clear_log(&mut self, turn: &mut Turn) {
        let (compacted, begins) = (self.compacted_up_to(), self.ledger.log_begins_behind());
        let House { checkpoints, base, first_entry, look_at, .. } = &mut self.house;
        let Some(head) = checkpoints.iter().find(|head| head.position == *base) else { return };
        // The entries of a log that a recovery has ended stay: their numbers lie far apart from those of now.
        let first = (*first_entry).max(begins + 1);
        let end = compacted.min(head.applied) + 1;
        let until = end.min(first.saturating_add(CLEARED_MAX));
        for index in first..until {
            turn.rows.delete(Table::Log, key::number(index));
        }
        *first_entry = until.max(first);
        if *first_entry < end {
            *look_at = turn.now.mono.after(LOOK.0);
        }
    }
}
