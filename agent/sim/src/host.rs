//! One simulated host: its agent, its disk, its machine and its clock.

use std::rc::Rc;

use chrono::{DateTime, TimeDelta, Utc};
use muster_core::drive::{Drive, Shell};
use muster_core::host::CLOCK_JUMP_SECS_MAX;
use muster_core::id::{Closure, HostId};
use muster_core::ledger::Batch;
use muster_core::node::{BackendKind, Node, Output};
use muster_core::time::{Mono, Now};

use crate::disk::Disk;
use crate::machine::Machine;
use crate::parcel::Parcel;

/// Where virtual time begins.
const EPOCH_SECS: i64 = 1_790_000_000;

#[cfg(feature = "planted")]
pub use muster_core::planted::Bug;

/// Without planted bugs there is none to name.
#[cfg(not(feature = "planted"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {}

/// The newest heartbeat that a host heard of another, and what orders it.
pub(crate) type Heard = Option<((u64, u64, u64), Rc<Parcel>)>;

/// One host.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: HostId,
    pub(crate) node: Option<Node>,
    pub(crate) drive: Drive,
    pub(crate) disk: Disk,
    pub(crate) machine: Machine,
    pub(crate) backend: BackendKind,
    /// Counts the starts of its agent: what an earlier life had asked for is no concern of a later one.
    pub(crate) life: u64,
    pub(crate) started: u64,
    pub(crate) tick_at: Option<u64>,
    pub(crate) paused_until: u64,
    pub(crate) slow_until: u64,
    pub(crate) slow_disk_until: u64,
    pub(crate) full_disk_until: u64,
    pub(crate) deaf_until: u64,
    pub(crate) disk_busy_until: u64,
    pub(crate) clock_off: TimeDelta,
    pub(crate) drift_ppm: i64,
    /// When its wall clock last jumped.
    pub(crate) jumped: u64,
    pub(crate) heard: Vec<Heard>,
    /// Before this no other pull begins.
    pub(crate) fetches_at: u64,
    /// Ticks in a row after which its node wanted the next one at once.
    pub(crate) spins: u32,
    /// The bug that is planted in its agent.
    pub(crate) bug: Option<Bug>,
    /// Whether it does not follow the protocol.
    pub(crate) lies: bool,
}

impl Host {
    pub(crate) fn new(name: HostId, hosts: usize, running: Option<Closure>) -> Self {
        Self {
            name,
            node: None,
            drive: Drive::new(),
            disk: Disk::default(),
            machine: Machine::new(running),
            backend: BackendKind::Directory,
            life: 0,
            started: 0,
            tick_at: None,
            paused_until: 0,
            slow_until: 0,
            slow_disk_until: 0,
            full_disk_until: 0,
            deaf_until: 0,
            disk_busy_until: 0,
            clock_off: TimeDelta::zero(),
            drift_ppm: 0,
            jumped: 0,
            heard: vec![None; hosts],
            fetches_at: 0,
            spins: 0,
            bug: None,
            lies: false,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.node.is_some()
    }

    /// Its wall clock jumps; only a jump that a soak has to notice is remembered.
    pub(crate) fn turn_clock(&mut self, by: TimeDelta, now: u64) {
        self.clock_off += by;
        if by.num_seconds().unsigned_abs() > CLOCK_JUMP_SECS_MAX {
            self.jumped = now;
        }
    }

    /// What its clocks say at a moment of true time.
    pub(crate) fn now(&self, now: u64) -> Now {
        Now { utc: self.utc(now), mono: Mono(now.saturating_sub(self.started)) }
    }

    /// What its wall clock says at a moment of true time.
    pub(crate) fn utc(&self, now: u64) -> DateTime<Utc> {
        let drift = i64::try_from(now / 1000).unwrap_or(i64::MAX).saturating_mul(self.drift_ppm) / 1_000_000;
        true_time(now) + self.clock_off + TimeDelta::milliseconds(drift)
    }
}

/// True time as a date.
pub(crate) fn true_time(now: u64) -> DateTime<Utc> {
    let start = DateTime::from_timestamp(EPOCH_SECS, 0).unwrap_or_default();
    start + TimeDelta::milliseconds(i64::try_from(now / 1000).unwrap_or(i64::MAX))
}

/// What one host's node asked for, to be carried out by the world.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    pub(crate) writes: Vec<(u64, Batch)>,
    pub(crate) outputs: Vec<Output>,
}

impl Shell for Orders {
    fn store(&mut self, batch: u64, rows: Batch) {
        self.writes.push((batch, rows));
    }

    fn perform(&mut self, output: Output) {
        self.outputs.push(output);
    }
}
