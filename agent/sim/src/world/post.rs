//! The way of messages: gossip over whoever passes it on, direct ones between coordinators, and pulls.

use std::rc::Rc;
use std::time::Duration;

use muster_core::ledger::Table;
use muster_core::node::{CoordinatorMessage, Input, MessageRef, Topic};
use muster_core::wire::NoticeBody;

use super::{Event, World, micros};
use crate::disk::SYNCED;
use crate::fault::Fault;
use crate::host::Host;
use crate::parcel::Parcel;
use crate::random::Random;

/// The shortest and the longest way of a message, in microseconds.
pub(super) const WAY: (u64, u64) = (500, 3_000);
/// What a slow host adds to everything that it is told.
const SLOW: Duration = Duration::from_millis(400);

impl World {
    pub(super) fn gossip(&mut self, host: usize, topic: Topic, bytes: Vec<u8>) {
        self.trace.mix(self.now, host, &bytes);
        self.truth.published(self.now, host, topic, &bytes, &self.hosts);
        let other = self.other_history(host, topic, &bytes);
        let parcel = Rc::new(Parcel::new(topic, bytes));
        match topic {
            Topic::Presence => self.note_heard(host, &parcel),
            Topic::Documents | Topic::Decisions | Topic::Events => self.shelf.keep(&parcel),
        }
        if self.gossip_lost {
            return;
        }
        let whom = self.whom(host, &parcel);
        let message = Some(MessageRef(self.count));
        let hops = (!self.network.is_whole()).then(|| {
            let relays: Vec<bool> = self.hosts.iter().map(Host::is_up).collect();
            self.network.hops(host, &relays)
        });
        for to in 0..self.hosts.len() {
            let far = hops.as_ref().map_or(Some(1), |hops| hops[to]);
            let Some(far) = far.filter(|_| to != host && self.hosts[to].is_up()) else { continue };
            if self.hosts[to].deaf_until > self.now || !self.concerns(to, whom) {
                continue;
            }
            let told = other.as_ref().filter(|_| to % 2 == 1).unwrap_or(&parcel);
            for (after, parcel) in self.ways(far, told) {
                self.push(after, to, Event::Message { parcel, message });
            }
        }
    }

    pub(super) fn send(&mut self, host: usize, to: usize, message: CoordinatorMessage) {
        self.check_words(host, &message);
        if let CoordinatorMessage::Endorsement(endorsement) = &message {
            self.truth.endorsed(self.now, host, &endorsement.decision, &self.hosts);
        }
        if let CoordinatorMessage::Objection(notice) = &message {
            self.truth.objected(host, notice);
        }
        if !self.network.reaches(host, to) || !self.hosts[to].is_up() {
            return;
        }
        let message = Rc::new(message);
        for (after, message) in self.ways(1, &message) {
            self.push(after, to, Event::Direct { from: host, message });
        }
    }

    /// The ways that a message takes: none if it is lost, several if it is doubled; damaged ones are lost here too, or
    /// arrive as what they are.
    fn ways<T: Damage>(&mut self, hops: u64, what: &Rc<T>) -> Vec<(Duration, Rc<T>)> {
        let mut after = Duration::from_micros(hops * (WAY.0 + self.detour()));
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

    pub(super) fn arrived(&mut self, host: usize, parcel: &Rc<Parcel>, message: Option<MessageRef>) {
        let Some(node) = &self.hosts[host].node else { return };
        let Some(input) = parcel.read(node.ledger().roster(), message) else { return };
        if parcel.topic == Topic::Presence {
            self.note_heard_input(host, parcel, &input);
        }
        if self.lets_in(host, &input) {
            self.step(host, input);
        }
    }

    /// A host holds a heartbeat now that it can pass on by sync.
    pub(super) fn note_heard(&mut self, host: usize, parcel: &Rc<Parcel>) {
        let Some(node) = &self.hosts[host].node else { return };
        if let Some(input) = parcel.read(node.ledger().roster(), None) {
            self.note_heard_input(host, parcel, &input);
        }
    }

    pub(super) fn note_heard_input(&mut self, host: usize, parcel: &Rc<Parcel>, input: &Input) {
        let Input::Notice { notice, .. } = input else { return };
        if let NoticeBody::Presence(_) = &notice.content.body
            && let Some(of) = self.fleet.number(&notice.content.host)
        {
            let order = notice.content.order();
            let known = &mut self.hosts[host].heard[of];
            if known.as_ref().is_none_or(|(known, _)| *known < order) {
                *known = Some((order, Rc::clone(parcel)));
            }
        }
    }

    /// Pulls what another host has on its disk and this one has not.
    pub(super) fn sync(&mut self, host: usize, from: Option<usize>) {
        if !self.hosts[host].is_up() {
            return;
        }
        let peers: Vec<usize> = (0..self.hosts.len()).filter(|peer| self.is_linked(host, *peer)).collect();
        let picked = self.random.pick(&peers).copied();
        let Some(from) = from.filter(|from| self.is_linked(host, *from)).or(picked) else { return };
        let all = self.hears_all(host);
        let (to, of) = (&self.hosts[host], &self.hosts[from]);
        let (has, offers) = (to.shown(), of.shown());
        let mut found: Vec<Rc<Parcel>> = Vec::new();
        let topics = [Topic::Documents, Topic::Decisions, Topic::Events];
        for (at, (table, topic)) in SYNCED.iter().zip(topics).enumerate() {
            if has.sums()[at] != offers.sums()[at] && (all || *table == Table::Documents) {
                let missing = has.lacks(offers, *table);
                found.extend(missing.into_iter().map(|bytes| self.shelf.parcel(topic, bytes)));
            }
        }
        for (known, newer) in to.heard.iter().zip(&of.heard).filter(|_| all) {
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

    pub(super) fn is_linked(&self, a: usize, b: usize) -> bool {
        a != b && self.hosts[b].is_up() && self.network.reaches(a, b) && self.network.reaches(b, a)
    }

    pub(super) fn push(&mut self, after: Duration, host: usize, event: Event) {
        self.count += 1;
        let slow = if self.hosts[host].slow_until > self.now { SLOW } else { Duration::ZERO };
        self.queue.insert((self.now + micros(after + slow), self.count), (host, event));
    }
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
