//! Stand-ins for ed25519 keys that cost a hash instead of a curve, for the simulator only.
//!
//! A stubbed public key is known by how its bytes begin. Without the feature `planted` nothing here exists, and such
//! bytes are as good or bad as any others.

use crate::digest::sha256;

/// How the bytes of a stubbed public key begin.
const MARK: &[u8; 12] = b"muster-stub\0";

/// The public half of a stubbed key.
pub(crate) fn public(seed: &[u8; 32]) -> [u8; 32] {
    let mut bytes = sha256(seed).0;
    bytes[..MARK.len()].copy_from_slice(MARK);
    bytes
}

/// Whether these are the bytes of a stubbed public key.
pub(crate) fn is_stub(public: &[u8; 32]) -> bool {
    public.starts_with(MARK)
}

/// What stands for a signature: anybody could make it, and the simulator's forgers do not.
pub(crate) fn sign(public: &[u8; 32], message: &[u8]) -> [u8; 64] {
    let mut bytes = Vec::with_capacity(public.len() + message.len());
    bytes.extend(public);
    bytes.extend(message);
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&sha256(&bytes).0);
    signature[32..].copy_from_slice(public);
    signature
}
