//! Keys, signed documents, envelopes and multi-signed decisions: bytes in, bytes out.
//!
//! A fleet of machines rolls out its configurations without a server. Whatever a machine hears, it hears from
//! another machine that may be lying, so every statement that matters is signed, and this crate is where
//! signatures are made and checked. It reads no files, asks no agent, and draws no random numbers: the caller
//! brings bytes and gets bytes back.
//!
//! # Three kinds of statements
//!
//! | who says it | what | form | here |
//! | --- | --- | --- | --- |
//! | operators, people with OpenSSH keys | *what* may run: a [document](SignedDocument) | any bytes, and SSHSIG signatures beside them, as `ssh-keygen -Y sign` makes them | [`sign_document`], [`verify_document`] |
//! | a host | *what happened* to it: an [envelope](Opened) | COSE_Sign1 around a payload | [`seal`], [`Sealed`] |
//! | coordinators, some hosts together | *when* it happens: a decision | COSE_Sign around a payload, one signature for each who agrees | [`sign_decision`], [`assemble`], [`Certificate`] |
//!
//! A host's key is its OpenSSH host key, and its address in the network, the [`PeerId`], is computed from it.
//!
//! # Reading, then verifying
//!
//! Each kind has a type for what was only read ([`DocumentParts`], [`Sealed`], [`Certificate`]) and one for what
//! was checked, inside a [`Verified`], which nothing outside this crate can make. A function that takes a
//! `Verified<Opened>` therefore cannot be handed a stranger's claim. [`Verified::parse`] turns verified bytes
//! into a verified value.
//!
//! What is verified says which *keys* signed which *bytes* for which *use*. Whether those keys belong to
//! operators, hosts or coordinators, and whether they are enough, the caller knows.
//!
//! # Rules that hold everywhere
//!
//! - The bytes that were received are the bytes that are verified, kept and passed on.
//! - A signature is bound to its use: documents by an SSHSIG [`Namespace`], envelopes and decisions by a
//!   `external_aad` of [`Purpose`] and fleet. It proves nothing elsewhere.
//! - Signers are counted by the bytes of their keys: not by names, hints, or number of signatures.
//! - There is one verification rule, strict ed25519 as in RFC 8032; keys of small order are refused on sight.
//! - An envelope, like a certificate, has one encoding. A second one would let anybody make a host seem to contradict itself.
//! - Every decoder has a limit with a name and refuses what is longer; none panics.
//!
//! ```
//! use muster_signing::{Namespace, Purpose, Sealed, SigningKey, seal, sign_document, verify_document};
//!
//! let key = SigningKey::from_seed([7; 32]);
//!
//! let signature = sign_document(&key, Namespace::Fleet, b"{}");
//! let document = verify_document(Namespace::Fleet, b"{}".to_vec(), vec![signature]);
//! assert_eq!(document.count([&key.public().into()]), 1);
//!
//! let envelope = seal(&key, Purpose::Envelope, "home", b"switched");
//! let opened = Sealed::parse(&envelope)?.verify(Purpose::Envelope, "home", &key.public())?;
//! assert_eq!(opened.payload(), b"switched");
//! # Ok::<(), muster_signing::EnvelopeError>(())
//! ```

mod cbor;
mod cose;
mod decision;
mod digest;
mod document;
mod document_wire;
mod envelope;
mod key;
mod operator_key;
mod signing_key;
mod ssh_wire;
mod sshsig;
#[cfg(feature = "planted")]
mod stub;
mod text_or_bytes;
mod verified;

pub use cbor::CborError;
pub use decision::{
    CERTIFICATE_BYTES_MAX, Certificate, Counted, DecisionError, Endorsed, SIGNERS_MAX, Signature, assemble,
    sign_decision, verify_signature,
};
pub use digest::{Digest, DigestError, sha256};
pub use document::{
    DOCUMENT_BYTES_MAX, Namespace, SIGNATURES_MAX, SignedDocument, assemble_signature, sign_document,
    signed_data, verify_document,
};
pub use document_wire::{DOCUMENT_WIRE_BYTES_MAX, DocumentError, DocumentParts};
pub use envelope::{ENVELOPE_BYTES_MAX, EnvelopeError, Opened, PAYLOAD_BYTES_MAX, Purpose, Sealed, seal};
pub use key::{KeyError, PeerId, PublicKey};
pub use operator_key::OperatorKey;
pub use signing_key::SigningKey;
pub use sshsig::{SIGNATURE_BYTES_MAX, SignatureError, armor, dearmor};
pub use verified::Verified;
