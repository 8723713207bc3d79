//! Documents: bytes that operators signed with their OpenSSH keys.

use std::collections::BTreeSet;
use std::fmt;

use crate::digest::{Digest, sha256};
use crate::document_wire::{self, DocumentError, DocumentParts};
use crate::key::SSH_ED25519;
use crate::operator_key::OperatorKey;
use crate::signing_key::SigningKey;
use crate::ssh_wire::put_string;
use crate::sshsig::{self, KeySignature, MessageHash, SignatureError, SshSig};
use crate::verified::Verified;

/// The longest document, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How many signatures of one document are looked at.
pub const SIGNATURES_MAX: usize = 64;

/// What a document speaks of; a signature for one kind says nothing in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespace {
    /// The fleet: hosts, policies, operators.
    Fleet,
    /// What a channel's hosts should run.
    ChannelRef,
    /// One operator's order about something under way.
    Command,
    /// What a host's own program found out about it: no document, and the host's key signs it.
    Evidence,
    /// What an agent tells whom its hooks call: no document, and the host's key signs it.
    Hook,
}

impl Namespace {
    /// The namespace as SSHSIG knows it, the `-n` of `ssh-keygen -Y sign`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fleet => "muster-fleet",
            Self::ChannelRef => "muster-channel-ref",
            Self::Command => "muster-command",
            Self::Evidence => "muster-evidence",
            Self::Hook => "muster-hook",
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A document and the keys that really signed exactly its bytes in its namespace; these may be none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedDocument {
    bytes: Vec<u8>,
    namespace: Namespace,
    signatures: Vec<Vec<u8>>,
    signers: BTreeSet<OperatorKey>,
    rejected: Vec<SignatureError>,
}

impl SignedDocument {
    /// The signed bytes, as they came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What kind of document the signatures speak of.
    pub const fn namespace(&self) -> Namespace {
        self.namespace
    }

    /// The valid signatures as raw SSHSIG blobs, one of each signer; what was rejected is not passed on.
    pub fn signatures(&self) -> &[Vec<u8>] {
        &self.signatures
    }

    /// The keys whose signatures are valid.
    pub const fn signers(&self) -> &BTreeSet<OperatorKey> {
        &self.signers
    }

    /// Why the other signatures did not count.
    pub fn rejected(&self) -> &[SignatureError] {
        &self.rejected
    }

    /// The digest of the signed bytes, by which the document is known.
    pub fn digest(&self) -> Digest {
        sha256(&self.bytes)
    }

    /// Counts those of `operators` who signed: distinct key bytes, whatever the keys are called.
    pub fn count<'a>(&self, operators: impl IntoIterator<Item = &'a OperatorKey>) -> usize {
        let signed = operators.into_iter().filter(|operator| self.signers.contains(*operator));
        signed.map(OperatorKey::bytes).collect::<BTreeSet<_>>().len()
    }

    /// Writes the document with its valid signatures as `{document: bytes, signatures: [bytes]}` in CBOR.
    pub fn to_wire(&self) -> Vec<u8> {
        document_wire::encode(&self.bytes, &self.signatures)
    }

    /// Reads what [`Self::to_wire`] wrote; nothing is verified yet.
    pub fn from_wire(wire: &[u8]) -> Result<DocumentParts, DocumentError> {
        DocumentParts::from_wire(wire)
    }
}

/// Finds out which keys signed exactly these bytes in this namespace.
///
/// Each signature carries its key, so nothing is looked up and nobody is trusted here: whether a signer is an
/// operator is for the caller to say. Signatures that do not hold are listed with the reason.
pub fn verify_document(
    namespace: Namespace,
    bytes: Vec<u8>,
    signatures: Vec<Vec<u8>>,
) -> Verified<SignedDocument> {
    let mut document = SignedDocument {
        bytes,
        namespace,
        signatures: Vec::new(),
        signers: BTreeSet::new(),
        rejected: Vec::new(),
    };
    if document.bytes.len() > DOCUMENT_BYTES_MAX {
        let found = document.bytes.len();
        document.rejected.push(SignatureError::DocumentTooLong { found, max: DOCUMENT_BYTES_MAX });
        return Verified::new(document);
    }
    if signatures.len() > SIGNATURES_MAX {
        document.rejected.push(SignatureError::TooMany { found: signatures.len(), max: SIGNATURES_MAX });
    }
    let (mut sha256, mut sha512) = (None, None);
    for signature in signatures.into_iter().take(SIGNATURES_MAX) {
        let signer = SshSig::parse(&signature, namespace.as_str()).and_then(|parsed| {
            let hash = parsed.hash();
            let cached = match hash {
                MessageHash::Sha256 => &mut sha256,
                MessageHash::Sha512 => &mut sha512,
            };
            let data =
                cached.get_or_insert_with(|| sshsig::signed_data(namespace.as_str(), hash, &document.bytes));
            parsed.verify(data)
        });
        match signer {
            Ok(signer) => {
                if document.signers.insert(signer) {
                    document.signatures.push(signature);
                }
            }
            Err(reason) => document.rejected.push(reason),
        }
    }
    Verified::new(document)
}

/// Signs a document with a key at hand; the raw SSHSIG blob is what [`armor`](crate::armor) writes as text.
pub fn sign_document(key: &SigningKey, namespace: Namespace, bytes: &[u8]) -> Vec<u8> {
    let mut signature = Vec::new();
    put_string(&mut signature, SSH_ED25519.as_bytes());
    put_string(&mut signature, &key.sign(&signed_data(namespace, bytes)));
    sshsig::assemble(&key.public().into(), namespace.as_str(), MessageHash::Sha512, &signature)
}

/// What an ssh-agent must sign for [`assemble_signature`] to make a document's signature of its answer.
pub fn signed_data(namespace: Namespace, bytes: &[u8]) -> Vec<u8> {
    sshsig::signed_data(namespace.as_str(), MessageHash::Sha512, bytes)
}

/// Makes a document's signature of the signature blob in an ssh-agent's answer over [`signed_data`].
pub fn assemble_signature(
    key: &OperatorKey,
    namespace: Namespace,
    signature: &[u8],
) -> Result<Vec<u8>, SignatureError> {
    KeySignature::parse(key, signature)?;
    Ok(sshsig::assemble(key, namespace.as_str(), MessageHash::Sha512, signature))
}
