//! Hosts that lie about themselves.

use std::rc::Rc;

use muster_core::node::Topic;

use super::World;
#[cfg(feature = "planted")]
use crate::fault::Fault;
use crate::parcel::Parcel;
use crate::random::Random;

#[cfg(feature = "planted")]
impl World {
    /// Draws who lies, and how: hosts that do not coordinate.
    pub(crate) fn choose_lying_hosts(&mut self, coordinators: usize, random: &mut Random) {
        use muster_core::planted::Bug;
        const WAYS: [(Fault, Bug); 4] = [
            (Fault::LyingHealth, Bug::LieHealthy),
            (Fault::ForkedFeed, Bug::LieFork),
            (Fault::Flood, Bug::LieFlood),
            (Fault::FalsePresence, Bug::LiePresence),
        ];
        let plain: Vec<usize> = (coordinators..self.fleet.names().len()).collect();
        for (fault, bug) in WAYS {
            // Most of a fleet is honest, and a run in which a bug is looked for has no other.
            let lies = random.below(250) < self.faults.strength(fault);
            let Some(host) = random.pick(&plain).copied().filter(|_| lies) else { continue };
            if self.hosts[host].bug.is_none() {
                self.hosts[host].bug = Some(bug);
                self.hosts[host].lies = true;
                self.truth.lies(&self.hosts[host].name);
                self.faults.hit(fault);
            }
        }
    }

    /// Has a host lie from now on.
    pub fn make_lie(&mut self, host: &str, bug: muster_core::planted::Bug) {
        if let Some(number) = self.number(host) {
            self.hosts[number].bug = Some(bug);
            self.hosts[number].lies = true;
            let name = self.hosts[number].name.clone();
            self.truth.lies(&name);
        }
    }

    /// The other history that a host tells some of the others, if it tells two.
    pub(super) fn other_history(&self, host: usize, topic: Topic, bytes: &[u8]) -> Option<Rc<Parcel>> {
        use muster_core::planted::Bug;
        use muster_core::wire::{Envelope, codec};
        use muster_signing::{Purpose, Sealed, seal};
        if self.hosts[host].bug != Some(Bug::LieFork) || topic != Topic::Events {
            return None;
        }
        let sealed = Sealed::parse(bytes).ok()?;
        let mut envelope: Envelope = codec::decode("envelope", sealed.payload()).ok()?;
        envelope.at += chrono::TimeDelta::milliseconds(1);
        let key = self.fleet.hosts().get(&self.hosts[host].name)?;
        let other = seal(key, Purpose::Envelope, crate::fleet::FLEET, &codec::encode(&envelope));
        Some(Rc::new(Parcel::new(topic, other)))
    }
}

#[cfg(not(feature = "planted"))]
#[expect(clippy::unused_self, reason = "with the feature it asks who lies")]
impl World {
    pub(crate) fn choose_lying_hosts(&mut self, _coordinators: usize, _random: &mut Random) {}

    pub(super) fn other_history(&self, _host: usize, _topic: Topic, _bytes: &[u8]) -> Option<Rc<Parcel>> {
        None
    }
}
