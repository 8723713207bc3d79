//! Puts the parts together and sets the task going.

use std::collections::{BTreeMap, BTreeSet};
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
use crate::syncing::{Allowances, Pulls};
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
            .map_err(|error| StartError::Listen { address: text.clone(), reason: error.to_string() })?;
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
        leaving: BTreeSet::new(),
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
