//! Whom to dial, and when to try again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};

use crate::limits::{
    BACKOFF_MAX, BACKOFF_MIN, COORDINATORS_KEPT, ENROLL_BACKOFF_MAX, PEERS_KEPT_MAX, PEERS_KEPT_MIN,
    SMALL_FLEET,
};
use crate::random::Random;

/// Decides whom to dial: coordinators, a dozen other members, and bootstrap peers while nobody else is there.
#[derive(Debug)]
pub(crate) struct Dialer {
    own: PeerId,
    members: BTreeMap<PeerId, Vec<Multiaddr>>,
    coordinators: BTreeSet<PeerId>,
    bootstrap: BTreeMap<PeerId, Vec<Multiaddr>>,
    /// Members that this node tries to keep a connection with.
    kept: BTreeSet<PeerId>,
    connected: BTreeSet<PeerId>,
    attempts: BTreeMap<PeerId, Attempts>,
    random: Random,
}

#[derive(Debug, Clone, Copy)]
struct Attempts {
    failed: u32,
    next: Instant,
    dialing: bool,
    /// Whether the peer has answered in this connection: it knows this node as a member.
    proven: bool,
}

impl Dialer {
    pub(crate) fn new(own: PeerId, bootstrap: BTreeMap<PeerId, Vec<Multiaddr>>) -> Self {
        Self {
            own,
            members: BTreeMap::new(),
            coordinators: BTreeSet::new(),
            bootstrap,
            kept: BTreeSet::new(),
            connected: BTreeSet::new(),
            attempts: BTreeMap::new(),
            random: Random::new(),
        }
    }

    /// Replaces the members; everybody new may be dialled at once.
    pub(crate) fn set_members(
        &mut self,
        mut members: BTreeMap<PeerId, Vec<Multiaddr>>,
        coordinators: BTreeSet<PeerId>,
    ) {
        members.remove(&self.own);
        for (peer, addresses) in &members {
            if self.members.get(peer) != Some(addresses) {
                self.attempts.remove(peer);
            }
        }
        self.attempts.retain(|peer, _| members.contains_key(peer) || self.bootstrap.contains_key(peer));
        self.connected.retain(|peer| members.contains_key(peer));
        self.kept.retain(|peer| members.contains_key(peer));
        (self.members, self.coordinators) = (members, coordinators);
    }

    /// The peers to dial now, with their addresses.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<(PeerId, Vec<Multiaddr>)> {
        self.choose();
        let mut wanted: Vec<PeerId> = self.kept.difference(&self.connected).copied().collect();
        if self.connected.is_empty() {
            wanted.extend(self.bootstrap.keys().filter(|peer| !self.kept.contains(*peer)));
        }
        wanted.retain(|peer| *peer != self.own);
        let mut due = Vec::new();
        for peer in wanted {
            let addresses = self.addresses(&peer);
            let attempts = self.attempts(peer, now);
            if !addresses.is_empty() && !attempts.dialing && attempts.next <= now {
                attempts.dialing = true;
                due.push((peer, addresses));
            }
        }
        due
    }

    /// Notes a connection with a member, whoever dialled.
    pub(crate) fn up(&mut self, peer: PeerId, now: Instant) {
        self.attempts(peer, now).dialing = false;
        if self.members.contains_key(&peer) {
            self.connected.insert(peer);
        }
    }

    /// Notes that a member answered a request: the connection is good, and its loss is worth an immediate dial.
    pub(crate) fn proven(&mut self, peer: PeerId, now: Instant) {
        let attempts = self.attempts(peer, now);
        (attempts.failed, attempts.proven) = (0, true);
    }

    /// Notes that the last connection with a peer is gone.
    pub(crate) fn down(&mut self, peer: PeerId, now: Instant) {
        self.connected.remove(&peer);
        let attempts = self.attempts(peer, now);
        if std::mem::take(&mut attempts.proven) {
            (attempts.failed, attempts.next, attempts.dialing) = (0, now, false);
        } else {
            self.failed(peer, now);
        }
    }

    /// Notes that a dial failed.
    pub(crate) fn failed(&mut self, peer: PeerId, now: Instant) {
        let max = if self.members.is_empty() { ENROLL_BACKOFF_MAX } else { BACKOFF_MAX };
        let failed = self.attempts.get(&peer).map_or(0, |attempts| attempts.failed);
        let pause = self.random.jitter(backoff(failed, max));
        let attempts = self.attempts(peer, now);
        (attempts.failed, attempts.next, attempts.dialing) = (failed.saturating_add(1), now + pause, false);
    }

    /// The members that are to be connected and are not.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &PeerId> {
        self.kept.difference(&self.connected)
    }

    fn attempts(&mut self, peer: PeerId, now: Instant) -> &mut Attempts {
        let fresh = Attempts { failed: 0, next: now, dialing: false, proven: false };
        self.attempts.entry(peer).or_insert(fresh)
    }

    fn addresses(&self, peer: &PeerId) -> Vec<Multiaddr> {
        let known = [self.members.get(peer), self.bootstrap.get(peer)];
        let all: BTreeSet<&Multiaddr> = known.into_iter().flatten().flatten().collect();
        all.into_iter().cloned().collect()
    }

    /// Settles which members to keep a connection with.
    fn choose(&mut self) {
        let others = self.members.keys().filter(|peer| !self.coordinators.contains(*peer)).count();
        let is_coordinator = self.coordinators.contains(&self.own);
        if is_coordinator || self.members.len() <= SMALL_FLEET {
            self.kept.extend(self.coordinators.iter().filter(|peer| **peer != self.own));
        } else {
            self.fill(COORDINATORS_KEPT, COORDINATORS_KEPT, |dialer, peer| {
                dialer.coordinators.contains(peer)
            });
        }
        let all = others <= PEERS_KEPT_MAX;
        let least = if all { others } else { PEERS_KEPT_MIN };
        self.fill(least, PEERS_KEPT_MAX, |dialer, peer| !dialer.coordinators.contains(peer));
    }

    /// Adds random members of a kind until `most` are kept, once fewer than `least` are kept or connected.
    ///
    /// Who cannot be reached gives up its place to another.
    fn fill(&mut self, least: usize, most: usize, is_kind: impl Fn(&Self, &PeerId) -> bool) {
        let of_kind = |peer: &&PeerId| is_kind(self, peer);
        let connected = self.connected.iter().filter(of_kind).count();
        let pool = self.members.keys().filter(of_kind).count();
        let useful = |peer: &&PeerId| {
            self.connected.contains(*peer)
                || self.attempts.get(*peer).is_none_or(|attempts| attempts.failed < GIVE_UP_AFTER)
        };
        let lost: Vec<PeerId> =
            self.kept.iter().filter(of_kind).filter(|peer| pool > most && !useful(peer)).copied().collect();
        let kept = self.kept.iter().filter(of_kind).count() - lost.len();
        if connected.max(kept) >= least && lost.is_empty() {
            return;
        }
        let free = self.members.keys().filter(of_kind).filter(|peer| !self.kept.contains(*peer));
        let mut free: Vec<PeerId> = free.copied().collect();
        let room = most.saturating_sub(connected.max(kept));
        let chosen = self.random.take(&mut free, room);
        for peer in &lost {
            self.kept.remove(peer);
        }
        self.kept.extend(chosen);
    }
}

/// Failed dials after which a random member of a large fleet is exchanged for another.
const GIVE_UP_AFTER: u32 = 4;

/// The pause after so many failures in a row.
fn backoff(failed: u32, max: Duration) -> Duration {
    BACKOFF_MIN.saturating_mul(1 << failed.min(16)).min(max)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::identity::keypair;

    fn peer(seed: u16) -> PeerId {
        let mut bytes = [1; 32];
        bytes[..2].copy_from_slice(&seed.to_be_bytes());
        keypair(bytes).unwrap().public().to_peer_id()
    }

    fn fleet(size: u16, coordinators: u16) -> (BTreeMap<PeerId, Vec<Multiaddr>>, BTreeSet<PeerId>) {
        let address: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        let members = (0..size).map(|seed| (peer(seed), vec![address.clone()])).collect();
        (members, (0..coordinators).map(peer).collect())
    }

    fn dialer(own: u16, size: u16, coordinators: u16) -> Dialer {
        let mut dialer = Dialer::new(peer(own), BTreeMap::new());
        let (members, coordinators) = fleet(size, coordinators);
        dialer.set_members(members, coordinators);
        dialer
    }

    #[test]
    fn fleets_are_dialled_by_their_size() {
        let now = Instant::now();
        for (own, size, coordinators, dialled) in [
            (0, 5, 3, 4),        // a small fleet: everybody
            (9, 12, 3, 11),      // still everybody
            (9, 40, 3, 3 + 12),  // all coordinators and a dozen others
            (0, 100, 3, 2 + 12), // a coordinator of a large fleet: all coordinators
            (9, 100, 3, 2 + 12), // a host of a large fleet: a few of them
            (9, 100, 7, 2 + 12),
        ] {
            let due = dialer(own, size, coordinators).due(now);
            assert_eq!(due.len(), dialled, "host {own} of {size} with {coordinators} coordinators");
            assert!(due.iter().all(|(to, _)| *to != peer(own)), "nobody dials itself");
        }
    }

    #[test]
    fn failed_dial_is_tried_again_later_and_later() {
        let mut now = Instant::now();
        let mut dialer = dialer(0, 2, 1);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert_eq!(dialer.due(now).len(), 1);
            assert!(dialer.due(now).is_empty(), "one dial at a time");
            dialer.failed(peer(1), now);
            let from = now;
            while dialer.due(now).is_empty() {
                now += Duration::from_millis(50);
            }
            pauses.push(now - from);
            dialer.attempts(peer(1), now).dialing = false;
        }
        assert!(pauses[0] <= BACKOFF_MIN * 2, "{pauses:?}");
        assert!(pauses[11] >= BACKOFF_MAX * 7 / 10 && pauses[11] <= BACKOFF_MAX * 13 / 10, "{pauses:?}");
    }

    #[test]
    fn lost_peer_that_had_answered_is_dialled_at_once() {
        let now = Instant::now();
        let mut dialer = dialer(0, 2, 2);
        assert_eq!(dialer.due(now).len(), 1);
        dialer.up(peer(1), now);
        assert!(dialer.due(now).is_empty());
        dialer.proven(peer(1), now);
        dialer.down(peer(1), now);
        assert_eq!(dialer.due(now).len(), 1);
        dialer.up(peer(1), now);
        dialer.down(peer(1), now);
        assert!(dialer.due(now).is_empty(), "it had not answered: it may not know this node");
    }

    #[test]
    fn unreachable_members_of_a_large_fleet_give_way_to_others() {
        let mut now = Instant::now();
        let mut dialer = dialer(9, 100, 3);
        let mut tried = BTreeSet::new();
        for _ in 0..400 {
            for (to, _) in dialer.due(now) {
                tried.insert(to);
                dialer.failed(to, now);
            }
            now += Duration::from_secs(10);
        }
        assert!(tried.len() > 90, "tried {}", tried.len());
    }

    #[test]
    fn bootstrap_peers_are_dialled_while_nobody_else_is_there() {
        let now = Instant::now();
        let address: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        let mut dialer = Dialer::new(peer(0), BTreeMap::from([(peer(500), vec![address])]));
        assert_eq!(dialer.due(now).len(), 1);
        dialer.failed(peer(500), now);
        let (members, coordinators) = fleet(2, 1);
        dialer.set_members(members, coordinators);
        dialer.up(peer(1), now);
        assert!(dialer.due(now + BACKOFF_MAX * 2).is_empty());
    }
}
