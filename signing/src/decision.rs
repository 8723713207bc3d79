//! Decisions: bytes that several coordinators signed, as COSE_Sign (RFC 9052).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use coset::iana::CborTag;
use coset::{
    CoseSign, CoseSignature, HeaderBuilder, ProtectedHeader, SignatureContext, TaggedCborSerializable as _,
    sig_structure_data,
};
use data_encoding::HEXLOWER;
use thiserror::Error;

use crate::cbor::{CborError, Reader};
use crate::cose;
use crate::digest::{Digest, sha256};
use crate::key::PublicKey;
use crate::signing_key::SigningKey;
use crate::text_or_bytes::{TextOrBytes, serde_text_or_bytes};
use crate::verified::Verified;

/// The longest certificate, in bytes.
pub const CERTIFICATE_BYTES_MAX: usize = 64 * 1024;

/// How many signatures a certificate can hold.
pub const SIGNERS_MAX: usize = 16;

const PURPOSE: &str = "muster/decision/1";

/// How the unprotected header of a signer begins: a map of label 4, `kid`, to what follows.
const KID: &[u8] = &[0xa1, 0x04];

/// Why a signature on a decision, or a certificate, was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecisionError {
    /// More bytes than a certificate can have.
    #[error("a certificate has at most {max} bytes, not {found}")]
    TooLong {
        /// Length in bytes.
        found: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// More signatures than a certificate can hold.
    #[error("a certificate has at most {max} signatures, not {found}")]
    TooMany {
        /// How many it holds.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// The bytes are not a tagged COSE_Sign in its one encoding.
    #[error("not a COSE_Sign: {0}")]
    Form(#[from] CborError),
    /// A header holds something else than it must.
    #[error("a certificate's own headers must be empty, and each signer's alg EdDSA with a kid of 32 bytes")]
    Header,
    /// There is no payload.
    #[error("a certificate carries its payload")]
    Detached,
    /// A signature has another length.
    #[error("an ed25519 signature has 64 bytes, not {0}")]
    SignatureLength(usize),
    /// The signature does not hold for this key and fleet.
    #[error("the signature is not by this key over this decision in this fleet")]
    Mismatch,
}

/// One coordinator's ed25519 signature on a decision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature(pub [u8; 64]);

impl Signature {
    /// The 64 bytes.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl TryFrom<&[u8]> for Signature {
    type Error = DecisionError;

    fn try_from(bytes: &[u8]) -> Result<Self, DecisionError> {
        bytes.try_into().map(Self).map_err(|_| DecisionError::SignatureLength(bytes.len()))
    }
}

impl TextOrBytes for Signature {
    const EXPECTING: &'static str = "an ed25519 signature";

    fn to_bytes(&self) -> &[u8] {
        &self.0
    }

    fn to_text(&self) -> String {
        HEXLOWER.encode(&self.0)
    }

    fn try_from_bytes(bytes: &[u8]) -> Result<Self, String> {
        Self::try_from(bytes).map_err(|error| error.to_string())
    }

    fn try_from_text(text: &str) -> Result<Self, String> {
        let wanted = "a signature is written as 128 lowercase hex digits";
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| wanted.to_owned())?;
        Self::try_from(bytes.as_slice()).map_err(|_| wanted.to_owned())
    }
}

serde_text_or_bytes!(Signature);

/// Signs a decision as one of those who agree with it.
pub fn sign_decision(key: &SigningKey, fleet: &str, payload: &[u8]) -> Signature {
    Signature(key.sign(&signed_data(fleet, payload)))
}

/// A decision that one key is known to have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endorsed {
    payload: Vec<u8>,
    signer: PublicKey,
    signature: Signature,
}

impl Endorsed {
    /// The signed decision.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The key that signed.
    pub const fn signer(&self) -> &PublicKey {
        &self.signer
    }

    /// Its signature, for [`assemble`].
    pub const fn signature(&self) -> &Signature {
        &self.signature
    }
}

/// Checks that `key` signed this decision in this fleet.
pub fn verify_signature(
    fleet: &str,
    payload: &[u8],
    key: &PublicKey,
    signature: &Signature,
) -> Result<Verified<Endorsed>, DecisionError> {
    if !key.verifies(&signed_data(fleet, payload), &signature.0) {
        return Err(DecisionError::Mismatch);
    }
    Ok(Verified::new(Endorsed { payload: payload.to_vec(), signer: *key, signature: *signature }))
}

/// Puts a decision and its signatures into one certificate, in the order of the keys.
///
/// The same signatures always give the same bytes. Of more than [`SIGNERS_MAX`] the first are taken.
pub fn assemble(payload: &[u8], signatures: &BTreeMap<PublicKey, Signature>) -> Vec<u8> {
    let signatures = signatures.iter().take(SIGNERS_MAX).map(|(key, signature)| CoseSignature {
        protected: cose::protected(),
        unprotected: HeaderBuilder::new().key_id(key.as_bytes().to_vec()).build(),
        signature: signature.0.to_vec(),
    });
    let cose =
        CoseSign { payload: Some(payload.to_vec()), signatures: signatures.collect(), ..CoseSign::default() };
    // Headers that this crate builds always encode; an empty answer would be refused by every reader.
    cose.to_tagged_vec().unwrap_or_default()
}

/// A decision with signatures of which nothing is proven yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    bytes: Vec<u8>,
    payload: Vec<u8>,
    signatures: Vec<([u8; 32], Signature)>,
}

impl Certificate {
    /// Reads a certificate and checks all of it but the signatures.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecisionError> {
        if bytes.len() > CERTIFICATE_BYTES_MAX {
            return Err(DecisionError::TooLong { found: bytes.len(), max: CERTIFICATE_BYTES_MAX });
        }
        let mut reader = Reader::new(bytes);
        reader.tag(CborTag::CoseSign as u64)?;
        if reader.array()? != 4 {
            return Err(CborError::Kind.into());
        }
        if !reader.bytes()?.is_empty() || !reader.skip(cose::EMPTY_MAP) {
            return Err(DecisionError::Header);
        }
        if reader.skip(cose::NULL) {
            return Err(DecisionError::Detached);
        }
        let payload = reader.bytes()?.to_vec();
        let found = reader.array()?;
        if found > SIGNERS_MAX {
            return Err(DecisionError::TooMany { found, max: SIGNERS_MAX });
        }
        let signatures = (0..found).map(|_| read_signature(&mut reader)).collect::<Result<_, _>>()?;
        reader.finish()?;
        Ok(Self { bytes: bytes.to_vec(), payload, signatures })
    }

    /// The decision, of which nothing is proven yet; good for looking up whose signatures it needs.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The certificate as it came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Finds out which of `electorate` signed.
    ///
    /// The hint beside a signature only says which key to try first. A signature counts for the key that it
    /// verifies with, each key counts once, and signatures that verify with none are ignored.
    pub fn verify(&self, fleet: &str, electorate: &BTreeSet<PublicKey>) -> Verified<Counted> {
        let data = signed_data(fleet, &self.payload);
        let mut signers = BTreeMap::new();
        for (hint, signature) in &self.signatures {
            let hinted = electorate.iter().find(|key| key.as_bytes() == hint);
            let others = electorate.iter().filter(|key| Some(*key) != hinted);
            let signer = hinted.into_iter().chain(others).find(|key| key.verifies(&data, &signature.0));
            if let Some(signer) = signer {
                signers.entry(*signer).or_insert(*signature);
            }
        }
        Verified::new(Counted { bytes: self.bytes.clone(), payload: self.payload.clone(), signers })
    }
}

/// A decision and those of an electorate who signed it; these may be none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    bytes: Vec<u8>,
    payload: Vec<u8>,
    signers: BTreeMap<PublicKey, Signature>,
}

impl Counted {
    /// The certificate as it came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The signed decision.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The keys that signed, each with its signature.
    pub const fn signers(&self) -> &BTreeMap<PublicKey, Signature> {
        &self.signers
    }

    /// The digest of the decision, by which it is known whoever signed it.
    pub fn digest(&self) -> Digest {
        sha256(&self.payload)
    }
}

fn signed_data(fleet: &str, payload: &[u8]) -> Vec<u8> {
    let aad = cose::external_aad(PURPOSE, fleet);
    let body = ProtectedHeader::default();
    sig_structure_data(SignatureContext::CoseSignature, body, Some(cose::protected()), &aad, payload)
}

/// Reads one signature and the hint beside it.
fn read_signature(reader: &mut Reader<'_>) -> Result<([u8; 32], Signature), DecisionError> {
    if reader.array()? != 3 {
        return Err(CborError::Kind.into());
    }
    if reader.bytes()? != cose::PROTECTED || !reader.skip(KID) {
        return Err(DecisionError::Header);
    }
    let hint = reader.bytes()?.try_into().map_err(|_| DecisionError::Header)?;
    Ok((hint, Signature::try_from(reader.bytes()?)?))
}
