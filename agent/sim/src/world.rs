//! A fleet, its network and its disks, moved on one event at a time.

mod audience;
mod boots;
mod checks;
mod disks;
mod habits;
mod lies;
mod post;
mod turn;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use muster_core::id::{Closure, HostId, RolloutId};
use muster_core::node::{
    CoordinatorMessage, HostReport, Input, MessageRef, Node, Note, Origin, RequestId, Settings, Topic,
};
use muster_core::wire::{HostState, RolloutState};
use muster_signing::{SignedDocument, Verified};

use crate::disk::Disk;
use crate::fault::{Fault, Faults};
use crate::fleet::Fleet;
use crate::host::{Host, true_time};
use crate::machine::Health;
use crate::network::Network;
use crate::parcel::{Parcel, Shelf};
use crate::random::Random;
use crate::trace::Trace;
use crate::truth::Truth;

/// How long it takes until peers notice that a silent connection is gone.
const IDLE: Duration = Duration::from_secs(8);

/// Ticks in a row after which a node may still want the next one at once.
const SPINS_MAX: u32 = 50;

/// How a fleet behaves when nothing is wrong.
#[derive(Debug, Clone)]
pub(crate) struct Habits {
    pub(crate) heartbeat: Duration,
    pub(crate) sync_interval: Duration,
    pub(crate) probe_interval: Duration,
    pub(crate) real_signatures: bool,
    pub(crate) retention: Duration,
    /// After how many entries the log asks for a snapshot.
    pub(crate) snapshot_entries: u64,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(5),
            sync_interval: Duration::from_secs(10),
            probe_interval: Duration::from_secs(1),
            real_signatures: false,
            retention: Duration::from_secs(muster_core::rollout::RETENTION_SECS),
            snapshot_entries: muster_core::node::SNAPSHOT_ENTRIES,
        }
    }
}

#[derive(Debug)]
enum Event {
    Tick { life: u64, at: u64 },
    Message { parcel: Rc<Parcel>, message: Option<MessageRef> },
    Direct { from: usize, message: Rc<CoordinatorMessage> },
    Durable { life: u64 },
    WriteFailed { life: u64 },
    Report { life: u64, report: Box<HostReport> },
    Probe { life: u64, generation: u64 },
    JobEnds { number: u64 },
    Sync { from: Option<usize>, again: bool },
    Peer { peer: usize, up: bool },
    Befalls { fault: Fault },
    Start,
}

/// How much later than three heartbeats a host may count as silent: heartbeats are not regular, and clocks are not equal.
const HEARD_LATE: Duration = Duration::from_secs(20);

/// A simulated fleet.
#[derive(Debug)]
pub struct World {
    /// Its keys and documents.
    pub fleet: Fleet,
    /// Which releases are bad.
    pub health: Health,
    /// Whether gossip is lost, so that only sync carries anything.
    pub gossip_lost: bool,
    /// What the nodes told people: time, host, note.
    pub notes: Vec<(DateTime<Utc>, HostId, Note)>,
    pub(crate) keeps_notes: bool,
    pub(crate) faults: Faults,
    pub(crate) network: Network,
    /// The hosts that are told everything; none: all are.
    pub(crate) audience: Option<Vec<bool>>,
    pub(crate) random: Random,
    pub(crate) now: u64,
    pub(crate) hosts: Vec<Host>,
    pub(crate) truth: Truth,
    pub(crate) trace: Trace,
    pub(crate) replies: Vec<(usize, Result<bool, String>)>,
    /// The hosts that coordinate by the newest fleet document, by number, in a run that a seed draws.
    pub(crate) coordinators: Vec<usize>,
    /// From when on operators recover the fleet, if it has lost a quorum of its coordinators.
    pub(crate) recovers_at: Option<u64>,
    /// Counts the disks that each host has had.
    pub(crate) stores: Vec<u64>,
    never_rebooted: bool,
    kept: Option<(usize, Disk)>,
    habits: Habits,
    queue: BTreeMap<(u64, u64), (usize, Event)>,
    shelf: Shelf,
    count: u64,
    steps: u64,
    /// How many inputs of each kind the nodes took.
    pub(crate) inputs: BTreeMap<&'static str, u64>,
}

impl World {
    /// A fleet of hosts that run `dir:v0` and have no document yet; nothing ever goes wrong.
    pub fn new(seed: u64, hosts: usize) -> Self {
        let mut world = Self::asleep(seed, hosts, Habits::default());
        world.keeps_notes = true;
        world.wake();
        world
    }

    /// The same, of which nothing that is over is kept for longer than that.
    pub fn keeping(seed: u64, hosts: usize, retention: Duration) -> Self {
        let mut world = Self::asleep(seed, hosts, Habits { retention, ..Habits::default() });
        world.keeps_notes = true;
        world.wake();
        world
    }

    /// The same, whose coordinators ask for a snapshot of their log after so many entries.
    pub fn compacting(seed: u64, hosts: usize, snapshot_entries: u64, retention: Duration) -> Self {
        let habits = Habits { retention, snapshot_entries, ..Habits::default() };
        let mut world = Self::asleep(seed, hosts, habits);
        world.keeps_notes = true;
        world.wake();
        world
    }

    /// A fleet whose agents have not started yet.
    pub(crate) fn asleep(seed: u64, hosts: usize, habits: Habits) -> Self {
        Self::around(seed, Fleet::new(hosts, habits.real_signatures), habits)
    }

    /// The same with keys that were made elsewhere.
    pub(crate) fn around(seed: u64, fleet: Fleet, habits: Habits) -> Self {
        let hosts = fleet.names().len();
        let first: Option<Closure> = "dir:v0".parse().ok();
        let mut all: Vec<Host> =
            fleet.names().iter().map(|name| Host::new(name.clone(), hosts + 1, first.clone())).collect();
        for host in &mut all {
            host.machine.probe_interval = habits.probe_interval;
        }
        // A machine that somebody may start as a clone of another.
        let mut spare = Host::new(fleet.names()[0].clone(), hosts + 1, None);
        spare.is_dormant = true;
        spare.machine.probe_interval = habits.probe_interval;
        all.push(spare);
        let hosts = all.len();
        let mut truth = Truth::new(&fleet, hosts, micros(habits.heartbeat * 3 + HEARD_LATE));
        truth.keep_for(habits.retention);
        Self {
            truth,
            coordinators: Vec::new(),
            recovers_at: None,
            stores: vec![0; hosts],
            hosts: all,
            fleet,
            health: Health::default(),
            gossip_lost: false,
            notes: Vec::new(),
            keeps_notes: false,
            faults: Faults::none(),
            network: Network::new(hosts),
            audience: None,
            random: Random::new(seed),
            now: 1_000_000,
            trace: Trace::default(),
            replies: Vec::new(),
            never_rebooted: false,
            kept: None,
            habits,
            queue: BTreeMap::new(),
            shelf: Shelf::default(),
            count: 0,
            steps: 0,
            inputs: BTreeMap::new(),
        }
    }

    /// Starts every agent.
    pub(crate) fn wake(&mut self) {
        for host in 0..self.hosts.len() {
            self.start_host(host);
            let first = Duration::from_millis(self.random.below(10_000));
            self.push(first, host, Event::Sync { from: None, again: true });
        }
    }

    /// Every agent stops, nobody notices anything for a while, and those that were up start again.
    pub(crate) fn sleep(&mut self, time: Duration) {
        let up: Vec<usize> = self.up().collect();
        for host in &up {
            self.kill_host(*host, true);
        }
        self.queue.clear();
        self.now += micros(time);
        for host in up {
            self.start_host(host);
        }
    }

    /// True time.
    pub fn utc(&self) -> DateTime<Utc> {
        true_time(self.now) + self.truth.calendar
    }

    /// How many steps nodes have taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    pub(crate) fn number(&self, host: &str) -> Option<usize> {
        self.fleet.number(&host.parse().ok()?)
    }

    /// The node of a host, if it is up.
    pub fn node(&self, host: &str) -> Option<&Node> {
        self.hosts[self.number(host)?].node.as_ref()
    }

    /// What a host runs.
    pub fn running(&self, host: &str) -> Option<&Closure> {
        self.hosts[self.number(host)?].machine.running.as_ref()
    }

    /// Every activation that a host has begun.
    pub fn activations(&self, host: &str) -> &[Closure] {
        self.number(host).map_or(&[], |host| &self.hosts[host].machine.activations)
    }

    /// A host's state in a rollout, by its own record.
    pub fn host_state(&self, host: &str, rollout: &str) -> Option<HostState> {
        let (id, rollout): (HostId, RolloutId) = (host.parse().ok()?, rollout.parse().ok()?);
        Some(self.node(host)?.ledger().record(&id, &rollout)?.record.state)
    }

    /// A rollout's state, as one host sees it.
    pub fn rollout_state(&self, host: &str, rollout: &str) -> Option<RolloutState> {
        Some(self.node(host)?.ledger().rollouts().get(&rollout.parse().ok()?)?.state)
    }

    /// The host that leads, if one does and is up.
    pub fn leader(&self) -> Option<HostId> {
        self.leader_number().map(|host| self.hosts[host].name.clone())
    }

    pub(crate) fn leader_number(&self) -> Option<usize> {
        self.hosts.iter().position(|host| host.node.as_ref().is_some_and(Node::leads))
    }

    /// Hands a document to a host, as an operator does.
    pub fn publish(&mut self, host: &str, document: Verified<SignedDocument>) {
        if let Some(host) = self.number(host) {
            // A document that breaks the rules is refused by the host as well, and says so.
            let _ = self.truth.signed(&document, self.now);
            self.hand(host, document);
        }
    }

    /// Hands a document to a host's control socket.
    pub(crate) fn hand(&mut self, host: usize, document: Verified<SignedDocument>) {
        let request = RequestId(self.steps);
        self.step(host, Input::Document { document, origin: Origin::Operator(request) });
    }

    /// Lets a document arrive at a host out of nowhere.
    pub(crate) fn inject(&mut self, host: usize, document: &SignedDocument) {
        let parcel = Rc::new(Parcel::new(Topic::Documents, document.to_wire()));
        self.push(Duration::from_millis(1), host, Event::Message { parcel, message: Some(MessageRef(0)) });
    }

    /// Kills a host's agent: what was not durable is gone.
    pub fn kill(&mut self, host: &HostId) {
        if let Some(host) = self.number(host.as_str()) {
            self.kill_host(host, true);
        }
    }

    /// Starts a host's agent from its disk.
    pub fn start(&mut self, host: &HostId) {
        if let Some(host) = self.number(host.as_str()) {
            self.start_host(host);
        }
    }

    /// Kills an agent; of the writes that it had issued, some of the first ones are durable and the others are gone.
    pub(crate) fn kill_host(&mut self, host: usize, told: bool) {
        let state = &mut self.hosts[host];
        if state.node.is_none() {
            return;
        }
        state.node = None;
        state.drive = state.new_drive();
        state.life += 1;
        state.tick_at = None;
        state.machine.agent_died();
        state.heard.fill(None);
        let issued = state.disk.writes.len() as u64;
        if issued > 0 {
            self.faults.hit(Fault::CrashInWrite);
        }
        let durable = self.random.below(issued + 1);
        if durable < issued {
            self.faults.hit(Fault::LostWrite);
        }
        for _ in 0..durable {
            self.make_durable(host);
        }
        self.hosts[host].disk.writes.clear();
        self.trace.line(self.now, self.hosts[host].name.as_str(), || "dies".to_owned());
        let after = if told { Duration::from_millis(1) } else { IDLE };
        self.tell_peers(host, false, after);
    }

    /// The oldest write of a host becomes durable.
    fn make_durable(&mut self, host: usize) -> Option<u64> {
        let (number, batch) = self.hosts[host].next_durable()?;
        self.trace.mix(
            self.now,
            host,
            &batch.0.iter().flat_map(|change| change.key.clone()).collect::<Vec<_>>(),
        );
        self.truth.durable(self.now, host, &batch, &self.hosts);
        Some(number)
    }

    pub(crate) fn start_later(&mut self, host: usize, after: Duration) {
        self.push(after, host, Event::Start);
    }

    pub(crate) fn start_host(&mut self, host: usize) {
        if self.hosts[host].is_up() || self.hosts[host].is_dormant || self.hosts[host].is_gone {
            return;
        }
        let Some(key) = self.fleet.hosts().get(&self.hosts[host].name).cloned() else { return };
        let (fleet, seed) = (self.fleet.name().clone(), self.random.next());
        let state = &mut self.hosts[host];
        state.life += 1;
        state.started = self.now;
        state.disk_is_idle();
        let settings = Settings {
            fleet,
            host: state.name.clone(),
            heartbeat: self.habits.heartbeat,
            agent_version: "sim".to_owned(),
            boot_id: state.machine.boot_id(),
            backend: state.backend,
            rules: state.rules,
            retention: self.habits.retention,
            snapshot_entries: self.habits.snapshot_entries,
            seed,
        };
        let now = state.look_at_clock(self.now);
        match state.begin(settings, key, self.fleet.trust(), now, &self.shelf) {
            Ok((node, outputs)) => {
                state.node = Some(node);
                self.trace.line(self.now, self.hosts[host].name.as_str(), || "starts".to_owned());
                self.carry_out(host, outputs);
            }
            Err(error) => {
                let what = format!("{} cannot start from its own disk: {error}", self.hosts[host].name);
                self.truth.broken(10, what);
            }
        }
        self.tell_peers(host, true, Duration::from_millis(2));
        self.push(Duration::from_millis(10), host, Event::Sync { from: None, again: false });
    }

    /// Those that a host reaches hear that it is there, or is not, and it hears of them.
    fn tell_peers(&mut self, host: usize, up: bool, after: Duration) {
        for peer in 0..self.hosts.len() {
            let connects = self.network.reaches(host, peer) && self.network.reaches(peer, host);
            let connects = connects && (self.hears_all(host) || self.hears_all(peer));
            if peer != host && connects && self.hosts[peer].is_up() {
                self.push(after, peer, Event::Peer { peer: host, up });
                if up {
                    self.push(after, host, Event::Peer { peer, up });
                }
            }
        }
    }

    /// After the network changed: who can be reached again hears of it, and who cannot perhaps.
    pub(crate) fn tell_links(&mut self, before: &Network, silent: bool) {
        for a in 0..self.hosts.len() {
            for b in 0..a {
                let of = |network: &Network| network.reaches(a, b) && network.reaches(b, a);
                let (was, is) = (of(before), of(&self.network));
                if was != is && (is || !silent) {
                    let after = if is { Duration::from_millis(50) } else { IDLE };
                    self.push(after, a, Event::Peer { peer: b, up: is });
                    self.push(after, b, Event::Peer { peer: a, up: is });
                }
            }
        }
    }

    /// Moves on until the condition holds or `limit` has passed; whether it holds.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + micros(limit);
        while !done(self) {
            if !self.advance(end) {
                return done(self);
            }
        }
        true
    }

    /// Handles the next event if it comes before `end`; else it is `end` afterwards, and false.
    pub(crate) fn advance(&mut self, end: u64) -> bool {
        match self.queue.first_key_value() {
            Some(((at, _), _)) if *at <= end => {
                self.next();
                true
            }
            _ => {
                self.now = self.now.max(end);
                false
            }
        }
    }

    pub(crate) fn up(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.hosts.len()).filter(|host| self.hosts[*host].is_up())
    }

    /// The serial of the newest fleet document or ref that a host holds.
    pub(crate) fn documents_of(&self, host: usize) -> u64 {
        let Some(node) = &self.hosts[host].node else { return 0 };
        let documents = node.ledger().documents();
        let refs = documents.channel_refs().map(|(_, held)| held.serial);
        documents.fleet().map(|held| held.serial).into_iter().chain(refs).max().unwrap_or(0)
    }

    /// Whether a host holds a document.
    pub(crate) fn is_held(&self, host: usize, document: &SignedDocument) -> bool {
        let node = self.hosts[host].node.as_ref();
        node.is_some_and(|node| node.ledger().documents().holds(&document.digest()))
    }

    /// The rows of a host's disk.
    pub(crate) fn disk(&self, host: usize) -> &Disk {
        &self.hosts[host].disk
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
