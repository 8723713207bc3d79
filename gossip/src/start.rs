//! Puts the parts together and sets the task going.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use libp2p::Swarm;
use libp2p::swarm;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::behaviour::protocols;
use crate::config::{Config, Roster, StartError, address, bootstrap, check_fleet};
use crate::dialing::Dialer;
use crate::event::Events;
use crate::gossip::Topics;
use crate::identity::{host_key, keypair};
use crate::library::Library;
use crate::limits::{ASKS_MAX, COMMAND_BYTES_MAX, COMMANDS_MAX, EVENT_BYTES_MAX, EVENTS_MAX};
use crate::network::{Counts, Network};
use crate::queue::queue;
use crate::random::Random;
use crate::syncing::{Allowances, Pulls, Unanswered};
use crate::task::Task;
use crate::transport::transport;

/// Connections are kept for as long as they live: who may stay is the allow-list's matter, not idleness'.
const NEVER_IDLE: Duration = Duration::from_secs(u64::MAX);

/// Starts the network in the running tokio runtime, one task of which owns it from here on.
///
/// # Errors
///
/// When the configuration cannot be used or an address cannot be listened on.
pub fn start(config: Config, library: Arc<dyn Library>) -> Result<(Network, Events), StartError> {
    tokio::runtime::Handle::try_current().map_err(|_| StartError::NoRuntime)?;
    check_fleet(&config.fleet)?;
    let keypair = keypair(config.seed).ok_or(StartError::Seed)?;
    let peer = keypair.public().to_peer_id();
    let key = host_key(&peer).ok_or(StartError::Seed)?;
    let bootstrap = bootstrap(&config.bootstrap)?;
    let bootstrap_peers: BTreeSet<_> = bootstrap.keys().copied().filter(|known| *known != peer).collect();

    let topics = Topics::of(&config.fleet);
    let protocols = protocols(&config.fleet, &topics, config.publish, bootstrap_peers.clone())?;
    let settings =
        swarm::Config::with_tokio_executor().with_idle_connection_timeout(NEVER_IDLE).with_smart_dial();
    let mut swarm = Swarm::new(transport(&keypair)?, protocols, peer, settings);
    for text in &config.listen {
        swarm
            .listen_on(address(text)?)
            .map_err(|error| StartError::Listen { address: text.clone(), reason: innermost(&error) })?;
    }

    let (events_in, events) = queue(EVENTS_MAX, EVENT_BYTES_MAX);
    let (commands_in, commands) = queue(COMMANDS_MAX, COMMAND_BYTES_MAX);
    let (roster_in, roster) = watch::channel(Roster::default());
    let (stop_in, stop) = watch::channel(false);
    let (peers_out, peers) = watch::channel(Arc::new(Vec::new()));
    let (asks_in, asks) = mpsc::channel(ASKS_MAX);
    let counts = Arc::new(Counts::default());
    let task = Task {
        swarm,
        topics,
        publish: config.publish,
        sync_interval: config.sync_interval,
        library,
        events: events_in,
        commands,
        roster,
        stop,
        peers_out,
        counts: Arc::clone(&counts),
        dialer: Dialer::new(peer, bootstrap),
        bootstrap: bootstrap_peers,
        coordinators: BTreeSet::new(),
        enrolled: false,
        peers: BTreeMap::new(),
        guest_requests: BTreeMap::new(),
        unanswered: Unanswered::default(),
        pulls: Pulls::default(),
        allowances: Allowances::default(),
        asks_in,
        asks,
        sync_replies: BTreeMap::new(),
        enroll_replies: BTreeMap::new(),
        pulling: JoinSet::new(),
        answering: JoinSet::new(),
        random: Random::new(),
    };
    tokio::spawn(task.run());
    let network = Network {
        key,
        peer_id: peer.to_string(),
        commands: commands_in,
        roster: Arc::new(roster_in),
        stop: Arc::new(stop_in),
        peers,
        counts,
    };
    Ok((network, Events(events)))
}

/// The system's own words: the layers above it add none.
fn innermost(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    let words = innermost.to_string();
    if words.is_empty() { format!("{error:?}") } else { words }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::event::{Event, Topic};
    use crate::identity::HostKey;
    use crate::library::{FeedHead, Head, Section, Summary};
    use crate::network::Command;

    struct Nothing;

    impl Library for Nothing {
        fn summary(&self) -> Summary {
            Summary::default()
        }

        fn heads(&self, _: Section, _: u8) -> Vec<Head> {
            Vec::new()
        }

        fn item(&self, _: Section, _: &[u8; 32]) -> Option<Vec<u8>> {
            None
        }

        fn feed_heads(&self, _: u8) -> Vec<FeedHead> {
            Vec::new()
        }

        fn feed(&self, _: &HostKey, _: u64, _: u64, _: u64, _: usize) -> Vec<Vec<u8>> {
            Vec::new()
        }

        fn fleet_documents(&self) -> Vec<Vec<u8>> {
            Vec::new()
        }
    }

    async fn meshed(network: &Network, topics: usize) {
        let mut peers = network.watch_peers();
        let peers = peers.wait_for(|peers| peers.iter().any(|peer| peer.connected && peer.meshed == topics));
        tokio::time::timeout(Duration::from_secs(60), peers).await.unwrap().unwrap();
    }

    /// A peer that left may be grafted again only after a pause, and then only the heartbeat does it: nothing else
    /// happens between two hosts that have nothing to say.
    #[tokio::test]
    async fn idle_mesh_still_grafts() {
        let (mut networks, mut roster) = (Vec::new(), Roster::default());
        for seed in [1, 2] {
            let mut config = Config::new("home", [seed; 32]);
            config.listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".to_owned()];
            config.sync_interval = Duration::from_secs(3600);
            let (network, mut events) = start(config, Arc::new(Nothing)).unwrap();
            let Some(Event::Listening { address }) = events.recv().await else {
                panic!("listening comes first")
            };
            roster.members.insert(network.key(), vec![address]);
            networks.push((network, events));
        }
        networks.iter().for_each(|(network, _)| network.set_roster(roster.clone()));
        let (network, _) = &networks[0];
        meshed(network, Topic::ALL.len()).await;
        network.order(Command::Rejoin, 0);
        meshed(network, 0).await;
        meshed(network, Topic::ALL.len()).await;
    }

    #[test]
    fn network_without_a_runtime_is_refused() {
        assert!(matches!(start(Config::new("home", [1; 32]), Arc::new(Nothing)), Err(StartError::NoRuntime)));
    }

    #[tokio::test]
    async fn address_that_is_taken_is_named() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = Config::new("home", [1; 32]);
        config.listen = vec![format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().unwrap().port())];
        let Err(StartError::Listen { address, reason }) = start(config.clone(), Arc::new(Nothing)) else {
            panic!("the address is taken")
        };
        assert_eq!(address, config.listen[0]);
        assert!(reason.contains("in use"), "{reason}");
    }
}
