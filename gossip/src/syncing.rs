//! Which pulls run, which wait, and how much each peer may take.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::request_response::InboundRequestId;

use crate::limits::{
    ANSWERS_MAX, ANSWERS_PER_PEER_MAX, PULLS_MAX, SYNC_BURST_BYTES, SYNC_BYTES_PER_SECOND,
    SYNC_REQUEST_COST_BYTES,
};
use crate::sync::pull::Protocol;

/// Pulls, at most one per peer and a few at once.
#[derive(Debug, Default)]
pub(crate) struct Pulls {
    waiting: VecDeque<PeerId>,
    running: Vec<PeerId>,
    /// Peers to pull from once more when their running pull ends: something was asked for since it began.
    again: Vec<PeerId>,
}

impl Pulls {
    /// Asks for a pull from a peer.
    pub(crate) fn request(&mut self, peer: PeerId) {
        if self.running.contains(&peer) {
            if !self.again.contains(&peer) {
                self.again.push(peer);
            }
        } else if !self.waiting.contains(&peer) {
            self.waiting.push_back(peer);
        }
    }

    /// Takes the next peer to pull from, if there is room for another pull.
    pub(crate) fn next(&mut self) -> Option<PeerId> {
        if self.running.len() >= PULLS_MAX {
            return None;
        }
        let peer = self.waiting.pop_front()?;
        self.running.push(peer);
        Some(peer)
    }

    /// Notes that a pull ended.
    pub(crate) fn ended(&mut self, peer: &PeerId) {
        self.running.retain(|running| running != peer);
        if let Some(place) = self.again.iter().position(|again| again == peer) {
            self.again.swap_remove(place);
            self.request(*peer);
        }
    }

    /// Forgets what was asked for from a peer that is gone.
    pub(crate) fn forget(&mut self, peer: &PeerId) {
        self.waiting.retain(|waiting| waiting != peer);
        self.again.retain(|again| again != peer);
    }
}

/// Sync and enrolment requests whose answers are not sent to the end: each may hold a whole frame.
#[derive(Debug, Default)]
pub(crate) struct Unanswered {
    sync: BTreeMap<InboundRequestId, PeerId>,
    enroll: BTreeMap<InboundRequestId, PeerId>,
}

impl Unanswered {
    /// Takes a request up, unless too many are.
    pub(crate) fn begin(&mut self, protocol: Protocol, id: InboundRequestId, peer: PeerId) -> bool {
        let all = self.of(protocol);
        let of_peer = all.values().filter(|asker| **asker == peer).count();
        let taken = all.len() < ANSWERS_MAX && of_peer < ANSWERS_PER_PEER_MAX;
        if taken {
            all.insert(id, peer);
        }
        taken
    }

    /// Notes that a request is over, whichever way.
    pub(crate) fn end(&mut self, protocol: Protocol, id: InboundRequestId) {
        self.of(protocol).remove(&id);
    }

    fn of(&mut self, protocol: Protocol) -> &mut BTreeMap<InboundRequestId, PeerId> {
        match protocol {
            Protocol::Sync => &mut self.sync,
            Protocol::Enroll => &mut self.enroll,
        }
    }
}

/// What each peer may still take of sync answers.
#[derive(Debug, Default)]
pub(crate) struct Allowances {
    of: BTreeMap<PeerId, (u64, Instant)>,
}

impl Allowances {
    /// Charges a peer for a request, or says how long it must wait.
    pub(crate) fn request(&mut self, peer: PeerId, now: Instant) -> Result<(), Duration> {
        let (left, since) = self.of.entry(peer).or_insert((SYNC_BURST_BYTES, now));
        let earned = now.saturating_duration_since(*since).as_millis() as u64 * SYNC_BYTES_PER_SECOND / 1000;
        if earned > 0 {
            (*left, *since) = (left.saturating_add(earned).min(SYNC_BURST_BYTES), now);
        }
        match left.checked_sub(SYNC_REQUEST_COST_BYTES) {
            Some(rest) => {
                *left = rest;
                Ok(())
            }
            None => Err(Duration::from_millis(1000 * SYNC_REQUEST_COST_BYTES / SYNC_BYTES_PER_SECOND + 250)),
        }
    }

    /// Charges a peer for an answer, which may leave it nothing.
    pub(crate) fn answered(&mut self, peer: &PeerId, bytes: usize) {
        if let Some((left, _)) = self.of.get_mut(peer) {
            *left = left.saturating_sub(bytes as u64);
        }
    }

    /// Forgets peers that are no longer in the roster; the others keep their debts when they reconnect.
    pub(crate) fn retain(&mut self, is_member: impl Fn(&PeerId) -> bool) {
        self.of.retain(|peer, _| is_member(peer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pull_per_peer_and_a_few_at_once() {
        let peers: Vec<_> = (0..5).map(|_| PeerId::random()).collect();
        let mut pulls = Pulls::default();
        for peer in peers.iter().chain(&peers) {
            pulls.request(*peer);
        }
        let running: Vec<_> = std::iter::from_fn(|| pulls.next()).collect();
        assert_eq!(running, peers[..PULLS_MAX]);
        pulls.request(peers[0]);
        pulls.forget(&peers[3]);
        pulls.ended(&peers[0]);
        assert_eq!(pulls.next(), Some(peers[4]), "the forgotten one is left out");
        pulls.ended(&peers[1]);
        assert_eq!(pulls.next(), Some(peers[0]), "asked for again while it ran");
        assert_eq!(pulls.next(), None);
    }

    #[test]
    fn peer_that_took_its_allowance_waits() {
        let (peer, now) = (PeerId::random(), Instant::now());
        let mut allowances = Allowances::default();
        assert_eq!(allowances.request(peer, now), Ok(()));
        allowances.answered(&peer, SYNC_BURST_BYTES as usize);
        let Err(wait) = allowances.request(peer, now) else { panic!("the allowance is spent") };
        assert_eq!(allowances.request(peer, now + wait), Ok(()));
    }
}
