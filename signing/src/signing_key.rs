//! The secret half of an ed25519 key.

use std::fmt;

use ed25519_dalek::Signer as _;
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{LineEnding, PrivateKey};

use crate::key::{KeyError, PublicKey};

/// The longest private key file that is read.
const PRIVATE_KEY_BYTES_MAX: usize = 16 * 1024;

/// A secret ed25519 key; wiped from memory when dropped.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// Makes the key of a 32-byte seed, which the caller drew from the system's random source.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(&seed))
    }

    /// Reads an OpenSSH private key file (`-----BEGIN OPENSSH PRIVATE KEY-----`) without a passphrase.
    pub fn from_openssh(pem: &str) -> Result<Self, KeyError> {
        if pem.len() > PRIVATE_KEY_BYTES_MAX {
            return Err(KeyError::Private(format!("the file has more than {PRIVATE_KEY_BYTES_MAX} bytes")));
        }
        let file = PrivateKey::from_openssh(pem).map_err(|error| KeyError::Private(error.to_string()))?;
        if file.is_encrypted() {
            return Err(KeyError::Encrypted);
        }
        let KeypairData::Ed25519(pair) = file.key_data() else {
            return Err(KeyError::Private(format!("it holds a key of algorithm {}", file.algorithm())));
        };
        let key = Self::from_seed(pair.private.to_bytes());
        let beside = file.public_key().key_data().ed25519().map(|key| key.0);
        if pair.public.0 == *key.public().as_bytes() && beside == Some(pair.public.0) {
            Ok(key)
        } else {
            Err(KeyError::Mismatch)
        }
    }

    /// Writes the key as an OpenSSH private key file without a passphrase.
    pub fn to_openssh(&self, comment: &str) -> String {
        let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(self.seed()));
        let encoded = PrivateKey::new(pair, comment).and_then(|file| file.to_openssh(LineEnding::LF));
        // Encoding an unencrypted key into memory has no way to fail but a length overflow.
        encoded.map(|text| text.to_string()).unwrap_or_default()
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey::of_secret(&self.0.verifying_key())
    }

    /// The secret seed, from which the network's identity is made.
    pub fn seed(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public())
    }
}
