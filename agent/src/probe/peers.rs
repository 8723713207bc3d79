//! A probe that counts the members of the fleet that can be reached: the answer to a switch that cut the network.

use std::sync::Arc;

use muster_gossip::PeerInfo;
use serde::Deserialize;
use tokio::sync::watch;

/// The bounds of `min`.
const MIN: std::ops::RangeInclusive<u32> = 1..=10_000;

/// How many members must be connected.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peers {
    /// How many.
    pub min: u32,
}

impl Peers {
    /// Refuses a number that says nothing, or that no fleet can reach.
    pub fn checked(self) -> Result<Self, String> {
        if MIN.contains(&self.min) {
            return Ok(self);
        }
        Err(format!("`min`: {} is not in {} to {}", self.min, MIN.start(), MIN.end()))
    }

    /// Runs the probe; the error is why it fails.
    pub fn run(&self, peers: &watch::Receiver<Arc<Vec<PeerInfo>>>) -> Result<(), String> {
        let connected = peers.borrow().iter().filter(|peer| peer.connected).count();
        if u32::try_from(connected).is_ok_and(|connected| connected < self.min) {
            return Err(format!("{connected} members of the fleet can be reached, expected {}", self.min));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(connected: bool) -> PeerInfo {
        PeerInfo {
            key: [0; 32],
            peer_id: String::new(),
            connected,
            transport: None,
            address: None,
            round_trip: None,
            direction: None,
            meshed: 0,
        }
    }

    #[test]
    fn only_members_that_are_connected_now_count() {
        let (sender, receiver) = watch::channel(Arc::new(Vec::new()));
        for (peers, min, expected) in [
            (vec![], 1, Err("0 members of the fleet can be reached, expected 1")),
            (vec![peer(true)], 1, Ok(())),
            (vec![peer(true), peer(false)], 2, Err("1 members of the fleet can be reached, expected 2")),
            (vec![peer(true), peer(true), peer(true)], 2, Ok(())),
        ] {
            sender.send_replace(Arc::new(peers));
            assert_eq!(Peers { min }.run(&receiver), expected.map_err(str::to_owned));
        }
        for (min, good) in [(0, false), (1, true), (10_000, true), (10_001, false)] {
            assert_eq!(Peers { min }.checked().is_ok(), good, "{min}");
        }
    }
}
