//! Operators' public keys: OpenSSH ed25519 keys, in a file or in a hardware token.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use crate::key::{KeyError, PublicKey, SSH_ED25519};
use crate::ssh_wire::{Reader, put_string, shown};

/// The name OpenSSH gives to ed25519 keys in FIDO tokens and to their signatures.
pub(crate) const SK_SSH_ED25519: &str = "sk-ssh-ed25519@openssh.com";

/// The longest OpenSSH line that is read, comment included.
const LINE_BYTES_MAX: usize = 4096;

/// The longest application string of a hardware key; `ssh:` and a user's suffix in practice.
const APPLICATION_BYTES_MAX: usize = 255;

/// A key that an operator signs documents with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperatorKey {
    /// `ssh-ed25519`.
    Ed25519(PublicKey),
    /// `sk-ssh-ed25519@openssh.com`: the secret is in a token that a person has to touch.
    SkEd25519 {
        /// The token's public key.
        key: PublicKey,
        /// What the key was made for, usually `ssh:`; it is part of what the token signs.
        application: String,
    },
}

impl OperatorKey {
    /// Reads one line `<algorithm> <base64> [comment]`, as in a `.pub` file.
    pub fn from_openssh(line: &str) -> Result<Self, KeyError> {
        if line.len() > LINE_BYTES_MAX {
            return Err(KeyError::LineTooLong { found: line.len(), max: LINE_BYTES_MAX });
        }
        let line = line.trim();
        if line.contains(['\n', '\r']) {
            return Err(KeyError::NotALine);
        }
        let mut words = line.split_ascii_whitespace();
        let (Some(algorithm), Some(base64)) = (words.next(), words.next()) else {
            return Err(KeyError::NotALine);
        };
        if algorithm != SSH_ED25519 && algorithm != SK_SSH_ED25519 {
            return Err(KeyError::Algorithm { found: algorithm.to_owned(), sk_allowed: true });
        }
        let blob = BASE64.decode(base64.as_bytes()).map_err(|_| KeyError::NotALine)?;
        let key = Self::from_ssh_blob(&blob)?;
        if key.algorithm() == algorithm { Ok(key) } else { Err(KeyError::NotALine) }
    }

    /// Writes the key as an OpenSSH line without a comment.
    pub fn to_openssh(&self) -> String {
        format!("{} {}", self.algorithm(), BASE64.encode(&self.ssh_blob()))
    }

    /// The 32 bytes by which this key counts towards a threshold.
    ///
    /// A key listed both plain and as a hardware key is one key.
    pub const fn bytes(&self) -> &[u8; 32] {
        self.key().as_bytes()
    }

    /// The ed25519 key in either kind.
    pub const fn key(&self) -> &PublicKey {
        match self {
            Self::Ed25519(key) | Self::SkEd25519 { key, .. } => key,
        }
    }

    /// OpenSSH's name of the kind of key.
    pub const fn algorithm(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => SSH_ED25519,
            Self::SkEd25519 { .. } => SK_SSH_ED25519,
        }
    }

    /// The key in SSH's wire form, by which an ssh-agent knows it.
    pub fn ssh_blob(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(key) => key.ssh_blob(),
            Self::SkEd25519 { key, application } => {
                let mut blob = Vec::new();
                put_string(&mut blob, SK_SSH_ED25519.as_bytes());
                put_string(&mut blob, key.as_bytes());
                put_string(&mut blob, application.as_bytes());
                blob
            }
        }
    }

    /// Reads a key in SSH's wire form, as an ssh-agent lists it.
    pub fn from_ssh_blob(blob: &[u8]) -> Result<Self, KeyError> {
        let mut reader = Reader::new(blob);
        let algorithm = reader.string().ok_or(KeyError::Blob(SSH_ED25519))?;
        let key = if algorithm == SSH_ED25519.as_bytes() {
            let key = reader.string().ok_or(KeyError::Blob(SSH_ED25519))?;
            Self::Ed25519(PublicKey::try_from(key)?)
        } else if algorithm == SK_SSH_ED25519.as_bytes() {
            let key = reader.string().ok_or(KeyError::Blob(SK_SSH_ED25519))?;
            let application = reader
                .string()
                .filter(|bytes| bytes.len() <= APPLICATION_BYTES_MAX)
                .and_then(|bytes| str::from_utf8(bytes).ok())
                .ok_or(KeyError::Blob(SK_SSH_ED25519))?;
            Self::SkEd25519 { key: PublicKey::try_from(key)?, application: application.to_owned() }
        } else {
            return Err(KeyError::Algorithm { found: shown(algorithm), sk_allowed: true });
        };
        if reader.finished() { Ok(key) } else { Err(KeyError::Blob(key.algorithm())) }
    }
}

impl From<PublicKey> for OperatorKey {
    fn from(key: PublicKey) -> Self {
        Self::Ed25519(key)
    }
}

impl fmt::Display for OperatorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_openssh())
    }
}

impl FromStr for OperatorKey {
    type Err = KeyError;

    fn from_str(line: &str) -> Result<Self, KeyError> {
        Self::from_openssh(line)
    }
}

impl Serialize for OperatorKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_openssh())
    }
}

impl<'de> Deserialize<'de> for OperatorKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let line = String::deserialize(deserializer)?;
        Self::from_openssh(&line).map_err(D::Error::custom)
    }
}
