//! One event after the other: what an agent is told, and what becomes of what it asks for.

use std::time::Duration;

use muster_core::node::{HostReport, Input, Node, Note, Output};

use super::{Event, SPINS_MAX, World, micros};
use crate::disk::Write;
use crate::fault::Fault;
use crate::host::Orders;
use crate::machine::{Machine, Told, Weather};
use crate::parcel::read_direct;

/// How long a write takes.
const WRITE: Duration = Duration::from_millis(2);
/// What a slow disk adds to every write.
const SLOW_WRITE: Duration = Duration::from_millis(700);
/// After a failed write the agent starts again so much later.
const REOPEN: Duration = Duration::from_millis(200);
/// The least time between two pulls that a node asks for.
const PULL_GAP: Duration = Duration::from_millis(100);

impl World {
    pub(super) fn next(&mut self) {
        let Some(((at, order), (host, event))) = self.queue.pop_first() else { return };
        self.now = self.now.max(at);
        let state = &self.hosts[host];
        if state.paused_until > self.now
            && !matches!(event, Event::JobEnds { .. } | Event::Befalls { .. } | Event::Start)
        {
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
                let Some(key) = self.fleet.key_of(&self.hosts[from].name) else { return };
                if let Some(input) = read_direct(node.ledger().roster(), key, &message) {
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
                self.write_failed(host);
            }
            Event::Report { life, report } if self.is_life(host, life) => {
                self.trace
                    .line(self.now, self.hosts[host].name.as_str(), || format!("is told {}", brief(&report)));
                self.step(host, Input::Host(*report));
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
                    self.push(Duration::ZERO, host, Event::Report { life, report: Box::new(report) });
                }
            }
            Event::Sync { from, again } => {
                self.sync(host, from);
                if again {
                    self.push(self.habits.sync_interval, host, Event::Sync { from: None, again });
                }
            }
            Event::Peer { peer, up } => {
                if (self.hosts[peer].is_up() || !up)
                    && let Some(key) = self.fleet.key_of(&self.hosts[peer].name)
                {
                    self.step(host, if up { Input::PeerUp(key) } else { Input::PeerDown(key) });
                }
            }
            Event::Befalls { fault } => self.befalls(host, fault),
            Event::Start => self.start_host(host),
        }
    }

    /// A write fails: the agent starts again from its disk, or, if that is full, once there is room.
    fn write_failed(&mut self, host: usize) {
        self.trace.line(self.now, self.hosts[host].name.as_str(), || "a write fails".to_owned());
        let full = self.hosts[host].full_disk_until.saturating_sub(self.now);
        if full > 0 {
            self.part(host);
        }
        self.kill_host(host, full == 0);
        self.start_later(host, REOPEN.max(Duration::from_micros(full)));
    }

    /// The last words of a host whose disk is full, as the agent has them: nothing that needs a write.
    fn part(&mut self, host: usize) {
        let now = self.hosts[host].now(self.now);
        let Some(node) = &mut self.hosts[host].node else { return };
        let mut outputs = node.step(now, Input::DiskFull);
        outputs.retain(|output| matches!(output, Output::Send { at_once: true, .. }));
        self.obey(host, Orders { writes: Vec::new(), outputs });
    }

    /// A node that wants to be woken at once, again and again, would keep a machine busy for nothing.
    pub(super) fn note_spin(&mut self, host: usize) {
        let state = &mut self.hosts[host];
        let now = state.now(self.now).mono;
        let at_once = state.node.as_ref().and_then(Node::wakes_at).is_some_and(|at| at <= now);
        state.spins = if at_once { state.spins + 1 } else { 0 };
        if state.spins > SPINS_MAX {
            let what = format!("{} wants to be woken at once, {SPINS_MAX} times in a row", state.name);
            self.truth.broken(12, what);
        }
    }

    pub(super) fn is_life(&self, host: usize, life: u64) -> bool {
        self.hosts[host].life == life && self.hosts[host].is_up()
    }

    pub(crate) fn step(&mut self, host: usize, input: Input) {
        let state = &mut self.hosts[host];
        let now = state.look_at_clock(self.now);
        let Some(node) = &mut state.node else { return };
        self.steps += 1;
        *self.inputs.entry(kind_of(&input)).or_default() += 1;
        let outputs = node.step(now, input);
        self.carry_out(host, outputs);
    }

    pub(super) fn carry_out(&mut self, host: usize, outputs: Vec<Output>) {
        let outputs = self.lets_out(host, outputs);
        let mut orders = Orders::default();
        self.hosts[host].drive.carry_out(outputs, &mut orders);
        self.obey(host, orders);
        self.set_timer(host);
    }

    pub(super) fn obey(&mut self, host: usize, orders: Orders) {
        let life = self.hosts[host].life;
        for (number, rows) in orders.writes {
            let state = &mut self.hosts[host];
            let write = Write { number, rows, jump_seen: state.jump_seen };
            state.disk.writes.push_back(write);
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

    pub(super) fn tell(&mut self, host: usize, note: Note) {
        self.trace.line(self.now, self.hosts[host].name.as_str(), || format!("{note:?}"));
        self.truth.told(self.now, host, &note, &self.hosts[host].name);
        if self.keeps_notes {
            self.notes.push((self.utc(), self.hosts[host].name.clone(), note));
        }
    }

    /// Issues a write to the disk.
    pub(super) fn write(&mut self, host: usize, life: u64) {
        let state = &self.hosts[host];
        let full = state.full_disk_until > self.now;
        let mut takes = WRITE;
        if state.slow_disk_until > self.now {
            takes += SLOW_WRITE;
        }
        let fails = full || self.faults.strikes(&mut self.random, Fault::FailingWrite, 1);
        let done = self.hosts[host].commits_at(self.now, micros(takes));
        let event = if fails { Event::WriteFailed { life } } else { Event::Durable { life } };
        self.push(Duration::from_micros(done - self.now), host, event);
    }

    pub(super) fn with_machine(
        &mut self,
        host: usize,
        act: impl FnOnce(&mut Machine, &mut Weather<'_>) -> Vec<Told>,
    ) -> Vec<Told> {
        let (now, random, faults) = (self.now, &mut self.random, &mut self.faults);
        let mut weather = Weather { now, random, faults, health: &self.health };
        act(&mut self.hosts[host].machine, &mut weather)
    }

    pub(super) fn told(&mut self, host: usize, told: Vec<Told>) {
        let life = self.hosts[host].life;
        for told in told {
            match told {
                Told::Report(after, report) => {
                    self.push(after, host, Event::Report { life, report: Box::new(report) });
                }
                Told::Ends(after, number) => self.push(after, host, Event::JobEnds { number }),
                Told::Probe(after, generation) => self.push(after, host, Event::Probe { life, generation }),
                Told::Befalls(after, fault) => self.push(after, host, Event::Befalls { fault }),
            }
        }
    }

    pub(super) fn set_timer(&mut self, host: usize) {
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
        Input::Stopping | Input::DiskFull => "stops",
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only probes are too long to show")]
fn brief(report: &HostReport) -> String {
    match report {
        HostReport::ProbeRan { run, .. } => format!("probe {} {:?}", run.probe_name, run.status),
        _ => format!("{report:?}"),
    }
}
