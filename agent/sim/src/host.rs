//! One simulated host: its agent, its disk, its machine and its clock.

use std::rc::Rc;

use chrono::{DateTime, TimeDelta, Utc};
use muster_core::document::{Documents, Trust};
use muster_core::drive::{Drive, Shell};
use muster_core::host::CLOCK_JUMP_SECS_MAX;
use muster_core::id::{Closure, HostId};
use muster_core::ledger::{Batch, Ledger, key, rebuild};
use muster_core::node::{BackendKind, Node, Output, Settings, StartError};
use muster_core::time::{Mono, Now};
use muster_signing::SigningKey;

use crate::disk::Disk;
use crate::liar::Liar;
use crate::machine::Machine;
use crate::parcel::{Parcel, Shelf, Shelved};

/// The most positions of one feed that a pull brings: what a host is throttled for is not brought over and over.
const PULLED_MAX: u64 = 256;
/// Where virtual time begins.
const EPOCH_SECS: i64 = 1_790_000_000;

#[cfg(feature = "planted")]
pub use muster_core::planted::Bug;
#[cfg(feature = "planted")]
use muster_core::planted::Planted;

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
    /// What its agent had learnt again from its disk when it last started.
    known: Option<Ledger>,
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
    /// When the commit that is under way ends, and when the one after it does.
    disk_commits: (u64, u64),
    pub(crate) clock_off: TimeDelta,
    pub(crate) drift_ppm: i64,
    /// When its wall clock last jumped.
    pub(crate) jumped: u64,
    /// What its agent last saw of its wall clock: how far it was off.
    seen_off: TimeDelta,
    /// When its agent last saw that the wall clock had jumped.
    pub(crate) jump_seen: u64,
    pub(crate) heard: Vec<Heard>,
    /// When it last heard anything of each other.
    pub(crate) heard_at: Vec<u64>,
    /// Before this no other pull begins.
    pub(crate) fetches_at: u64,
    /// Ticks in a row after which its node wanted the next one at once.
    pub(crate) spins: u32,
    /// The bug that is planted in its agent.
    pub(crate) bug: Option<Bug>,
    /// What it remembers if it does not follow the protocol.
    pub(crate) liar: Option<Box<Liar>>,
    /// Whether it is a machine that nobody has started yet.
    pub(crate) is_dormant: bool,
    /// Whether it is lost for good: nobody starts it any more.
    pub(crate) is_gone: bool,
    /// The newest version of the log's reducer that its agent knows.
    pub(crate) rules: u32,
}

impl Host {
    pub(crate) fn new(name: HostId, hosts: usize, running: Option<Closure>) -> Self {
        Self {
            name,
            node: None,
            drive: Drive::new(),
            disk: Disk::default(),
            known: None,
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
            disk_commits: (0, 0),
            clock_off: TimeDelta::zero(),
            drift_ppm: 0,
            jumped: 0,
            seen_off: TimeDelta::zero(),
            jump_seen: 0,
            heard: vec![None; hosts],
            heard_at: vec![0; hosts],
            fetches_at: 0,
            spins: 0,
            bug: None,
            liar: None,
            is_dormant: false,
            is_gone: false,
            rules: muster_core::wire::RULES,
        }
    }

    /// When a write that is issued now is durable: what is issued during a commit goes into the next one together.
    pub(crate) fn commits_at(&mut self, now: u64, takes: u64) -> u64 {
        let (running, next) = &mut self.disk_commits;
        if now >= *next {
            *running = now + takes;
            *next = *running;
        } else if now >= *running {
            *running = *next;
            *next += takes;
        } else if *running == *next {
            *next += takes;
        }
        *next
    }

    /// Its agent starts with an idle disk.
    pub(crate) fn disk_is_idle(&mut self) {
        self.disk_commits = (0, 0);
    }

    /// Its agent starts from its disk. What an earlier life learnt again from it need not be learnt a third time.
    pub(crate) fn begin(
        &mut self,
        settings: Settings,
        key: SigningKey,
        pin: Trust,
        now: Now,
        shelf: &Shelf,
    ) -> Result<(Node, Vec<Output>), StartError> {
        let known = match self.known.take() {
            Some(known) => known,
            None => Ledger::new(settings.fleet.clone(), settings.host.clone(), self.no_documents(pin)?),
        };
        let (mut ledger, _) = rebuild(known, &Shelved { disk: &self.disk, shelf })?;
        let _ = (ledger.take_batch(), ledger.take_happenings());
        self.known = Some(ledger.clone());
        Node::start_rebuilt(settings, key, ledger, &self.disk, now)
    }

    /// What an agent begins with, and the bug that is planted in it.
    #[cfg(feature = "planted")]
    fn no_documents(&self, pin: Trust) -> Result<Documents, StartError> {
        Ok(Documents::new(vec![pin])?.with_planted(Planted::of(self.bug)))
    }

    /// What an agent begins with.
    #[cfg(not(feature = "planted"))]
    #[expect(clippy::unused_self, reason = "with the feature it looks at the bug")]
    fn no_documents(&self, pin: Trust) -> Result<Documents, StartError> {
        Ok(Documents::new(vec![pin])?)
    }

    /// It has another disk from now on.
    pub(crate) fn change_disk(&mut self, disk: Disk) {
        self.disk = disk;
        self.known = None;
        self.heard.fill(None);
    }

    /// The order of things in a new agent, with the bug that is planted in it.
    #[cfg(feature = "planted")]
    pub(crate) fn new_drive(&self) -> Drive {
        Drive::planted(Planted::of(self.bug))
    }

    /// The order of things in a new agent.
    #[cfg(not(feature = "planted"))]
    #[expect(clippy::unused_self, reason = "with the feature it looks at the bug")]
    pub(crate) fn new_drive(&self) -> Drive {
        Drive::new()
    }

    /// Whether it does not follow the protocol, or once did not.
    pub(crate) fn lies(&self) -> bool {
        self.liar.is_some()
    }

    /// The oldest write becomes durable: its number and rows.
    pub(crate) fn next_durable(&mut self) -> Option<(u64, Batch)> {
        let (number, batch) = self.disk.next_durable()?;
        if let Some(tale) = self.liar.as_mut().and_then(|liar| liar.tale.as_mut()) {
            let own = [self.name.as_str().as_bytes(), &[0]].concat();
            tale.shown.copy(&batch, &own);
        }
        Some((number, batch))
    }

    /// Whether it asks for a row of a feed that is not on its disk. Its node may hold it already, and is writing it, or take
    /// no more of that feed; and of one feed a pull brings only so much.
    pub(crate) fn wants(&self, row: &[u8]) -> bool {
        let Some((host, incarnation, seq)) = key::read_feed(row) else { return true };
        let feed = self.node.as_ref().and_then(|node| node.ledger().feed(&host));
        feed.is_none_or(|feed| {
            let head = feed.head().map_or(0, |head| head.seq);
            let next = feed.incarnation() != incarnation || (seq > head && seq - head <= PULLED_MAX);
            next && !feed.is_forked()
        })
    }

    /// What others may pull from it.
    pub(crate) fn shown(&self) -> &Disk {
        let tale = self.liar.as_ref().and_then(|liar| liar.tale.as_ref());
        tale.map_or(&self.disk, |tale| &tale.shown)
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

    /// Its agent looks at its clocks. A jump that was taken back before it looked is none that anybody could see.
    pub(crate) fn look_at_clock(&mut self, now: u64) -> Now {
        let by = self.clock_off - std::mem::replace(&mut self.seen_off, self.clock_off);
        if by.num_seconds().unsigned_abs() > CLOCK_JUMP_SECS_MAX {
            self.jump_seen = now;
        }
        self.now(now)
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
