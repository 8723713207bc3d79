//! The gossip mesh's settings: topics, validation, score.

use std::time::Duration;

use libp2p::gossipsub::{
    self, Behaviour, ConfigBuilder, IdentTopic, MessageAuthenticity, MessageId, PeerScoreParams,
    PeerScoreThresholds, TopicHash, TopicScoreParams, ValidationMode,
};
use sha2::{Digest as _, Sha256};

use crate::config::StartError;
use crate::event::Topic;
use crate::limits::{
    DUPLICATES_REMEMBERED, GOSSIP_QUEUE_MAX, HEARTBEAT, MESH_PEERS, MESH_PEERS_HIGH, MESH_PEERS_LOW,
    MESSAGE_BYTES_MAX, REJECTS_HALF_LIFE_SECS, REJECTS_MAX,
};

/// Bytes that the mesh's framing of one message can take.
const FRAMING_BYTES: usize = 4 * 1024;

/// Heartbeats for which a message is kept: the time for its verdict, and for peers that missed it to ask.
const HISTORY_HEARTBEATS: usize = 6;

/// How long a peer that left a topic, as an agent does when it restarts, is not grafted again.
const REJOIN_PAUSE: Duration = Duration::from_secs(2);

/// A fleet's topics.
#[derive(Debug, Clone)]
pub(crate) struct Topics {
    all: [(Topic, IdentTopic); 4],
}

impl Topics {
    pub(crate) fn of(fleet: &str) -> Self {
        Self {
            all: Topic::ALL
                .map(|topic| (topic, IdentTopic::new(format!("/muster/{fleet}/{}/1", topic.name())))),
        }
    }

    pub(crate) fn hash(&self, topic: Topic) -> TopicHash {
        let [documents, decisions, events, presence] = &self.all;
        let (_, name) = match topic {
            Topic::Documents => documents,
            Topic::Decisions => decisions,
            Topic::Events => events,
            Topic::Presence => presence,
        };
        name.hash()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &IdentTopic> {
        self.all.iter().map(|(_, name)| name)
    }

    pub(crate) fn find(&self, hash: &TopicHash) -> Option<Topic> {
        self.all.iter().find(|(_, name)| name.hash() == *hash).map(|(topic, _)| *topic)
    }
}

/// Makes the mesh, subscribed to every topic when this node gossips at all.
pub(crate) fn behaviour(topics: &Topics, publish: bool) -> Result<Behaviour, StartError> {
    let refused = |reason: String| StartError::Setup(reason);
    // Envelopes, documents and decisions are signed themselves, and the node's verdict verifies them once; signed mode
    // would verify every duplicate before dropping it.
    let config = ConfigBuilder::default()
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|message| MessageId::new(&Sha256::digest(&message.data)))
        .max_transmit_size(MESSAGE_BYTES_MAX + FRAMING_BYTES)
        .duplicate_cache_time(DUPLICATES_REMEMBERED)
        .flood_publish(true)
        .heartbeat_interval(HEARTBEAT)
        .heartbeat_initial_delay(Duration::ZERO)
        .history_length(HISTORY_HEARTBEATS)
        .history_gossip(3)
        .mesh_n(MESH_PEERS)
        .mesh_n_low(MESH_PEERS_LOW)
        .mesh_n_high(MESH_PEERS_HIGH)
        .mesh_outbound_min(2)
        .prune_backoff(Duration::from_secs(10))
        .unsubscribe_backoff(REJOIN_PAUSE)
        .connection_handler_queue_len(GOSSIP_QUEUE_MAX)
        .build()
        .map_err(|error| refused(error.to_string()))?;
    let mut mesh =
        Behaviour::new(MessageAuthenticity::Anonymous, config).map_err(|error| refused(error.to_owned()))?;
    let (params, thresholds) = score(topics);
    mesh.with_peer_score(params, thresholds).map_err(refused)?;
    if publish {
        for topic in topics.all() {
            mesh.subscribe(topic).map_err(|error| refused(error.to_string()))?;
        }
    }
    Ok(mesh)
}

/// Only what the node rejected counts against a peer.
///
/// All members are known by key, so who is slow, shares an address or delivers little is no suspect, and loopback
/// fleets share one address.
fn score(topics: &Topics) -> (PeerScoreParams, PeerScoreThresholds) {
    let topic = TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.0,
        first_message_deliveries_weight: 0.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: -1.0,
        invalid_message_deliveries_decay: 0.5_f64.powf(1.0 / f64::from(REJECTS_HALF_LIFE_SECS)),
        ..TopicScoreParams::default()
    };
    let params = PeerScoreParams {
        topics: topics.all().map(|name| (name.hash(), topic.clone())).collect(),
        app_specific_weight: 0.0,
        ip_colocation_factor_weight: 0.0,
        behaviour_penalty_weight: 0.0,
        slow_peer_weight: 0.0,
        ..PeerScoreParams::default()
    };
    // The score is the negative square of the rejects: the peer is left out of the mesh's gossip half way, and no longer
    // heard at the limit.
    let limit = f64::from(REJECTS_MAX);
    let thresholds = PeerScoreThresholds {
        gossip_threshold: -(limit / 2.0).powi(2),
        publish_threshold: -limit.powi(2),
        graylist_threshold: -limit.powi(2),
        ..PeerScoreThresholds::default()
    };
    (params, thresholds)
}

/// The verdict in the mesh's words.
pub(crate) fn acceptance(verdict: crate::event::Verdict) -> gossipsub::MessageAcceptance {
    match verdict {
        crate::event::Verdict::Accept => gossipsub::MessageAcceptance::Accept,
        crate::event::Verdict::Ignore => gossipsub::MessageAcceptance::Ignore,
        crate::event::Verdict::Reject => gossipsub::MessageAcceptance::Reject,
    }
}
