//! Envelopes: what one host says and signs, as COSE_Sign1 (RFC 9052).

use coset::iana::CborTag;
use coset::{CoseSign1, SignatureContext, TaggedCborSerializable as _, sig_structure_data};
use thiserror::Error;

use crate::cbor::{CborError, Reader};
use crate::cose;
use crate::digest::{Digest, sha256};
use crate::key::PublicKey;
use crate::signing_key::SigningKey;
use crate::verified::Verified;

/// The longest envelope, in bytes.
pub const ENVELOPE_BYTES_MAX: usize = 64 * 1024;

/// The longest payload that surely fits into an envelope, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = ENVELOPE_BYTES_MAX - 128;

/// What an envelope is for; a signature for one purpose says nothing for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// An event in a host's feed.
    Envelope,
    /// Something a host says beside its feed.
    Notice,
    /// The head of a coordinator's log entries.
    Append,
}

impl Purpose {
    /// What stands before the fleet's name in the signature's `external_aad`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Envelope => "muster/envelope/1",
            Self::Notice => "muster/notice/1",
            Self::Append => "muster/append/1",
        }
    }
}

/// Why an envelope was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EnvelopeError {
    /// More bytes than an envelope can have.
    #[error("an envelope has at most {max} bytes, not {found}")]
    TooLong {
        /// Length in bytes.
        found: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The bytes are not a tagged COSE_Sign1 in its one encoding.
    #[error("not a COSE_Sign1: {0}")]
    Form(#[from] CborError),
    /// The protected header is not `alg` EdDSA alone, or there is an unprotected one.
    #[error("the protected header must be alg EdDSA and nothing else, the unprotected header empty")]
    Header,
    /// There is no payload.
    #[error("an envelope carries its payload")]
    Detached,
    /// The signature has another length.
    #[error("an ed25519 signature has 64 bytes, not {0}")]
    SignatureLength(usize),
    /// The signature does not hold for this key, purpose and fleet.
    #[error("the signature is not by this key over this content for this purpose and fleet")]
    Mismatch,
}

/// Signs a payload and wraps it; what is longer than [`PAYLOAD_BYTES_MAX`] nobody will open.
pub fn seal(key: &SigningKey, purpose: Purpose, fleet: &str, payload: &[u8]) -> Vec<u8> {
    let signature = key.sign(&signed_data(purpose, fleet, payload));
    encode(payload.to_vec(), signature.to_vec())
}

/// An envelope that was read but not verified: its payload is anybody's claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    bytes: Vec<u8>,
    payload: Vec<u8>,
    signature: [u8; 64],
}

impl Sealed {
    /// Reads an envelope and checks all of it but the signature.
    ///
    /// Only the one encoding that [`seal`] makes is read. Otherwise anybody could write a host's envelope in a
    /// second way, and the two would look like the host contradicting itself.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() > ENVELOPE_BYTES_MAX {
            return Err(EnvelopeError::TooLong { found: bytes.len(), max: ENVELOPE_BYTES_MAX });
        }
        let mut reader = Reader::new(bytes);
        reader.tag(CborTag::CoseSign1 as u64)?;
        if reader.array()? != 4 {
            return Err(CborError::Kind.into());
        }
        if reader.bytes()? != cose::PROTECTED || !reader.skip(cose::EMPTY_MAP) {
            return Err(EnvelopeError::Header);
        }
        if reader.skip(cose::NULL) {
            return Err(EnvelopeError::Detached);
        }
        let payload = reader.bytes()?.to_vec();
        let signature = reader.bytes()?;
        let signature = signature.try_into().map_err(|_| EnvelopeError::SignatureLength(signature.len()))?;
        reader.finish()?;
        Ok(Self { bytes: bytes.to_vec(), payload, signature })
    }

    /// The payload, of which nothing is proven yet; good for looking up whose key to verify with.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The envelope as it came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Checks that `key` signed this payload for this purpose in this fleet.
    pub fn verify(
        &self,
        purpose: Purpose,
        fleet: &str,
        key: &PublicKey,
    ) -> Result<Verified<Opened>, EnvelopeError> {
        if !key.verifies(&signed_data(purpose, fleet, &self.payload), &self.signature) {
            return Err(EnvelopeError::Mismatch);
        }
        Ok(Verified::new(Opened { bytes: self.bytes.clone(), payload: self.payload.clone(), signer: *key }))
    }
}

/// The content of an envelope and who signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    bytes: Vec<u8>,
    payload: Vec<u8>,
    signer: PublicKey,
}

impl Opened {
    /// The envelope as it came: what is stored and passed on.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The signed payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The key that signed.
    pub const fn signer(&self) -> &PublicKey {
        &self.signer
    }

    /// The digest of the envelope as it came, by which the feed's next one names it.
    pub fn digest(&self) -> Digest {
        sha256(&self.bytes)
    }
}

fn signed_data(purpose: Purpose, fleet: &str, payload: &[u8]) -> Vec<u8> {
    let aad = cose::external_aad(purpose.as_str(), fleet);
    sig_structure_data(SignatureContext::CoseSign1, cose::protected(), None, &aad, payload)
}

fn encode(payload: Vec<u8>, signature: Vec<u8>) -> Vec<u8> {
    let cose =
        CoseSign1 { protected: cose::protected(), payload: Some(payload), signature, ..CoseSign1::default() };
    // Headers that this crate builds always encode; an empty answer would be refused by every reader.
    cose.to_tagged_vec().unwrap_or_default()
}
