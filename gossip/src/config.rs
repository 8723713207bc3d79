//! What the network is started with, and whom it lets in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};

use crate::identity::{HostKey, split};
use crate::limits::SYNC_INTERVAL;

/// How a node takes part in its fleet's network.
#[derive(Clone)]
pub struct Config {
    /// The fleet's name; it is part of every protocol's name, so fleets do not mix.
    pub fleet: String,
    /// The 32-byte ed25519 seed of the host key.
    pub seed: [u8; 32],
    /// Addresses to listen on, such as `/ip4/0.0.0.0/udp/7946/quic-v1` and `/ip4/0.0.0.0/tcp/7946`.
    pub listen: Vec<String>,
    /// Peers to ask for the first fleet document: addresses that end in `/p2p/<peer id>`.
    pub bootstrap: Vec<String>,
    /// Whether this node gossips; without, it lives by sync alone, which must suffice and is tested so.
    pub publish: bool,
    /// Pause between two pulls from random peers, jittered by a quarter.
    pub sync_interval: Duration,
}

impl Config {
    /// A node that listens nowhere and knows nobody yet.
    pub fn new(fleet: impl Into<String>, seed: [u8; 32]) -> Self {
        Self {
            fleet: fleet.into(),
            seed,
            listen: Vec::new(),
            bootstrap: Vec::new(),
            publish: true,
            sync_interval: SYNC_INTERVAL,
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("fleet", &self.fleet)
            .field("listen", &self.listen)
            .field("bootstrap", &self.bootstrap)
            .field("publish", &self.publish)
            .field("sync_interval", &self.sync_interval)
            .finish_non_exhaustive()
    }
}

/// The members of the newest accepted fleet document: who may connect.
///
/// Empty until there is a fleet document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    /// Each member's host key and the addresses it can be dialled at; this host is one of them.
    pub members: BTreeMap<HostKey, Vec<String>>,
    /// The members that are coordinators.
    pub coordinators: BTreeSet<HostKey>,
    /// The serial of the fleet document; an older roster does not replace a newer one.
    pub serial: u64,
}

/// Why the network could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No tokio runtime is running.
    #[error("the network must be started within a tokio runtime")]
    NoRuntime,
    /// A fleet's name becomes part of protocol names.
    #[error("fleet name {0:?} must be 1 to 128 bytes without '/', spaces or control characters")]
    FleetName(String),
    /// The seed makes no key.
    #[error("the host key's seed is not usable")]
    Seed,
    /// An address cannot be read.
    #[error("{address:?} is no multiaddress: {reason}")]
    Address {
        /// The address as configured.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A bootstrap address names no peer.
    #[error("bootstrap address {0:?} must end in /p2p/<peer id>")]
    BootstrapWithoutPeer(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address as configured.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// The transports or protocols refused their configuration.
    #[error("the network cannot be set up: {0}")]
    Setup(String),
}

/// The longest name of a fleet, in bytes.
const FLEET_NAME_BYTES_MAX: usize = 128;

/// Checks a fleet's name for use in protocol names.
pub(crate) fn check_fleet(fleet: &str) -> Result<(), StartError> {
    let fits = (1..=FLEET_NAME_BYTES_MAX).contains(&fleet.len());
    if fits && !fleet.chars().any(|c| c == '/' || c.is_whitespace() || c.is_control()) {
        Ok(())
    } else {
        Err(StartError::FleetName(fleet.to_owned()))
    }
}

/// Reads an address.
pub(crate) fn address(text: &str) -> Result<Multiaddr, StartError> {
    text.parse().map_err(|error: libp2p::multiaddr::Error| StartError::Address {
        address: text.to_owned(),
        reason: error.to_string(),
    })
}

/// Reads the bootstrap addresses, by peer.
pub(crate) fn bootstrap(texts: &[String]) -> Result<BTreeMap<PeerId, Vec<Multiaddr>>, StartError> {
    let mut peers: BTreeMap<PeerId, Vec<Multiaddr>> = BTreeMap::new();
    for text in texts {
        let (bare, peer) = split(&address(text)?);
        let peer = peer.ok_or_else(|| StartError::BootstrapWithoutPeer(text.clone()))?;
        peers.entry(peer).or_default().push(bare);
    }
    Ok(peers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fleet_name_must_fit_into_a_protocol_name() {
        for (name, good) in
            [("home", true), ("büro-2", true), ("", false), ("a/b", false), ("a b", false), ("a\n", false)]
        {
            assert_eq!(check_fleet(name).is_ok(), good, "{name:?}");
        }
        assert!(check_fleet(&"x".repeat(129)).is_err());
    }

    #[test]
    fn bootstrap_address_names_its_peer() {
        let bare = "/ip4/127.0.0.1/tcp/7946".to_owned();
        assert!(matches!(bootstrap(&[bare]), Err(StartError::BootstrapWithoutPeer(_))));
        assert!(matches!(bootstrap(&["nonsense".to_owned()]), Err(StartError::Address { .. })));
    }
}
