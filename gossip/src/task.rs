//! The one task that owns the swarm: carries orders to it, events from it, and keeps connections up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use libp2p::request_response::{OutboundRequestId, ResponseChannel};
use libp2p::swarm::{
    ConnectionId, DialError, Swarm, SwarmEvent,
    dial_opts::{DialOpts, PeerCondition},
};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use crate::admission::Kind;
use crate::behaviour::{Protocols, ProtocolsEvent};
use crate::config::Roster;
use crate::dialing::Dialer;
use crate::event::{Direction, Event, PeerInfo};
use crate::gossip::Topics;
use crate::identity::{HostKey, address_of_member, host_key, peer_id, transport_of};
use crate::library::Library;
use crate::limits::{ADDRESSES_PER_MEMBER_MAX, MEMBERS_MAX, PARTING_TIME, PULSE};
use crate::network::{Command, Counts, count};
use crate::queue::{Receiver, Sender};
use crate::random::Random;
use crate::sync::enroll;
use crate::sync::pull::{Ask, Asker, PullError};
use crate::syncing::{Allowances, Pulls, Unanswered};

/// An answer that is ready to be sent.
pub(crate) struct Ready {
    pub(crate) peer: PeerId,
    pub(crate) connection: ConnectionId,
    pub(crate) channel: ResponseChannel<Vec<u8>>,
    pub(crate) answer: Vec<u8>,
    /// For a guest: whether there is nothing more to tell it.
    pub(crate) last: bool,
}

/// A connected member.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    pub(crate) key: HostKey,
    /// Addresses, oldest connection first.
    pub(crate) connections: BTreeMap<ConnectionId, (Multiaddr, Direction)>,
    pub(crate) round_trip: Option<Duration>,
    pub(crate) logs_in_flight: usize,
    pub(crate) meshed: usize,
}

/// The swarm and all that belongs to it.
pub(crate) struct Task {
    pub(crate) swarm: Swarm<Protocols>,
    pub(crate) topics: Topics,
    pub(crate) publish: bool,
    pub(crate) sync_interval: Duration,
    pub(crate) library: Arc<dyn Library>,
    pub(crate) events: Sender<Event>,
    pub(crate) commands: Receiver<Command>,
    pub(crate) roster: watch::Receiver<Roster>,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) peers_out: watch::Sender<Arc<Vec<PeerInfo>>>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) dialer: Dialer,
    pub(crate) bootstrap: BTreeSet<PeerId>,
    pub(crate) coordinators: BTreeSet<PeerId>,
    pub(crate) enrolled: bool,
    pub(crate) peers: BTreeMap<PeerId, Peer>,
    pub(crate) guest_requests: BTreeMap<ConnectionId, usize>,
    pub(crate) unanswered: Unanswered,
    pub(crate) pulls: Pulls,
    pub(crate) allowances: Allowances,
    pub(crate) asks_in: mpsc::Sender<Ask>,
    pub(crate) asks: mpsc::Receiver<Ask>,
    pub(crate) sync_replies: BTreeMap<OutboundRequestId, oneshot::Sender<Vec<u8>>>,
    pub(crate) enroll_replies: BTreeMap<OutboundRequestId, oneshot::Sender<Vec<u8>>>,
    pub(crate) pulling: JoinSet<(PeerId, Option<ConnectionId>, Result<(), PullError>)>,
    pub(crate) answering: JoinSet<Option<Ready>>,
    pub(crate) random: Random,
}

impl Task {
    /// Runs until it is told to stop, or nobody reads the events any more.
    pub(crate) async fn run(mut self) {
        let mut pulse = interval(PULSE);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_sync = tokio::time::Instant::now() + self.random.jitter(self.sync_interval);
        loop {
            // Orders come first: a node that must be cut off is cut off before its next message is read.
            tokio::select! {
                biased;
                stopped = self.stop.changed() => {
                    if stopped.is_err() || *self.stop.borrow() {
                        break;
                    }
                }
                changed = self.roster.changed() => match changed {
                    Ok(()) => self.on_roster(),
                    Err(_) => break,
                },
                command = self.commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => break,
                },
                Some(ready) = self.answering.join_next() => self.on_ready(ready.ok().flatten()),
                Some(pulled) = self.pulling.join_next() => self.on_pulled(pulled.ok()),
                Some(ask) = self.asks.recv() => self.on_ask(ask),
                _ = pulse.tick() => self.on_pulse(),
                () = sleep_until(next_sync) => {
                    next_sync = tokio::time::Instant::now() + self.random.jitter(self.sync_interval);
                    self.sync_with_random();
                }
                event = self.swarm.select_next_some() => self.on_event(event),
            }
            self.start_pulls();
        }
        self.part().await;
        self.events.close();
    }

    /// Closes every connection, so that peers need not find out by silence.
    async fn part(&mut self) {
        self.pulling.shutdown().await;
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            // An error says that the connection is closed already.
            let _closed = self.swarm.disconnect_peer_id(peer);
        }
        let closed = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        if tokio::time::timeout(PARTING_TIME, closed).await.is_err() {
            tracing::debug!("some connections did not close in time");
        }
    }

    fn on_roster(&mut self) {
        let roster = self.roster.borrow_and_update().clone();
        let mut members = BTreeMap::new();
        for (key, addresses) in roster.members.iter().take(MEMBERS_MAX) {
            if let Some(peer) = peer_id(key) {
                let addresses = addresses.iter().filter_map(|address| address_of_member(address, &peer));
                members.insert(peer, addresses.take(ADDRESSES_PER_MEMBER_MAX).collect::<Vec<_>>());
            }
        }
        let coordinators: BTreeSet<_> = roster.coordinators.iter().filter_map(peer_id).collect();
        let keys = members.keys().copied().collect();
        self.enrolled = !members.is_empty();
        self.coordinators.clone_from(&coordinators);
        self.allowances.retain(|peer| members.contains_key(peer));
        self.swarm.behaviour_mut().members.set_members(keys, coordinators.clone());
        self.dialer.set_members(members, coordinators);
        self.dial();
        self.tell_peers();
    }

    fn on_pulse(&mut self) {
        self.swarm.behaviour_mut().members.expire(Instant::now());
        self.dial();
        self.note_mesh();
    }

    /// Notes who is in the meshes, and says so when it changed.
    fn note_mesh(&mut self) {
        let mesh = &self.swarm.behaviour().members.inner().mesh;
        let mut meshed: BTreeMap<PeerId, usize> = BTreeMap::new();
        for topic in self.topics.all() {
            mesh.mesh_peers(&topic.hash()).for_each(|peer| *meshed.entry(*peer).or_default() += 1);
        }
        let mut changed = false;
        for (peer, known) in &mut self.peers {
            let now = meshed.get(peer).copied().unwrap_or_default();
            changed |= std::mem::replace(&mut known.meshed, now) != now;
        }
        if changed {
            self.tell_peers();
        }
    }

    /// Dials whoever is due.
    pub(crate) fn dial(&mut self) {
        let now = Instant::now();
        for (peer, addresses) in self.dialer.due(now) {
            let options = DialOpts::peer_id(peer)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .addresses(addresses)
                .build();
            match self.swarm.dial(options) {
                Ok(()) => {}
                Err(error) => {
                    tracing::debug!(%peer, %error, "cannot dial");
                    self.dialer.failed(peer, now);
                }
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "libp2p's enum grows, and the rest is of no use here")]
    fn on_event(&mut self, event: SwarmEvent<ProtocolsEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_protocol(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                let direction = if endpoint.is_dialer() { Direction::Outbound } else { Direction::Inbound };
                self.on_established(peer_id, connection_id, endpoint.get_remote_address().clone(), direction);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, cause, .. } => {
                tracing::debug!(peer = %peer_id, ?cause, "connection closed");
                self.on_closed(peer_id, connection_id, num_established);
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                tracing::debug!(%peer, %error, "dial failed");
                if !matches!(error, DialError::DialPeerConditionFalse(_)) && !self.swarm.is_connected(&peer) {
                    self.dialer.failed(peer, Instant::now());
                }
            }
            SwarmEvent::IncomingConnectionError { error, .. } => {
                tracing::debug!(%error, "refused or failed to accept a connection");
                if matches!(error, libp2p::swarm::ListenError::Denied { .. }) {
                    count(&self.counts.strangers);
                }
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                self.tell(Event::Listening { address: address.to_string() });
            }
            SwarmEvent::ListenerClosed { reason: Err(error), .. }
            | SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "listening failed");
                self.tell(Event::ListenFailed { reason: error.to_string() });
            }
            _ => {}
        }
    }

    fn on_established(&mut self, peer: PeerId, id: ConnectionId, address: Multiaddr, direction: Direction) {
        let Some(key) = host_key(&peer) else { return };
        self.dialer.up(peer, Instant::now());
        match self.swarm.behaviour().members.kind(id) {
            Some(Kind::Member) => {
                let known = self.peers.entry(peer).or_default();
                let first = known.connections.is_empty();
                known.key = key;
                known.connections.insert(id, (address.clone(), direction));
                if first {
                    self.tell(Event::PeerUp { key, address: address.to_string() });
                    self.pulls.request(peer);
                }
                self.tell_peers();
            }
            Some(Kind::Guest(_)) => {
                count(&self.counts.strangers);
                // Only bootstrap peers are asked, whoever dialled; anybody else is here to ask.
                if self.bootstrap.contains(&peer) && (!self.enrolled || direction == Direction::Outbound) {
                    let asker = Asker::new(peer, self.asks_in.clone());
                    let events = self.events.clone();
                    self.pulling
                        .spawn(async move { (peer, Some(id), enroll::run(key, asker, events).await) });
                }
            }
            None => {}
        }
    }

    fn on_closed(&mut self, peer: PeerId, id: ConnectionId, left: u32) {
        self.guest_requests.remove(&id);
        let was_member = match self.peers.get_mut(&peer) {
            Some(known) => known.connections.remove(&id).is_some() && known.connections.is_empty(),
            None => false,
        };
        if was_member {
            self.peers.remove(&peer);
            self.pulls.forget(&peer);
            if let Some(key) = host_key(&peer) {
                self.tell(Event::PeerDown { key });
            }
        }
        if left == 0 {
            self.dialer.down(peer, Instant::now());
            self.dial();
        }
        self.tell_peers();
    }

    /// Tells the node what it must not miss.
    pub(crate) fn tell(&self, event: Event) {
        self.events.force(event, Event::is_expendable);
    }

    /// Tells the node what comes again if there is no room for it now.
    pub(crate) fn offer(&self, event: Event) -> bool {
        let bytes = event.bytes();
        let taken = self.events.offer(event, bytes).is_ok();
        if !taken {
            count(&self.counts.events_dropped);
        }
        taken
    }

    /// Renews the snapshot of peers.
    pub(crate) fn tell_peers(&self) {
        let connected = self.peers.iter().map(|(id, peer)| {
            let oldest = peer.connections.values().next();
            PeerInfo {
                key: peer.key,
                peer_id: id.to_string(),
                connected: true,
                transport: oldest.map(|(address, _)| transport_of(address)),
                address: oldest.map(|(address, _)| address.to_string()),
                round_trip: peer.round_trip,
                direction: oldest.map(|(_, direction)| *direction),
                meshed: peer.meshed,
            }
        });
        let missing = self.dialer.missing().filter_map(|id| {
            let key = host_key(id)?;
            Some(PeerInfo {
                key,
                peer_id: id.to_string(),
                connected: false,
                transport: None,
                address: None,
                round_trip: None,
                direction: None,
                meshed: 0,
            })
        });
        self.peers_out.send_replace(Arc::new(connected.chain(missing).collect()));
    }
}
