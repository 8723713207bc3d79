//! A fleet, its network and its disks, moved on one event at a time.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use muster_core::drive::Drive;
use muster_core::id::{Closure, HostId, RolloutId};
use muster_core::ledger::{Ledger, Table};
use muster_core::node::{
    BackendKind, CoordinatorMessage, HostReport, Input, MessageRef, Node, Note, Origin, Output, RequestId,
    Settings, Topic,
};
use muster_core::wire::{HostState, NoticeBody, RolloutState};
use muster_signing::{SignedDocument, Verified};

use crate::disk::{Disk, RowMap, SYNCED};
use crate::fault::{Fault, Faults};
use crate::fleet::{FLEET, Fleet};
use crate::host::{Host, Orders, true_time};
use crate::machine::{Health, Told, Weather};
use crate::network::Network;
use crate::parcel::{Parcel, read_direct};
use crate::random::Random;
use crate::trace::Trace;
use crate::truth::Truth;

/// How long a write takes.
const WRITE: Duration = Duration::from_millis(2);
/// The shortest and the longest way of a message, in microseconds.
const WAY: (u64, u64) = (500, 3_000);
/// What a slow host adds to everything that it is told.
const SLOW: Duration = Duration::from_millis(400);
/// What a slow disk adds to every write.
const SLOW_WRITE: Duration = Duration::from_millis(700);
/// After a failed write the agent starts again so much later.
const REOPEN: Duration = Duration::from_millis(200);
/// How long it takes until peers notice that a silent connection is gone.
const IDLE: Duration = Duration::from_secs(8);

/// Ticks in a row after which a node may still want the next one at once.
const SPINS_MAX: u32 = 50;

/// The least time between two pulls that a node asks for.
const PULL_GAP: Duration = Duration::from_millis(100);

/// How a fleet behaves when nothing is wrong.
#[derive(Debug, Clone)]
pub(crate) struct Habits {
    pub(crate) heartbeat: Duration,
    pub(crate) sync_interval: Duration,
    pub(crate) probe_interval: Duration,
    pub(crate) real_signatures: bool,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(5),
            sync_interval: Duration::from_secs(10),
            probe_interval: Duration::from_secs(1),
            real_signatures: false,
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
    Report { life: u64, report: HostReport },
    Probe { life: u64, generation: u64 },
    JobEnds { number: u64 },
    Sync { from: Option<usize>, again: bool },
    Peer { peer: usize, up: bool },
    Start,
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
    pub(crate) keeps_notes: bool,
    pub(crate) faults: Faults,
    pub(crate) network: Network,
    pub(crate) random: Random,
    pub(crate) now: u64,
    pub(crate) hosts: Vec<Host>,
    pub(crate) truth: Truth,
    pub(crate) trace: Trace,
    pub(crate) replies: Vec<(usize, Result<bool, String>)>,
    habits: Habits,
    queue: BTreeMap<(u64, u64), (usize, Event)>,
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

    /// A fleet whose agents have not started yet.
    pub(crate) fn asleep(seed: u64, hosts: usize, habits: Habits) -> Self {
        let fleet = Fleet::new(hosts, habits.real_signatures);
        let first: Option<Closure> = "dir:v0".parse().ok();
        let mut all: Vec<Host> =
            fleet.names().iter().map(|name| Host::new(name.clone(), hosts, first.clone())).collect();
        for host in &mut all {
            host.machine.probe_interval = habits.probe_interval;
        }
        Self {
            truth: Truth::new(&fleet),
            hosts: all,
            fleet,
            health: Health::default(),
            gossip_lost: false,
            notes: Vec::new(),
            keeps_notes: false,
            faults: Faults::none(),
            network: Network::new(hosts),
            random: Random::new(seed),
            now: 1_000_000,
            trace: Trace::default(),
            replies: Vec::new(),
            habits,
            queue: BTreeMap::new(),
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

    /// True time.
    pub fn utc(&self) -> DateTime<Utc> {
        true_time(self.now)
    }

    /// How many steps nodes have taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    pub(crate) fn number(&self, host: &str) -> Option<usize> {
        self.hosts.iter().position(|it| it.name.as_str() == host)
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
        state.drive = Drive::new();
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
        let (number, batch) = self.hosts[host].disk.next_durable()?;
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
        if self.hosts[host].is_up() {
            return;
        }
        let Some(key) = self.fleet.hosts().get(&self.hosts[host].name).cloned() else { return };
        let (Ok(fleet), seed) = (FLEET.parse(), self.random.next()) else { return };
        let state = &mut self.hosts[host];
        state.life += 1;
        state.started = self.now;
        state.disk_busy_until = self.now;
        let settings = Settings {
            fleet,
            host: state.name.clone(),
            heartbeat: self.habits.heartbeat,
            agent_version: "sim".to_owned(),
            boot_id: state.machine.boot_id(),
            backend: BackendKind::Directory,
            seed,
        };
        let now = state.now(self.now);
        let pins = vec![self.fleet.trust()];
        match planted(state.bug, || Node::start(settings, key, pins, &state.disk, now)) {
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

    /// Rebuilds every host's views from its disk and says where they differ from what was written.
    pub fn check_views(&self) -> Result<(), String> {
        for host in &self.hosts {
            let id = &host.name;
            let documents = muster_core::document::Documents::new(vec![self.fleet.trust()])
                .map_err(|error| error.to_string())?;
            let fleet = FLEET.parse().map_err(|_| "fleet name".to_owned())?;
            let empty = Ledger::new(fleet, id.clone(), documents);
            let (_, views) =
                muster_core::ledger::rebuild(empty, &host.disk).map_err(|error| format!("{id}: {error}"))?;
            let derived = host.disk.rows.iter().filter(|((table, _), _)| Table::DERIVED.contains(table));
            let stored: RowMap = derived.map(|(key, value)| (key.clone(), value.clone())).collect();
            if views != stored {
                let other = stored.iter().find(|(key, value)| views.get(*key) != Some(*value));
                let missing = views.keys().find(|key| !stored.contains_key(*key));
                let at = other.map(|(key, _)| key).or(missing);
                let at = at.map(|(table, key)| format!("{table:?} {}", String::from_utf8_lossy(key)));
                return Err(format!("{id}: the views are not what the arrivals derive, at {at:?}"));
            }
        }
        Ok(())
    }

    pub(crate) fn up(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.hosts.len()).filter(|host| self.hosts[*host].is_up())
    }

    fn next(&mut self) {
        let Some(((at, order), (host, event))) = self.queue.pop_first() else { return };
        self.now = self.now.max(at);
        let state = &self.hosts[host];
        if state.paused_until > self.now && !matches!(event, Event::JobEnds { .. } | Event::Start) {
            self.queue.insert((state.paused_until, order), (host, event));
            return;
        }
        match event {
            Event::Tick { life, at } => {
                // A timer that an earlier one has replaced since is no timer any more.
                if self.hosts[host].life == life && self.hosts[host].tick_at == Some(at) {
                    self.hosts[host].tick_at = None;
                    self.step(host, Input::Tick);
                    self.note_spin(host);
                }
            }
            Event::Message { parcel, message } => self.arrived(host, &parcel, message),
            Event::Direct { from, message } => {
                let Some(node) = &self.hosts[host].node else { return };
                let Some(key) = self.fleet.hosts().get(&self.hosts[from].name) else { return };
                if let Some(input) = read_direct(node.ledger().roster(), key.public(), &message) {
                    self.step(host, input);
                }
            }
            Event::Durable { life } if self.is_life(host, life) => {
                if let Some(batch) = self.make_durable(host) {
                    let mut orders = Orders::default();
                    self.hosts[host].drive.stored(batch, &mut orders);
                    self.obey(host, orders);
                    self.step(host, Input::Stored { batch });
                }
            }
            Event::WriteFailed { life } if self.is_life(host, life) => {
                self.trace.line(self.now, self.hosts[host].name.as_str(), || "a write fails".to_owned());
                self.kill_host(host, true);
                self.start_later(host, REOPEN);
            }
            Event::Report { life, report } if self.is_life(host, life) => {
                self.trace
                    .line(self.now, self.hosts[host].name.as_str(), || format!("is told {}", brief(&report)));
                self.step(host, Input::Host(report));
            }
            Event::Probe { life, generation } if self.is_life(host, life) => {
                let told = self.with_machine(host, |machine, weather| machine.probe(generation, weather));
                self.told(host, told);
            }
            // Of an agent that has died since.
            Event::Durable { .. }
            | Event::WriteFailed { .. }
            | Event::Report { .. }
            | Event::Probe { .. } => {}
            Event::JobEnds { number } => {
                if let Some(report) = self.hosts[host].machine.end(number, self.now) {
                    let life = self.hosts[host].life;
                    self.push(Duration::ZERO, host, Event::Report { life, report });
                }
            }
            Event::Sync { from, again } => {
                self.sync(host, from);
                if again {
                    self.push(self.habits.sync_interval, host, Event::Sync { from: None, again });
                }
            }
            Event::Peer { peer, up } => {
                if self.hosts[peer].is_up() == up || !up {
                    let key = self.fleet.hosts().get(&self.hosts[peer].name).map(|key| key.public());
                    if let Some(key) = key {
                        self.step(host, if up { Input::PeerUp(key) } else { Input::PeerDown(key) });
                    }
                }
            }
            Event::Start => self.start_host(host),
        }
    }

    /// A node that wants to be woken at once, again and again, would keep a machine busy for nothing.
    fn note_spin(&mut self, host: usize) {
        let state = &mut self.hosts[host];
        let now = state.now(self.now).mono;
        let at_once = state.node.as_ref().and_then(Node::wakes_at).is_some_and(|at| at <= now);
        state.spins = if at_once { state.spins + 1 } else { 0 };
        if state.spins > SPINS_MAX {
            let what = format!("{} wants to be woken at once, {SPINS_MAX} times in a row", state.name);
            self.truth.broken(12, what);
        }
    }

    fn is_life(&self, host: usize, life: u64) -> bool {
        self.hosts[host].life == life && self.hosts[host].is_up()
    }

    pub(crate) fn step(&mut self, host: usize, input: Input) {
        let state = &mut self.hosts[host];
        let now = state.now(self.now);
        let Some(node) = &mut state.node else { return };
        self.steps += 1;
        *self.inputs.entry(kind_of(&input)).or_default() += 1;
        let outputs = planted(state.bug, || node.step(now, input));
        self.carry_out(host, outputs);
    }

    fn carry_out(&mut self, host: usize, outputs: Vec<Output>) {
        let mut orders = Orders::default();
        let state = &mut self.hosts[host];
        planted(state.bug, || state.drive.carry_out(outputs, &mut orders));
        self.obey(host, orders);
        self.set_timer(host);
    }

    fn obey(&mut self, host: usize, orders: Orders) {
        let life = self.hosts[host].life;
        for (batch, rows) in orders.writes {
            self.hosts[host].disk.writes.push_back((batch, rows));
            self.write(host, life);
        }
        for output in orders.outputs {
            match output {
                Output::Publish { topic, bytes } => self.gossip(host, topic, bytes),
                Output::Send { to, message, .. } => {
                    if let Some(to) = self.fleet.number_of(&to) {
                        self.send(host, to, message);
                    }
                }
                Output::Order(order) => {
                    self.trace.line(self.now, self.hosts[host].name.as_str(), || format!("orders {order:?}"));
                    if let Some((name, target)) = self.hosts[host].machine.begins(&order) {
                        self.truth.begins(self.now, host, &name, &target, &self.hosts);
                    }
                    let told = self.with_machine(host, |machine, weather| machine.obey(order, weather));
                    self.told(host, told);
                }
                Output::Fetch { from } => {
                    // One pull at a time, as in the agent.
                    if self.hosts[host].fetches_at <= self.now {
                        let from = from.and_then(|from| self.fleet.number_of(&from));
                        self.hosts[host].fetches_at = self.now + micros(PULL_GAP);
                        self.push(Duration::from_millis(5), host, Event::Sync { from, again: false });
                    }
                }
                Output::Tell(note) => self.tell(host, note),
                Output::Reply { result, .. } => {
                    let result = result.map(|receipt| receipt.duplicate).map_err(|error| error.to_string());
                    self.trace
                        .line(self.now, self.hosts[host].name.as_str(), || format!("answers {result:?}"));
                    self.replies.push((host, result));
                }
                Output::Persist { .. } | Output::Verdict { .. } | Output::Enrol(_) => {}
            }
        }
    }

    fn tell(&mut self, host: usize, note: Note) {
        self.trace.line(self.now, self.hosts[host].name.as_str(), || format!("{note:?}"));
        self.truth.told(self.now, host, &note);
        if self.keeps_notes {
            self.notes.push((self.utc(), self.hosts[host].name.clone(), note));
        }
    }

    /// Issues a write to the disk.
    fn write(&mut self, host: usize, life: u64) {
        let state = &self.hosts[host];
        let full = state.full_disk_until > self.now;
        let mut takes = WRITE;
        if state.slow_disk_until > self.now {
            takes += SLOW_WRITE;
        }
        let fails = full || self.faults.strikes(&mut self.random, Fault::FailingWrite, 1);
        let done = self.hosts[host].disk_busy_until.max(self.now) + micros(takes);
        self.hosts[host].disk_busy_until = done;
        let event = if fails { Event::WriteFailed { life } } else { Event::Durable { life } };
        self.push(Duration::from_micros(done - self.now), host, event);
    }

    fn with_machine(
        &mut self,
        host: usize,
        act: impl FnOnce(&mut crate::machine::Machine, &mut Weather<'_>) -> Vec<Told>,
    ) -> Vec<Told> {
        let (now, random, faults) = (self.now, &mut self.random, &mut self.faults);
        let mut weather = Weather { now, random, faults, health: &self.health };
        act(&mut self.hosts[host].machine, &mut weather)
    }

    fn told(&mut self, host: usize, told: Vec<Told>) {
        let life = self.hosts[host].life;
        for told in told {
            match told {
                Told::Report(after, report) => self.push(after, host, Event::Report { life, report }),
                Told::Ends(after, number) => self.push(after, host, Event::JobEnds { number }),
                Told::Probe(after, generation) => self.push(after, host, Event::Probe { life, generation }),
            }
        }
    }

    fn gossip(&mut self, host: usize, topic: Topic, bytes: Vec<u8>) {
        self.trace.mix(self.now, host, &bytes);
        self.truth.published(self.now, host, topic, &bytes, &self.hosts);
        let parcel = Rc::new(Parcel::new(topic, bytes));
        if topic == Topic::Presence {
            self.note_heard(host, &parcel);
        }
        if self.gossip_lost {
            return;
        }
        let message = Some(MessageRef(self.count));
        let hops = (!self.network.is_whole()).then(|| {
            let relays: Vec<bool> = self.hosts.iter().map(Host::is_up).collect();
            self.network.hops(host, &relays)
        });
        for to in 0..self.hosts.len() {
            let far = hops.as_ref().map_or(Some(1), |hops| hops[to]);
            let Some(far) = far.filter(|_| to != host && self.hosts[to].is_up()) else { continue };
            if self.hosts[to].deaf_until > self.now {
                continue;
            }
            for (after, parcel) in self.ways(far, &parcel) {
                self.push(after, to, Event::Message { parcel, message });
            }
        }
    }

    fn send(&mut self, host: usize, to: usize, message: CoordinatorMessage) {
        let Some(message) = self.lie(host, to, message) else { return };
        if let CoordinatorMessage::Endorsement(endorsement) = &message {
            self.truth.endorsed(self.now, host, &endorsement.decision, &self.hosts);
        }
        if !self.network.reaches(host, to) || !self.hosts[to].is_up() {
            return;
        }
        let message = Rc::new(message);
        for (after, message) in self.ways(1, &message) {
            self.push(after, to, Event::Direct { from: host, message });
        }
    }

    /// What a lying coordinator sends instead; none: nothing.
    #[cfg(feature = "planted")]
    fn lie(&mut self, host: usize, to: usize, message: CoordinatorMessage) -> Option<CoordinatorMessage> {
        use muster_core::planted::Bug;
        use muster_core::wire::{Decision, DecisionBody, codec};
        match (self.hosts[host].bug, message) {
            (Some(Bug::LieSilent), _) => None,
            (Some(Bug::LieTwice), CoordinatorMessage::Endorsement(mut endorsement))
                if to.is_multiple_of(2) =>
            {
                let mut decision: Decision = codec::decode("decision", &endorsement.decision).ok()?;
                if let DecisionBody::Dispatch { soak_secs, .. } = &mut decision.body {
                    *soak_secs = 0;
                }
                decision.ordinal ^= 1;
                endorsement.decision = codec::encode(&decision);
                let key = self.fleet.hosts().get(&self.hosts[host].name)?;
                endorsement.signature = muster_signing::sign_decision(key, FLEET, &endorsement.decision);
                Some(CoordinatorMessage::Endorsement(endorsement))
            }
            (_, message) => Some(message),
        }
    }

    #[cfg(not(feature = "planted"))]
    #[expect(clippy::unused_self, reason = "with the feature it asks who lies")]
    fn lie(&mut self, _host: usize, _to: usize, message: CoordinatorMessage) -> Option<CoordinatorMessage> {
        Some(message)
    }

    /// The ways that a message takes: none if it is lost, several if it is doubled; damaged ones are lost here too, or
    /// arrive as what they are.
    fn ways<T: Damage>(&mut self, hops: u64, what: &Rc<T>) -> Vec<(Duration, Rc<T>)> {
        let mut after = Duration::from_micros(hops * (WAY.0 + self.random.below(WAY.1 - WAY.0)));
        let (faults, random) = (&mut self.faults, &mut self.random);
        if faults.kinds().next().is_none() {
            return vec![(after, Rc::clone(what))];
        }
        if faults.strikes(random, Fault::Loss, 300) {
            return Vec::new();
        }
        if faults.strikes(random, Fault::Delay, 150) {
            after += Duration::from_millis(random.below(5_000));
        }
        if faults.strikes(random, Fault::Reorder, 300) {
            after += Duration::from_millis(random.below(50));
        }
        let mut ways = Vec::with_capacity(2);
        if faults.strikes(random, Fault::Duplicate, 200) {
            ways.push((after + Duration::from_millis(random.below(300)), Rc::clone(what)));
        }
        if faults.strikes(random, Fault::Replay, 10) {
            ways.push((Duration::from_secs(random.between(5, 200)), Rc::clone(what)));
        }
        if faults.strikes(random, Fault::Corrupt, 30) {
            ways.extend(what.damaged(random).map(|damaged| (after, Rc::new(damaged))));
        } else {
            ways.push((after, Rc::clone(what)));
        }
        ways
    }

    fn arrived(&mut self, host: usize, parcel: &Rc<Parcel>, message: Option<MessageRef>) {
        let Some(node) = &self.hosts[host].node else { return };
        let bug = self.hosts[host].bug;
        let Some(input) = planted(bug, || parcel.read(node.ledger().roster(), message)) else { return };
        if parcel.topic == Topic::Presence {
            self.note_heard_input(host, parcel, &input);
        }
        self.step(host, input);
    }

    /// A host holds a heartbeat now that it can pass on by sync.
    fn note_heard(&mut self, host: usize, parcel: &Rc<Parcel>) {
        let Some(node) = &self.hosts[host].node else { return };
        if let Some(input) = parcel.read(node.ledger().roster(), None) {
            self.note_heard_input(host, parcel, &input);
        }
    }

    fn note_heard_input(&mut self, host: usize, parcel: &Rc<Parcel>, input: &Input) {
        let Input::Notice { notice, .. } = input else { return };
        if let NoticeBody::Presence(_) = &notice.content.body
            && let Some(of) = self.number(notice.content.host.as_str())
        {
            let order = notice.content.order();
            let known = &mut self.hosts[host].heard[of];
            if known.as_ref().is_none_or(|(known, _)| *known < order) {
                *known = Some((order, Rc::clone(parcel)));
            }
        }
    }

    /// Pulls what another host has on its disk and this one has not.
    fn sync(&mut self, host: usize, from: Option<usize>) {
        if !self.hosts[host].is_up() {
            return;
        }
        let peers: Vec<usize> = (0..self.hosts.len()).filter(|peer| self.is_linked(host, *peer)).collect();
        let picked = self.random.pick(&peers).copied();
        let Some(from) = from.filter(|from| self.is_linked(host, *from)).or(picked) else { return };
        let (to, of) = (&self.hosts[host], &self.hosts[from]);
        let mut found: Vec<Rc<Parcel>> = Vec::new();
        let topics = [Topic::Documents, Topic::Decisions, Topic::Events];
        for (at, (table, topic)) in SYNCED.iter().zip(topics).enumerate() {
            if to.disk.sums()[at] != of.disk.sums()[at] {
                let missing = to.disk.lacks(&of.disk, *table);
                found.extend(missing.into_iter().map(|bytes| Rc::new(Parcel::new(topic, bytes))));
            }
        }
        for (known, newer) in to.heard.iter().zip(&of.heard) {
            if let Some((order, parcel)) = newer
                && known.as_ref().is_none_or(|(known, _)| known < order)
            {
                found.push(Rc::clone(parcel));
            }
        }
        let mut after = Duration::from_micros(WAY.0 + self.random.below(WAY.1 - WAY.0));
        for parcel in found {
            // One stream: it may break, and what comes comes in order.
            if self.faults.strikes(&mut self.random, Fault::Loss, 20) {
                return;
            }
            after += Duration::from_micros(20);
            self.push(after, host, Event::Message { parcel, message: None });
        }
    }

    fn is_linked(&self, a: usize, b: usize) -> bool {
        a != b && self.hosts[b].is_up() && self.network.reaches(a, b) && self.network.reaches(b, a)
    }

    fn push(&mut self, after: Duration, host: usize, event: Event) {
        self.count += 1;
        let slow = if self.hosts[host].slow_until > self.now { SLOW } else { Duration::ZERO };
        self.queue.insert((self.now + micros(after + slow), self.count), (host, event));
    }

    fn set_timer(&mut self, host: usize) {
        let state = &mut self.hosts[host];
        let Some(at) = state.node.as_ref().and_then(Node::wakes_at) else { return };
        // A timer that is due already fires a moment later, so that virtual time moves on.
        let at = state.started.saturating_add(at.0).max(self.now + 1000);
        if state.tick_at.is_none_or(|known| at < known) {
            state.tick_at = Some(at);
            let life = state.life;
            self.push(Duration::from_micros(at - self.now), host, Event::Tick { life, at });
        }
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

/// Runs a node with the bug that is planted in it.
#[cfg(feature = "planted")]
fn planted<T>(bug: Option<crate::host::Bug>, run: impl FnOnce() -> T) -> T {
    muster_core::planted::with(bug, run)
}

#[cfg(not(feature = "planted"))]
fn planted<T>(_bug: Option<crate::host::Bug>, run: impl FnOnce() -> T) -> T {
    run()
}

/// What the network can damage.
trait Damage: Sized {
    /// The damaged message; none if the damage is found out underway, and the message lost by it.
    fn damaged(&self, random: &mut Random) -> Option<Self>;
}

/// Gossip passes through hands that may change it; only its signatures protect it.
impl Damage for Parcel {
    fn damaged(&self, random: &mut Random) -> Option<Self> {
        Some(Self::new(self.topic, flipped(&self.bytes, random)))
    }
}

/// What coordinators send each other is protected by their connection.
impl Damage for CoordinatorMessage {
    fn damaged(&self, _random: &mut Random) -> Option<Self> {
        None
    }
}

fn flipped(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = random.index(bytes.len());
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << random.below(8);
    }
    bytes
}

fn kind_of(input: &Input) -> &'static str {
    match input {
        Input::Tick => "ticks",
        Input::Document { .. } => "documents",
        Input::Envelope { .. } => "envelopes",
        Input::Notice { .. } => "notices",
        Input::Decision { .. } => "decisions",
        Input::Consensus { .. } => "log",
        Input::Endorsement(_) => "endorsements",
        Input::Host(_) => "reports",
        Input::PeerUp(_) | Input::PeerDown(_) => "peers",
        Input::Stored { .. } => "stored",
        Input::Stopping => "stops",
    }
}

fn brief(report: &HostReport) -> String {
    match report {
        HostReport::ProbeRan { run, .. } => format!("probe {} {:?}", run.probe_name, run.status),
        _ => format!("{report:?}"),
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
