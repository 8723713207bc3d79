//! What the network tells the node, and the handle on what it tells.

use std::time::Duration;

use libp2p::PeerId;

use crate::identity::HostKey;
use crate::queue::Receiver;

/// What is gossiped; each is a topic `/muster/<fleet>/<name>/1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Documents that operators signed.
    Documents,
    /// Certified decisions, proofs of objections and of lies.
    Decisions,
    /// Envelopes of the hosts' feeds.
    Events,
    /// Heartbeats and marks.
    Presence,
}

impl Topic {
    /// Every topic.
    pub const ALL: [Self; 4] = [Self::Documents, Self::Decisions, Self::Events, Self::Presence];

    /// The topic's name within the fleet.
    pub fn name(self) -> &'static str {
        match self {
            Self::Documents => "documents",
            Self::Decisions => "decisions",
            Self::Events => "events",
            Self::Presence => "presence",
        }
    }
}

/// What the node found about a gossiped message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Valid and new: it is forwarded.
    Accept,
    /// Stale or not understood: it is not forwarded, and nobody is to blame.
    Ignore,
    /// Provably false: it is not forwarded, and the peer that forwarded it loses score.
    Reject,
}

/// Names a gossiped message for its verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageRef {
    pub(crate) id: [u8; 32],
    pub(crate) from: PeerId,
}

impl MessageRef {
    /// The message's identity: SHA-256 of its bytes.
    pub fn id(&self) -> &[u8; 32] {
        &self.id
    }
}

/// A thing that sync brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A document with its signatures, as it was stored by the peer.
    Document(Vec<u8>),
    /// A certified decision.
    Decision(Vec<u8>),
    /// A proof of an objection or a lie.
    Proof(Vec<u8>),
    /// An envelope of a host's feed.
    Envelope(Vec<u8>),
    /// What a host said outside its feed.
    Notice(Vec<u8>),
}

impl Item {
    /// The item's bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Document(bytes)
            | Self::Decision(bytes)
            | Self::Proof(bytes)
            | Self::Envelope(bytes)
            | Self::Notice(bytes) => bytes,
        }
    }
}

/// Who began a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The peer.
    Inbound,
    /// This node.
    Outbound,
}

/// What is known of a connected member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// Its host key.
    pub key: HostKey,
    /// Its peer id, as text.
    pub peer_id: String,
    /// Whether there is a connection now.
    pub connected: bool,
    /// `quic` or `tcp`; none while it is not connected.
    pub transport: Option<&'static str>,
    /// The address of the oldest connection.
    pub address: Option<String>,
    /// The newest measured round trip.
    pub round_trip: Option<Duration>,
    /// Who began the oldest connection.
    pub direction: Option<Direction>,
    /// In how many topics' meshes it is: those whose messages are forwarded to it at once.
    pub meshed: usize,
}

/// What the network tells the node. Bytes are a peer's and not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A gossiped message; it is forwarded only when [`crate::Network::verdict`] accepts it within seconds.
    Message {
        /// Where it was gossiped.
        topic: Topic,
        /// The member that forwarded it, which need not be its author.
        from: HostKey,
        /// For the verdict.
        reference: MessageRef,
        /// The message.
        bytes: Vec<u8>,
    },
    /// A message of the replicated log, from a coordinator.
    Log {
        /// The coordinator at the other end of the connection.
        from: HostKey,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Part of what a pull brought, in causal order; the last part of every pull is empty.
    Synced {
        /// The peer that was asked.
        from: HostKey,
        /// What it sent.
        items: Vec<Item>,
        /// Whether this ends the pull with nothing left to ask for.
        complete: bool,
    },
    /// A member is connected.
    PeerUp {
        /// Which.
        key: HostKey,
        /// At which address.
        address: String,
    },
    /// A member is no longer connected.
    PeerDown {
        /// Which.
        key: HostKey,
    },
    /// This node can be reached at an address.
    Listening {
        /// The address, without the peer id.
        address: String,
    },
    /// An address is no longer listened on.
    ListenFailed {
        /// Why, in words.
        reason: String,
    },
}

impl Event {
    /// What the event costs of the queue's bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Message { bytes, .. } | Self::Log { bytes, .. } => bytes.len(),
            Self::Synced { items, .. } => items.iter().map(|item| item.bytes().len()).sum(),
            Self::PeerUp { .. }
            | Self::PeerDown { .. }
            | Self::Listening { .. }
            | Self::ListenFailed { .. } => 0,
        }
    }

    /// Whether sync or the sender brings it again.
    pub(crate) fn is_expendable(&self) -> bool {
        matches!(self, Self::Message { .. } | Self::Log { .. } | Self::Synced { .. })
    }
}

/// The receiving end of what the network tells: bounded in events and in bytes.
#[derive(Debug)]
pub struct Events(pub(crate) Receiver<Event>);

impl Events {
    /// Waits for the next event; none after [`crate::Network::shutdown`]. Safe to cancel.
    pub async fn recv(&mut self) -> Option<Event> {
        self.0.recv().await
    }

    /// Takes the next event, if there is one.
    pub fn try_recv(&mut self) -> Option<Event> {
        self.0.try_recv()
    }
}
