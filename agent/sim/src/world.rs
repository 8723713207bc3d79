//! A fleet, its network and its disks, moved on one event at a time.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use muster_core::coordination::log::Message;
use muster_core::drive::{Drive, Shell};
use muster_core::id::{Closure, HostId, RolloutId};
use muster_core::ledger::{Batch, Ledger, Rows, Table};
use muster_core::node::{
    BackendKind, CoordinatorMessage, HostReport, Input, Node, Note, Origin, Output, Settings, Topic,
};
use muster_core::time::{Mono, Now};
use muster_core::verify;
use muster_core::wire::{HostState, RolloutState};
use muster_signing::{PublicKey, SignedDocument, Verified};

use crate::fleet::{FLEET, Fleet};
use crate::machine::{Health, Machine};
use crate::random::Random;

/// How long a write takes.
const WRITE: Duration = Duration::from_millis(2);
/// The shortest and the longest way of a message.
const WAY: (u64, u64) = (500, 3_000);
/// How often every host asks another for what it lacks.
const SYNC_INTERVAL: Duration = Duration::from_secs(10);
/// Where virtual time begins.
const EPOCH_SECS: i64 = 1_790_000_000;

type Disk = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

#[derive(Debug)]
enum Event {
    Tick,
    Gossip { topic: Topic, bytes: Vec<u8> },
    Direct { from: PublicKey, message: CoordinatorMessage },
    Stored { life: u64, batch: u64, rows: Batch },
    Report { life: u64, report: HostReport },
    Probe { life: u64, generation: u64 },
    Sync { from: Option<HostId>, again: bool },
}

#[derive(Debug)]
struct Host {
    node: Option<Node>,
    drive: Drive,
    disk: Disk,
    machine: Machine,
    life: u64,
    started: u64,
    tick_at: Option<u64>,
}

/// What one host's node asked for, to be carried out by the world.
#[derive(Default)]
struct Orders {
    writes: Vec<(u64, Batch)>,
    outputs: Vec<Output>,
}

impl Shell for Orders {
    fn store(&mut self, batch: u64, rows: Batch) {
        self.writes.push((batch, rows));
    }

    fn perform(&mut self, output: Output) {
        self.outputs.push(output);
    }
}

struct DiskRows<'a>(&'a Disk);

impl Rows for DiskRows<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        Ok(self.0.get(&(table, key.to_vec())).cloned())
    }

    fn table(&self, table: Table) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), String>> {
        let from = Bound::Included((table, Vec::new()));
        let rows = self.0.range((from, Bound::Unbounded)).take_while(move |((of, _), _)| *of == table);
        rows.map(|((_, key), value)| Ok((key.clone(), value.clone())))
    }
}

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
    random: Random,
    now: u64,
    queue: BTreeMap<(u64, u64), (HostId, Event)>,
    count: u64,
    hosts: BTreeMap<HostId, Host>,
    steps: u64,
}

impl World {
    /// A fleet of hosts that run `dir:v0` and have no document yet.
    pub fn new(seed: u64, hosts: usize) -> Self {
        let fleet = Fleet::new(hosts);
        let first: Option<Closure> = "dir:v0".parse().ok();
        let names: Vec<HostId> = fleet.hosts().keys().cloned().collect();
        let host = || Host {
            node: None,
            drive: Drive::new(),
            disk: Disk::new(),
            machine: Machine::new(first.clone()),
            life: 0,
            started: 0,
            tick_at: None,
        };
        let mut world = Self {
            hosts: names.iter().map(|name| (name.clone(), host())).collect(),
            fleet,
            health: Health::default(),
            gossip_lost: false,
            notes: Vec::new(),
            random: Random::new(seed),
            now: 1_000_000,
            queue: BTreeMap::new(),
            count: 0,
            steps: 0,
        };
        for name in &names {
            world.start(name);
            let first_sync = Duration::from_micros(world.random.below(10_000_000));
            world.push(first_sync, name, Event::Sync { from: None, again: true });
        }
        world
    }

    /// The virtual time.
    pub fn utc(&self) -> DateTime<Utc> {
        let start = DateTime::from_timestamp(EPOCH_SECS, 0).unwrap_or_default();
        start + TimeDelta::milliseconds(i64::try_from(self.now / 1000).unwrap_or(i64::MAX))
    }

    /// How many steps nodes have taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The node of a host, if it is up.
    pub fn node(&self, host: &str) -> Option<&Node> {
        self.hosts.get(&host.parse().ok()?)?.node.as_ref()
    }

    /// What a host runs.
    pub fn running(&self, host: &str) -> Option<&Closure> {
        self.hosts.get(&host.parse().ok()?)?.machine.running.as_ref()
    }

    /// Every activation that a host has begun.
    pub fn activations(&self, host: &str) -> &[Closure] {
        let host = host.parse().ok().and_then(|host: HostId| self.hosts.get(&host));
        host.map_or(&[], |host| &host.machine.activations)
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
        self.hosts
            .iter()
            .find(|(_, host)| host.node.as_ref().is_some_and(Node::leads))
            .map(|(id, _)| id.clone())
    }

    /// Hands a document to a host, as an operator does.
    pub fn publish(&mut self, host: &str, document: Verified<SignedDocument>) {
        if let Ok(host) = host.parse::<HostId>() {
            let request = muster_core::node::RequestId(self.steps);
            self.step(&host, Input::Document { document, origin: Origin::Operator(request) });
        }
    }

    /// Kills a host's agent: what was not durable is gone.
    pub fn kill(&mut self, host: &HostId) {
        let key = self.fleet.hosts().get(host).map(|key| key.public());
        if let Some(host) = self.hosts.get_mut(host) {
            host.node = None;
            host.drive = Drive::new();
            host.life += 1;
            host.tick_at = None;
            host.machine.agent_died();
        }
        for other in self.up() {
            if let Some(key) = key {
                self.step(&other, Input::PeerDown(key));
            }
        }
    }

    /// Starts a host's agent from its disk.
    pub fn start(&mut self, host: &HostId) {
        let Some(key) = self.fleet.hosts().get(host).cloned() else { return };
        let (Ok(fleet), seed) = (FLEET.parse(), self.random.next()) else { return };
        let settings = Settings {
            fleet,
            host: host.clone(),
            heartbeat: Duration::from_secs(5),
            agent_version: "sim".to_owned(),
            boot_id: "boot".to_owned(),
            backend: BackendKind::Directory,
            seed,
        };
        let pins = vec![self.fleet.trust()];
        let Some(state) = self.hosts.get_mut(host) else { return };
        state.life += 1;
        state.started = self.now;
        let start = DateTime::from_timestamp(EPOCH_SECS, 0).unwrap_or_default();
        let utc = start + TimeDelta::milliseconds(i64::try_from(self.now / 1000).unwrap_or(i64::MAX));
        let now = Now { utc, mono: Mono(0) };
        match Node::start(settings, key, pins, &DiskRows(&state.disk), now) {
            Ok((node, outputs)) => {
                state.node = Some(node);
                self.carry_out(host, outputs);
            }
            Err(error) => panic!("{host} cannot start from its own disk: {error}"),
        }
        for other in self.up() {
            if let Some(key) = self.fleet.hosts().get(host).map(|key| key.public()) {
                self.step(&other, Input::PeerUp(key));
            }
        }
        self.push(Duration::from_millis(10), host, Event::Sync { from: None, again: false });
    }

    /// Moves on until the condition holds or `limit` has passed; whether it holds.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit.as_micros() as u64;
        while !done(self) {
            match self.queue.first_key_value() {
                Some(((at, _), _)) if *at <= end => self.next(),
                _ => {
                    self.now = end;
                    return done(self);
                }
            }
        }
        true
    }

    /// Rebuilds every host's views from its disk and says where they differ from what was written.
    pub fn check_views(&self) -> Result<(), String> {
        for (id, host) in &self.hosts {
            let documents =
                muster_core::document::Documents::new(vec![self.fleet.trust()]).map_err(|e| e.to_string())?;
            let fleet = FLEET.parse().map_err(|_| "fleet name".to_owned())?;
            let empty = Ledger::new(fleet, id.clone(), documents);
            let (_, views) = muster_core::ledger::rebuild(empty, &DiskRows(&host.disk))
                .map_err(|e| format!("{id}: {e}"))?;
            let stored: Disk = host
                .disk
                .iter()
                .filter(|((table, _), _)| Table::DERIVED.contains(table))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            if views != stored {
                return Err(format!("{id}: the views are not what the arrivals derive"));
            }
        }
        Ok(())
    }

    fn up(&self) -> Vec<HostId> {
        self.hosts.iter().filter(|(_, host)| host.node.is_some()).map(|(id, _)| id.clone()).collect()
    }

    fn next(&mut self) {
        let Some(((at, _), (host, event))) = self.queue.pop_first() else { return };
        self.now = self.now.max(at);
        match event {
            Event::Tick => {
                if let Some(state) = self.hosts.get_mut(&host) {
                    state.tick_at = None;
                }
                self.step(&host, Input::Tick);
            }
            Event::Gossip { topic, bytes } => self.arrived(&host, topic, &bytes),
            Event::Direct { from, message } => self.direct(&host, from, message),
            Event::Stored { life, batch, rows } => self.stored(&host, life, batch, rows),
            Event::Report { life, report } if self.is_life(&host, life) => {
                let probes = match &report {
                    HostReport::ProbesDeclared { generation, .. } => Some(*generation),
                    _ => None,
                };
                self.step(&host, Input::Host(report));
                if let Some(generation) = probes {
                    self.push(Duration::ZERO, &host, Event::Probe { life, generation });
                }
            }
            Event::Probe { life, generation } if self.is_life(&host, life) => {
                let probed = self.hosts.get(&host).and_then(|it| it.machine.probe(generation, &self.health));
                if let Some((again, report)) = probed {
                    self.step(&host, Input::Host(report));
                    self.push(again, &host, Event::Probe { life, generation });
                }
            }
            // Of an agent that has died since.
            Event::Report { .. } | Event::Probe { .. } => {}
            Event::Sync { from, again } => {
                self.sync(&host, from);
                if again {
                    self.push(SYNC_INTERVAL, &host, Event::Sync { from: None, again });
                }
            }
        }
    }

    fn is_life(&self, host: &HostId, life: u64) -> bool {
        self.hosts.get(host).is_some_and(|host| host.life == life && host.node.is_some())
    }

    fn step(&mut self, host: &HostId, input: Input) {
        let utc = self.utc();
        let Some(state) = self.hosts.get_mut(host) else { return };
        let Some(node) = &mut state.node else { return };
        self.steps += 1;
        let now = Now { utc, mono: Mono(self.now - state.started) };
        let outputs = node.step(now, input);
        self.carry_out(host, outputs);
    }

    fn carry_out(&mut self, host: &HostId, outputs: Vec<Output>) {
        let mut orders = Orders::default();
        if let Some(state) = self.hosts.get_mut(host) {
            state.drive.carry_out(outputs, &mut orders);
        }
        self.obey(host, orders);
        self.set_timer(host);
    }

    fn obey(&mut self, host: &HostId, orders: Orders) {
        let life = self.hosts.get(host).map_or(0, |state| state.life);
        for (batch, rows) in orders.writes {
            self.push(WRITE, host, Event::Stored { life, batch, rows });
        }
        let me = self.fleet.hosts().get(host).map(|key| key.public());
        for output in orders.outputs {
            match output {
                Output::Publish { topic, bytes } if !self.gossip_lost => {
                    for other in self.up().into_iter().filter(|other| other != host) {
                        let way = self.way();
                        self.push(way, &other, Event::Gossip { topic, bytes: bytes.clone() });
                    }
                }
                Output::Send { to, message, .. } => {
                    let to = self
                        .fleet
                        .hosts()
                        .iter()
                        .find(|(_, key)| key.public() == to)
                        .map(|(id, _)| id.clone());
                    let way = self.way();
                    if let (Some(to), Some(from)) = (to, me) {
                        self.push(way, &to, Event::Direct { from, message });
                    }
                }
                Output::Order(order) => {
                    let health = self.health.clone();
                    let answer = self.hosts.get_mut(host).and_then(|it| it.machine.obey(order, &health));
                    if let Some((after, report)) = answer {
                        self.push(after, host, Event::Report { life, report });
                    }
                }
                Output::Fetch { from } => {
                    let from = from.and_then(|from| {
                        self.fleet
                            .hosts()
                            .iter()
                            .find(|(_, key)| key.public() == from)
                            .map(|(id, _)| id.clone())
                    });
                    self.push(Duration::from_millis(5), host, Event::Sync { from, again: false });
                }
                Output::Tell(note) => self.notes.push((self.utc(), host.clone(), note)),
                Output::Publish { .. }
                | Output::Persist { .. }
                | Output::Verdict { .. }
                | Output::Enrol(_)
                | Output::Reply { .. } => {}
            }
        }
    }

    fn stored(&mut self, host: &HostId, life: u64, batch: u64, rows: Batch) {
        let Some(state) = self.hosts.get_mut(host).filter(|state| state.life == life) else { return };
        for change in rows.0 {
            match change.value {
                Some(value) => state.disk.insert((change.table, change.key), value),
                None => state.disk.remove(&(change.table, change.key)),
            };
        }
        let mut orders = Orders::default();
        state.drive.stored(batch, &mut orders);
        self.obey(host, orders);
        self.step(host, Input::Stored { batch });
    }

    fn arrived(&mut self, host: &HostId, topic: Topic, bytes: &[u8]) {
        let Some(node) = self.hosts.get(host).and_then(|state| state.node.as_ref()) else { return };
        let roster = node.ledger().roster().clone();
        let input = match topic {
            Topic::Documents => verify::document(bytes)
                .ok()
                .map(|document| Input::Document { document, origin: Origin::Sync }),
            Topic::Decisions => verify::certificate(&roster, bytes)
                .ok()
                .map(|certified| Input::Decision { certified, message: None }),
            Topic::Events => verify::envelope(&roster, bytes)
                .ok()
                .map(|envelope| Input::Envelope { envelope, message: None }),
            Topic::Presence => {
                verify::notice(&roster, bytes).ok().map(|notice| Input::Notice { notice, message: None })
            }
        };
        if let Some(input) = input {
            self.step(host, input);
        }
    }

    fn direct(&mut self, host: &HostId, from: PublicKey, message: CoordinatorMessage) {
        let Some(node) = self.hosts.get(host).and_then(|state| state.node.as_ref()) else { return };
        let roster = node.ledger().roster().clone();
        let input = match message {
            CoordinatorMessage::Log(bytes) => Message::decode(&bytes)
                .ok()
                .map(|message| Input::Consensus { from, message: Box::new(message) }),
            CoordinatorMessage::Endorsement(message) => {
                verify::endorsement(&roster, &from, &message).ok().map(Input::Endorsement)
            }
            CoordinatorMessage::Objection(bytes) => {
                verify::notice(&roster, &bytes).ok().map(|notice| Input::Notice { notice, message: None })
            }
        };
        if let Some(input) = input {
            self.step(host, input);
        }
    }

    /// Pulls what another host has on its disk and this one has not.
    fn sync(&mut self, host: &HostId, from: Option<HostId>) {
        let others: Vec<HostId> = self.up().into_iter().filter(|other| other != host).collect();
        let picked = others.get(self.random.below(others.len() as u64) as usize).cloned();
        let Some(from) = from.or(picked).and_then(|from| self.hosts.get(&from)) else { return };
        let Some(to) = self.hosts.get(host) else { return };
        let missing = |table: Table| -> Vec<Vec<u8>> {
            let rows = from.disk.iter().filter(move |((of, _), _)| *of == table);
            rows.filter(|(key, _)| !to.disk.contains_key(*key)).map(|(_, value)| value.clone()).collect()
        };
        let topics = [
            (Table::Documents, Topic::Documents),
            (Table::Decisions, Topic::Decisions),
            (Table::Feeds, Topic::Events),
        ];
        let mut found: Vec<(Topic, Vec<u8>)> = topics
            .iter()
            .flat_map(|(table, topic)| missing(*table).into_iter().map(|row| (*topic, row)))
            .collect();
        if let Some(node) = &from.node {
            found.extend(node.notices().map(|notice| (Topic::Presence, notice.to_vec())));
        }
        for (topic, bytes) in found {
            let way = self.way();
            self.push(way, host, Event::Gossip { topic, bytes });
        }
    }

    fn way(&mut self) -> Duration {
        Duration::from_micros(WAY.0 + self.random.below(WAY.1 - WAY.0))
    }

    fn push(&mut self, after: Duration, host: &HostId, event: Event) {
        self.count += 1;
        self.queue.insert((self.now + after.as_micros() as u64, self.count), (host.clone(), event));
    }

    fn set_timer(&mut self, host: &HostId) {
        let Some(state) = self.hosts.get_mut(host) else { return };
        let Some(at) = state.node.as_ref().and_then(Node::wakes_at) else { return };
        // A timer that is due already fires a moment later, so that virtual time moves on.
        let at = state.started.saturating_add(at.0).max(self.now + 1000);
        if state.tick_at.is_none_or(|known| at < known) {
            state.tick_at = Some(at);
            self.push(Duration::from_micros(at - self.now), host, Event::Tick);
        }
    }
}
