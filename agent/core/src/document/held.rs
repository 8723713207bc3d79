//! Documents that were accepted, and proofs that operators signed two of one serial.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use muster_signing::{Digest, OperatorKey, SignedDocument, Verified};

use super::plan::RefOrder;
use crate::id::ChannelId;

/// An accepted document with the bytes that were signed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Held<T> {
    /// What it says.
    pub document: Arc<T>,
    /// SHA-256 of its bytes.
    pub hash: Digest,
    /// Its bytes and signatures.
    pub signed: Arc<Verified<SignedDocument>>,
    /// How many documents were accepted before it; the order in which they have to be stored and sent.
    pub position: u64,
}

impl<T> Held<T> {
    /// The signed bytes.
    pub fn bytes(&self) -> &[u8] {
        self.signed.bytes()
    }

    /// Its valid signatures.
    pub fn signatures(&self) -> &[Vec<u8>] {
        self.signed.signatures()
    }

    /// The keys whose signatures are valid, of operators and of others.
    pub fn signers(&self) -> &BTreeSet<OperatorKey> {
        self.signed.signers()
    }
}

impl<T> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.document
    }
}

/// Two documents with one serial that operators signed: neither opens or adopts anything more until a greater
/// serial comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    pub(super) place: ProofPlace,
    pub(super) held: Digest,
    pub(super) other: Arc<Verified<SignedDocument>>,
}

/// What two documents contend for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProofPlace {
    /// One serial of fleet documents.
    Fleet {
        /// The serial.
        serial: u64,
    },
    /// One place in the order of a channel's refs.
    Channel {
        /// The channel.
        channel: ChannelId,
        /// The place.
        order: RefOrder,
    },
}

impl Proof {
    /// What both contend for.
    pub fn place(&self) -> &ProofPlace {
        &self.place
    }

    /// The document that was accepted first.
    pub fn held(&self) -> Digest {
        self.held
    }

    /// The document that came later.
    pub fn other(&self) -> &Verified<SignedDocument> {
        &self.other
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let other = self.other.digest();
        match &self.place {
            ProofPlace::Fleet { serial } => {
                write!(
                    f,
                    "operators signed two fleet documents with serial {serial}: {} and {other}",
                    self.held
                )
            }
            ProofPlace::Channel { channel, order } => write!(
                f,
                "operators signed two refs of channel {channel} with (fleet serial, serial) {order}: {} and {other}",
                self.held
            ),
        }
    }
}
