//! SHA-256 digests, by which documents, envelopes and decisions are known.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::text_or_bytes::{TextOrBytes, serde_text_or_bytes};

const PREFIX: &str = "sha256-";

/// A SHA-256 digest, written `sha256-<64 lowercase hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// Why a digest could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DigestError {
    /// The text is not in the form of a digest.
    #[error("a digest is written sha256-<64 lowercase hex digits>")]
    Text,
    /// The binary form has another length.
    #[error("a SHA-256 digest has 32 bytes, not {0}")]
    Length(usize),
}

/// Computes the SHA-256 digest of `bytes`.
pub fn sha256(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

impl Digest {
    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl AsRef<[u8]> for Digest {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<&[u8]> for Digest {
    type Error = DigestError;

    fn try_from(bytes: &[u8]) -> Result<Self, DigestError> {
        bytes.try_into().map(Self).map_err(|_| DigestError::Length(bytes.len()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let hex = text.strip_prefix(PREFIX).filter(|hex| hex.len() == 64).ok_or(DigestError::Text)?;
        let bytes = HEXLOWER.decode(hex.as_bytes()).map_err(|_| DigestError::Text)?;
        Self::try_from(bytes.as_slice())
    }
}

impl TextOrBytes for Digest {
    const EXPECTING: &'static str = "a SHA-256 digest";

    fn to_bytes(&self) -> &[u8] {
        &self.0
    }

    fn to_text(&self) -> String {
        self.to_string()
    }

    fn try_from_bytes(bytes: &[u8]) -> Result<Self, String> {
        Self::try_from(bytes).map_err(|error| error.to_string())
    }

    fn try_from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: DigestError| error.to_string())
    }
}

serde_text_or_bytes!(Digest);
