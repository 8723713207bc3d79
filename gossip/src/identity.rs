//! Host keys, peer ids and addresses: three names of the same peer.

use libp2p::identity::{Keypair, PublicKey, ed25519};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

/// The 32 bytes of a host's ed25519 public key, by which the node knows a peer.
pub type HostKey = [u8; 32];

/// Makes the key pair that the seed stands for.
pub(crate) fn keypair(mut seed: [u8; 32]) -> Option<Keypair> {
    Keypair::ed25519_from_bytes(&mut seed).ok()
}

/// Computes the peer id of a host key, as text; none, if the bytes are no ed25519 public key.
pub fn peer_id_of(key: &HostKey) -> Option<String> {
    peer_id(key).map(|peer| peer.to_string())
}

/// Reads the host key from a peer id's text; none, if it is not an ed25519 identity.
pub fn host_key_of(peer_id: &str) -> Option<HostKey> {
    host_key(&peer_id.parse().ok()?)
}

/// Computes the peer id of a host key; none, if the bytes are no point of the curve.
pub(crate) fn peer_id(key: &HostKey) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(key).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// Reads the host key that a peer id holds; none, if it is not an ed25519 identity.
pub(crate) fn host_key(peer: &PeerId) -> Option<HostKey> {
    let key = PublicKey::try_decode_protobuf(peer.as_ref().digest()).ok()?;
    Some(key.try_into_ed25519().ok()?.to_bytes())
}

/// Splits an address that ends in `/p2p/<peer id>`.
pub(crate) fn split(address: &Multiaddr) -> (Multiaddr, Option<PeerId>) {
    let mut bare = address.clone();
    match bare.pop() {
        Some(Protocol::P2p(peer)) => (bare, Some(peer)),
        Some(_) | None => (address.clone(), None),
    }
}

/// Reads a member's address; none, if it is no address or names another peer.
pub(crate) fn address_of_member(address: &str, member: &PeerId) -> Option<Multiaddr> {
    let (bare, peer) = split(&address.parse().ok()?);
    peer.is_none_or(|peer| peer == *member).then_some(bare)
}

/// Says which transport an address uses.
pub(crate) fn transport_of(address: &Multiaddr) -> &'static str {
    if address.iter().any(|part| matches!(part, Protocol::QuicV1)) { "quic" } else { "tcp" }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn key_and_peer_id_name_each_other() {
        let peer = keypair([7; 32]).unwrap().public().to_peer_id();
        let key = host_key(&peer).unwrap();
        assert_eq!(peer_id(&key), Some(peer));
        assert_eq!(host_key_of(&peer_id_of(&key).unwrap()), Some(key));
        assert_eq!(host_key_of("12D3KooW"), None);
    }

    #[test]
    fn address_is_split_from_its_peer() {
        let peer = keypair([7; 32]).unwrap().public().to_peer_id();
        let bare: Multiaddr = "/ip4/10.0.0.1/udp/7946/quic-v1".parse().unwrap();
        let full = bare.clone().with(Protocol::P2p(peer));
        assert_eq!(split(&full), (bare.clone(), Some(peer)));
        assert_eq!(split(&bare), (bare.clone(), None));
        assert_eq!(transport_of(&bare), "quic");
    }
}
