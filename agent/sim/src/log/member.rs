//! One member with its fake disk: writes take time, and a crash keeps only a beginning of them.

use crate::random::Random;
use muster_core::coordination::log::{
    Config, Durable, Entry, Log, MemberId, Message, Operation, Ready, Snapshot, Write,
};
use muster_core::time::Mono;
use std::collections::{BTreeSet, VecDeque};

/// A step's outcome that waits for its write.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) write: Option<Write>,
    pub(super) messages: Vec<(MemberId, Message)>,
    pub(super) installed: Option<Box<Snapshot>>,
    pub(super) committed: Vec<(u64, Entry)>,
    /// When the write becomes durable.
    pub(super) due: u64,
}

/// What the entries led to: how many were applied, and a digest of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct App {
    pub(super) applied: u64,
    pub(super) digest: u64,
}

impl App {
    pub(super) fn apply(&mut self, index: u64, entry: &Entry) {
        self.applied = index;
        let bytes = entry.chain_hash.iter().chain(&entry.payload);
        self.digest = bytes.fold(self.digest, |digest, byte| {
            (digest ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(5)
        });
    }

    /// Its bytes, as long as is asked for.
    pub(super) fn to_state(self, len: usize) -> Vec<u8> {
        let mut state = [self.applied.to_be_bytes(), self.digest.to_be_bytes()].concat();
        state.resize(len.max(16), 7);
        state
    }

    pub(super) fn of_state(state: &[u8]) -> Self {
        let number = |at: usize| {
            let bytes = state.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u64::from_be_bytes)
        };
        Self { applied: number(0), digest: number(8) }
    }
}

/// A member, up or down.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) config: Config,
    /// Nothing while it is down.
    pub(super) log: Option<Log>,
    pub(super) disk: Durable,
    /// What the disk held once.
    pub(super) backup: Durable,
    pub(super) held: VecDeque<Held>,
    /// What it applied.
    pub(super) app: App,
    pub(super) started_at: u64,
    pub(super) restart_at: Option<u64>,
    pub(super) paused_until: u64,
}

impl Member {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            log: None,
            disk: Durable::default(),
            backup: Durable::default(),
            held: VecDeque::new(),
            app: App::default(),
            started_at: 0,
            restart_at: Some(0),
            paused_until: 0,
        }
    }

    pub(super) fn start(&mut self, tick: u64, everybody: BTreeSet<MemberId>) {
        self.started_at = tick;
        self.restart_at = None;
        let state = self.disk.snapshot.as_ref().map(|snapshot| App::of_state(&snapshot.state));
        self.app = state.unwrap_or_default();
        let mut config = self.config.clone();
        config.seed ^= tick.wrapping_mul(0x9e37_79b9);
        let mut log = Log::new(config, self.disk.clone(), Mono(0));
        log.acquaint(everybody);
        self.log = Some(log);
    }

    /// Its own clock, which starts with its process.
    pub(super) fn mono(&self, tick: u64) -> Mono {
        Mono((tick - self.started_at) * 10_000)
    }

    /// When it wants a tick, in ticks of the run.
    pub(super) fn wakes_at(&self) -> Option<u64> {
        let wakes_at = self.log.as_ref()?.wakes_at()?;
        Some((self.started_at + wakes_at.0.div_ceil(10_000)).max(self.paused_until))
    }

    pub(super) fn hold(&mut self, ready: Ready, due: u64) {
        let after_earlier = self.held.back().map_or(0, |held| held.due);
        let due = if ready.write.is_some() { due } else { 0 };
        let Ready { write, messages, installed, committed, forwarded: _, alarms: _ } = ready;
        let due = due.max(after_earlier);
        self.held.push_back(Held { write, messages, installed, committed, due });
    }

    /// Keeps what was durable, and a beginning of what was being written.
    pub(super) fn crash(&mut self, random: &mut Random) {
        self.log = None;
        let writes = std::mem::take(&mut self.held).into_iter().filter_map(|held| held.write);
        let operations: Vec<_> = writes.flat_map(|write| write.operations).collect();
        let kept = usize::try_from(random.below(operations.len() as u64 + 1)).unwrap_or(0);
        operations.iter().take(kept).for_each(|operation| self.store(operation));
    }

    pub(super) fn store(&mut self, operation: &Operation) {
        match operation {
            Operation::HardState(hard) => self.disk.hard_state = *hard,
            Operation::Append { index, entry } => {
                assert_eq!(*index, self.last_stored() + 1, "entries are stored without gaps");
                self.disk.entries.push((*index, entry.clone()));
            }
            Operation::CutFrom(index) => self.disk.entries.retain(|(at, _)| at < index),
            Operation::Compact(snapshot) => {
                self.disk.entries.retain(|(at, _)| *at > snapshot.index);
                self.disk.snapshot = Some((**snapshot).clone());
            }
            Operation::Install(snapshot) => {
                self.disk.entries.clear();
                self.disk.snapshot = Some((**snapshot).clone());
            }
        }
    }

    fn last_stored(&self) -> u64 {
        let of_snapshot = self.disk.snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
        self.disk.entries.last().map_or(of_snapshot, |(index, _)| *index)
    }

    /// Whether its disk has this very entry, or a state that it led to.
    pub(super) fn holds(&self, index: u64, entry: &Entry) -> bool {
        if self.disk.snapshot.as_ref().is_some_and(|snapshot| snapshot.index >= index) {
            return true;
        }
        let first = self.disk.entries.first().map_or(u64::MAX, |(first, _)| *first);
        let position = index.checked_sub(first).and_then(|it| usize::try_from(it).ok());
        let held = position.and_then(|position| self.disk.entries.get(position));
        held.is_some_and(|(at, held)| *at == index && held == entry)
    }
}
