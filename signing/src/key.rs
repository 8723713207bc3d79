//! Public keys of hosts and the peer ids that follow from them.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;
use ed25519_dalek::{Signature, VerifyingKey};
use thiserror::Error;

use crate::operator_key::OperatorKey;
use crate::ssh_wire::put_string;
use crate::text_or_bytes::{TextOrBytes, serde_text_or_bytes};

/// The name OpenSSH gives to ed25519 keys and their signatures.
pub(crate) const SSH_ED25519: &str = "ssh-ed25519";

/// What stands before the key in a peer id: an identity multihash (0x00) of 36 bytes (0x24), which are the
/// protobuf of libp2p's specification of peer ids: key type (field 1) ed25519 (1), data (field 2) of 32 bytes.
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

const PEER_ID_BYTES: usize = PEER_ID_PREFIX.len() + 32;

/// The longest base58 text that 38 bytes can have; longer input is not worth decoding.
const PEER_ID_TEXT_MAX: usize = 52;

/// Why a key or a peer id was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The binary form has another length.
    #[error("an ed25519 public key has 32 bytes, not {0}")]
    Length(usize),
    /// The bytes name no point of the curve, or name it in a second way.
    #[error("these 32 bytes are not the canonical form of a point of the ed25519 curve")]
    NotAPoint,
    /// The key is of small order: anybody can make signatures for it.
    #[error("a key of small order accepts signatures that nobody made")]
    Weak,
    /// The line is longer than any real key.
    #[error("an OpenSSH key line has at most {max} bytes, not {found}")]
    LineTooLong {
        /// Length of the line in bytes.
        found: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The line is not `<algorithm> <base64> [comment]`.
    #[error("an OpenSSH public key is one line: algorithm, base64, and perhaps a comment")]
    NotALine,
    /// The algorithm is not one that is trusted.
    #[error("keys of algorithm {found:?} are not supported, only ssh-ed25519{}", if *.sk_allowed { " and sk-ssh-ed25519@openssh.com" } else { "" })]
    Algorithm {
        /// The algorithm that the key names.
        found: String,
        /// Whether a hardware key would have done.
        sk_allowed: bool,
    },
    /// The key's blob does not have the form of its algorithm.
    #[error("the key's base64 does not hold a {0} key")]
    Blob(&'static str),
    /// The private key is protected by a passphrase.
    #[error(
        "the private key is encrypted with a passphrase: use a key without one, or an ssh-agent that holds it"
    )]
    Encrypted,
    /// The private key could not be read.
    #[error("not an OpenSSH ed25519 private key: {0}")]
    Private(String),
    /// The two halves of a private key file do not belong together.
    #[error("the private key does not belong to the public key beside it")]
    Mismatch,
    /// The text or bytes are not a peer id of an ed25519 key.
    #[error("a peer id is the base58 form of an ed25519 key and begins with 12D3Koo")]
    PeerId,
}

/// An ed25519 public key: a point of the curve, in its one canonical form, not of small order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Accepts the 32 bytes of a key; refuses what is not a point, and keys of small order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        #[cfg(feature = "planted")]
        if crate::stub::is_stub(bytes) {
            return Ok(Self(*bytes));
        }
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::NotAPoint)?;
        if key.to_edwards().compress().as_bytes() != bytes {
            return Err(KeyError::NotAPoint);
        }
        if key.is_weak() { Err(KeyError::Weak) } else { Ok(Self(*bytes)) }
    }

    /// For the public half of a secret key, which is never of small order.
    pub(crate) fn of_secret(key: &VerifyingKey) -> Self {
        Self(key.to_bytes())
    }

    /// The public half of a stubbed key.
    #[cfg(feature = "planted")]
    pub(crate) fn of_stub(seed: &[u8; 32]) -> Self {
        Self(crate::stub::public(seed))
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads one line `ssh-ed25519 AAAA.. [comment]`, as in a `.pub` file.
    pub fn from_openssh(line: &str) -> Result<Self, KeyError> {
        match OperatorKey::from_openssh(line) {
            Ok(OperatorKey::Ed25519(key)) => Ok(key),
            Ok(OperatorKey::SkEd25519 { .. }) => Err(KeyError::Algorithm {
                found: crate::operator_key::SK_SSH_ED25519.to_owned(),
                sk_allowed: false,
            }),
            Err(KeyError::Algorithm { found, .. }) => Err(KeyError::Algorithm { found, sk_allowed: false }),
            Err(error) => Err(error),
        }
    }

    /// Writes the key as an OpenSSH line without a comment.
    pub fn to_openssh(&self) -> String {
        format!("{SSH_ED25519} {}", BASE64.encode(&self.ssh_blob()))
    }

    /// The libp2p peer id of a host with this key.
    pub fn peer_id(&self) -> PeerId {
        PeerId::of(self)
    }

    pub(crate) fn ssh_blob(&self) -> Vec<u8> {
        let mut blob = Vec::new();
        put_string(&mut blob, SSH_ED25519.as_bytes());
        put_string(&mut blob, self.as_bytes());
        blob
    }

    /// The one rule of verification, on every path: RFC 8032 without cofactor, nothing malleable, no batches.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        #[cfg(feature = "planted")]
        if crate::stub::is_stub(&self.0) {
            return crate::stub::sign(&self.0, message) == *signature;
        }
        VerifyingKey::from_bytes(&self.0)
            .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_openssh())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_openssh())
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(line: &str) -> Result<Self, KeyError> {
        Self::from_openssh(line)
    }
}

impl TryFrom<&[u8]> for PublicKey {
    type Error = KeyError;

    fn try_from(bytes: &[u8]) -> Result<Self, KeyError> {
        Self::from_bytes(bytes.try_into().map_err(|_| KeyError::Length(bytes.len()))?)
    }
}

impl TextOrBytes for PublicKey {
    const EXPECTING: &'static str = "an ed25519 public key";

    fn to_bytes(&self) -> &[u8] {
        self.as_bytes()
    }

    fn to_text(&self) -> String {
        self.to_openssh()
    }

    fn try_from_bytes(bytes: &[u8]) -> Result<Self, String> {
        Self::try_from(bytes).map_err(|error| error.to_string())
    }

    fn try_from_text(text: &str) -> Result<Self, String> {
        Self::from_openssh(text).map_err(|error| error.to_string())
    }
}

serde_text_or_bytes!(PublicKey);

/// A libp2p peer id of an ed25519 key; it contains the whole key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId([u8; PEER_ID_BYTES]);

impl PeerId {
    fn of(key: &PublicKey) -> Self {
        let mut bytes = [0; PEER_ID_BYTES];
        let (prefix, tail) = bytes.split_at_mut(PEER_ID_PREFIX.len());
        prefix.copy_from_slice(&PEER_ID_PREFIX);
        tail.copy_from_slice(key.as_bytes());
        Self(bytes)
    }

    /// Accepts the multihash bytes of an ed25519 key's peer id, and no other kind.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let key = bytes.strip_prefix(&PEER_ID_PREFIX).ok_or(KeyError::PeerId)?;
        PublicKey::try_from(key).map(|key| Self::of(&key))
    }

    /// The bytes of the multihash.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<PublicKey> for PeerId {
    fn from(key: PublicKey) -> Self {
        Self::of(&key)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bs58::encode(&self.0).into_string())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PeerId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.len() > PEER_ID_TEXT_MAX {
            return Err(KeyError::PeerId);
        }
        let bytes = bs58::decode(text).into_vec().map_err(|_| KeyError::PeerId)?;
        Self::from_bytes(&bytes)
    }
}

impl TextOrBytes for PeerId {
    const EXPECTING: &'static str = "a peer id";

    fn to_bytes(&self) -> &[u8] {
        self.as_bytes()
    }

    fn to_text(&self) -> String {
        self.to_string()
    }

    fn try_from_bytes(bytes: &[u8]) -> Result<Self, String> {
        Self::from_bytes(bytes).map_err(|error| error.to_string())
    }

    fn try_from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: KeyError| error.to_string())
    }
}

serde_text_or_bytes!(PeerId);
