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
pub struct SigningKey {
    secret: ed25519_dalek::SigningKey,
    public: PublicKey,
    /// Whether it is a stand-in that costs a hash instead of a curve.
    #[cfg(feature = "planted")]
    stubbed: bool,
}

impl SigningKey {
    /// Makes the key of a 32-byte seed, which the caller drew from the system's random source.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let secret = ed25519_dalek::SigningKey::from_bytes(&seed);
        Self {
            public: PublicKey::of_secret(&secret.verifying_key()),
            secret,
            #[cfg(feature = "planted")]
            stubbed: false,
        }
    }

    /// Makes a stand-in for a key, whose signatures cost a hash and prove nothing; for the simulator only.
    #[cfg(feature = "planted")]
    pub fn stubbed(seed: [u8; 32]) -> Self {
        Self { public: PublicKey::of_stub(&seed), stubbed: true, ..Self::from_seed(seed) }
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
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// The secret seed, from which the network's identity is made.
    pub fn seed(&self) -> &[u8; 32] {
        self.secret.as_bytes()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        #[cfg(feature = "planted")]
        if self.stubbed {
            return crate::stub::sign(self.public().as_bytes(), message);
        }
        self.secret.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public())
    }
}
