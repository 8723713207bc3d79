//! How bytes travel: QUIC, and TCP with Noise and Yamux where UDP does not get through; names are resolved.

use libp2p::core::{muxing::StreamMuxerBox, transport::Boxed, upgrade::Version};
use libp2p::identity::Keypair;
use libp2p::{PeerId, Transport as _, dns, noise, quic, tcp, yamux};

use crate::config::StartError;
use crate::limits::{
    CONNECTION_WINDOW_BYTES, HANDSHAKE_TIMEOUT, QUIC_IDLE_TIMEOUT, QUIC_KEEP_ALIVE, STREAM_WINDOW_BYTES,
    STREAMS_MAX,
};

/// Makes the transport of a host key.
pub(crate) fn transport(keypair: &Keypair) -> Result<Boxed<(PeerId, StreamMuxerBox)>, StartError> {
    match dns::tokio::Transport::system(by_number(keypair)?) {
        Ok(transport) => Ok(transport.boxed()),
        Err(error) => {
            // A machine without a resolver's configuration still reaches peers by number.
            tracing::warn!(%error, "names in addresses cannot be resolved");
            by_number(keypair)
        }
    }
}

/// QUIC first, TCP second, without names.
fn by_number(keypair: &Keypair) -> Result<Boxed<(PeerId, StreamMuxerBox)>, StartError> {
    let mut muxer = yamux::Config::default();
    muxer.set_max_num_streams(STREAMS_MAX);
    let noise = noise::Config::new(keypair).map_err(|error| StartError::Setup(error.to_string()))?;
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(muxer)
        .timeout(HANDSHAKE_TIMEOUT)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));

    let mut config = quic::Config::new(keypair);
    config.handshake_timeout = HANDSHAKE_TIMEOUT;
    config.max_idle_timeout = u32::try_from(QUIC_IDLE_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    config.keep_alive_interval = QUIC_KEEP_ALIVE;
    config.max_concurrent_stream_limit = u32::try_from(STREAMS_MAX).unwrap_or(u32::MAX);
    config.max_stream_data = STREAM_WINDOW_BYTES;
    config.max_connection_data = CONNECTION_WINDOW_BYTES;
    let quic = quic::tokio::Transport::new(config).map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));

    Ok(quic.or_transport(tcp).map(|either, _| either.into_inner()).boxed())
}
