//! The protocols that run over a connection: one for everybody, the others behind the allow-list.

use std::collections::BTreeSet;

use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::request_response::{Behaviour, Config, ProtocolSupport};
use libp2p::swarm::NetworkBehaviour;
use libp2p::{PeerId, StreamProtocol, gossipsub, ping};

use crate::admission::Admission;
use crate::codec::Bounded;
use crate::config::StartError;
use crate::gossip::{self, Topics};
use crate::limits::{
    FRAME_BYTES_MAX, HANDSHAKES_MAX, PING_INTERVAL, PING_TIMEOUT, REQUEST_BYTES_MAX, REQUEST_TIMEOUT,
    STREAMS_PER_PROTOCOL_MAX,
};

/// Everything. The order matters: who is refused by an earlier field is never seen by a later one.
#[derive(NetworkBehaviour)]
pub(crate) struct Protocols {
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) members: Admission<Members>,
    pub(crate) enroll: Behaviour<Bounded>,
}

/// What members alone speak.
#[derive(NetworkBehaviour)]
pub(crate) struct Members {
    pub(crate) mesh: gossipsub::Behaviour,
    pub(crate) sync: Behaviour<Bounded>,
    pub(crate) log: Behaviour<Bounded>,
    pub(crate) ping: ping::Behaviour,
}

/// Makes the protocols of a fleet.
pub(crate) fn protocols(
    fleet: &str,
    topics: &Topics,
    publish: bool,
    bootstrap: BTreeSet<PeerId>,
) -> Result<Protocols, StartError> {
    let members = Members {
        mesh: gossip::behaviour(topics, publish)?,
        sync: request_response(fleet, "sync", REQUEST_BYTES_MAX, FRAME_BYTES_MAX)?,
        log: request_response(fleet, "log", FRAME_BYTES_MAX, 0)?,
        ping: ping::Behaviour::new(
            ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT),
        ),
    };
    let limits = ConnectionLimits::default()
        .with_max_pending_incoming(u32::try_from(HANDSHAKES_MAX).ok())
        .with_max_pending_outgoing(u32::try_from(HANDSHAKES_MAX).ok());
    Ok(Protocols {
        limits: connection_limits::Behaviour::new(limits),
        members: Admission::new(members, bootstrap),
        enroll: request_response(fleet, "enroll", REQUEST_BYTES_MAX, FRAME_BYTES_MAX)?,
    })
}

fn request_response(
    fleet: &str,
    name: &str,
    request_max: usize,
    answer_max: usize,
) -> Result<Behaviour<Bounded>, StartError> {
    let protocol = StreamProtocol::try_from_owned(format!("/muster/{fleet}/{name}/1"))
        .map_err(|error| StartError::Setup(error.to_string()))?;
    let config = Config::default()
        .with_request_timeout(REQUEST_TIMEOUT)
        .with_max_concurrent_streams(STREAMS_PER_PROTOCOL_MAX);
    let codec = Bounded::new(request_max, answer_max);
    Ok(Behaviour::with_codec(codec, [(protocol, ProtocolSupport::Full)], config))
}
