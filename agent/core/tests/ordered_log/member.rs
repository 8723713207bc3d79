//! One member with its fake disk: writes take time, and a crash keeps only a beginning of them.

use crate::random::Random;
use muster_core::coordination::log::{
    Config, Durable, Entry, Log, MemberId, Message, Operation, Ready, Write,
};
use muster_core::time::Mono;
use std::collections::VecDeque;

/// A step's outcome that waits for its write.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) write: Option<Write>,
    pub(crate) messages: Vec<(MemberId, Message)>,
    pub(crate) committed: Vec<(u64, Entry)>,
    /// When the write becomes durable.
    pub(crate) due: u64,
}

/// A member, up or down.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) config: Config,
    /// Nothing while it is down.
    pub(crate) log: Option<Log>,
    pub(crate) disk: Durable,
    pub(crate) held: VecDeque<Held>,
    /// What it applied in this life: (index, entry).
    pub(crate) applied: Vec<(u64, Entry)>,
    pub(crate) started_at: u64,
    pub(crate) restart_at: Option<u64>,
    pub(crate) paused_until: u64,
}

impl Member {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            log: None,
            disk: Durable::default(),
            held: VecDeque::new(),
            applied: Vec::new(),
            started_at: 0,
            restart_at: Some(0),
            paused_until: 0,
        }
    }

    pub(crate) fn start(&mut self, tick: u64) {
        self.started_at = tick;
        self.restart_at = None;
        self.applied.clear();
        let mut config = self.config.clone();
        config.seed ^= tick.wrapping_mul(0x9e37_79b9);
        self.log = Some(Log::new(config, self.disk.clone(), Mono(0)));
    }

    /// Its own clock, which starts with its process.
    pub(crate) fn mono(&self, tick: u64) -> Mono {
        Mono((tick - self.started_at) * 10_000)
    }

    /// When it wants a tick, in ticks of the run.
    pub(crate) fn wakes_at(&self) -> Option<u64> {
        let wakes_at = self.log.as_ref()?.wakes_at()?;
        Some((self.started_at + wakes_at.0.div_ceil(10_000)).max(self.paused_until))
    }

    pub(crate) fn hold(&mut self, ready: Ready, due: u64) {
        let after_earlier = self.held.back().map_or(0, |held| held.due);
        let due = if ready.write.is_some() { due } else { 0 };
        let Ready { write, messages, committed, forwarded: _, alarms: _ } = ready;
        self.held.push_back(Held { write, messages, committed, due: due.max(after_earlier) });
    }

    /// Keeps what was durable, and a beginning of what was being written.
    pub(crate) fn crash(&mut self, random: &mut Random) {
        self.log = None;
        let writes = std::mem::take(&mut self.held).into_iter().filter_map(|held| held.write);
        let operations: Vec<_> = writes.flat_map(|write| write.operations).collect();
        let kept = usize::try_from(random.below(operations.len() as u64 + 1)).unwrap_or(0);
        operations.iter().take(kept).for_each(|operation| self.store(operation));
    }

    pub(crate) fn store(&mut self, operation: &Operation) {
        match operation {
            Operation::HardState(hard) => self.disk.hard_state = *hard,
            Operation::Append { index, entry } => {
                assert_eq!(*index, self.disk.entries.len() as u64 + 1, "entries are stored without gaps");
                self.disk.entries.push((*index, entry.clone()));
            }
            Operation::CutFrom(index) => self.disk.entries.retain(|(at, _)| at < index),
        }
    }
}
