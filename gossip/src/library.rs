//! What sync may answer from: the agent's store, seen as sets of named items and as feeds.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::identity::HostKey;
use crate::limits::{BUCKETS, DIGEST_BYTES};

/// A set that two nodes bring in step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// Documents that operators signed; `id` is the hash of the document, `order` puts fleet documents first.
    Documents,
    /// Certified decisions; `order` is (fleet serial, log index, ordinal).
    Decisions,
    /// Proofs of objections and of lies.
    Proofs,
    /// What hosts say outside their feeds; `id` names the speaker and subject, and a greater `order` replaces.
    Notices,
}

/// Every section, in the order in which a pull fetches them.
pub const SECTIONS: [Section; 4] =
    [Section::Documents, Section::Decisions, Section::Proofs, Section::Notices];

/// Names one item of a section.
///
/// A peer's item is wanted when its `id` is not held, or is held with a smaller `order`. Items arrive sorted by
/// `order`, then `id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Head {
    /// The place among the section's items, or the version of a replaceable one.
    pub order: [u64; 3],
    /// The item's identity, spread evenly over its first byte: a hash.
    pub id: [u8; 32],
}

/// Says how much of a feed somebody holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeedHead {
    /// The host whose feed it is.
    pub key: HostKey,
    /// Which of the host's feeds.
    pub incarnation: u64,
    /// The smallest sequence number held: above the feed's beginning when it starts at a checkpoint.
    pub first: u64,
    /// The greatest sequence number up to which nothing is missing.
    pub seq: u64,
    /// The hash of the envelope at `seq`.
    pub hash: [u8; 32],
}

/// 256 bucket digests of one section or of the feeds.
#[derive(Clone, PartialEq, Eq)]
pub struct Digests(pub Box<[[u8; DIGEST_BYTES]; BUCKETS]>);

impl Digests {
    /// The digests of nothing at all.
    pub fn empty() -> Self {
        Self(Box::new([[0; DIGEST_BYTES]; BUCKETS]))
    }

    /// One digest of all buckets.
    pub(crate) fn root(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_flattened()).into()
    }
}

impl Default for Digests {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Debug for Digests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filled = self.0.iter().filter(|digest| **digest != [0; DIGEST_BYTES]).count();
        write!(f, "Digests({filled} filled)")
    }
}

/// Everything a node holds, as bucket digests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Of [`Section::Documents`].
    pub documents: Digests,
    /// Of [`Section::Decisions`].
    pub decisions: Digests,
    /// Of [`Section::Proofs`].
    pub proofs: Digests,
    /// Of the feeds' heads.
    pub feeds: Digests,
    /// Of [`Section::Notices`].
    pub notices: Digests,
}

impl Summary {
    /// The digests of one section.
    pub fn section(&self, section: Section) -> &Digests {
        match section {
            Section::Documents => &self.documents,
            Section::Decisions => &self.decisions,
            Section::Proofs => &self.proofs,
            Section::Notices => &self.notices,
        }
    }
}

/// The bucket of an item: the first byte of its identity.
pub fn item_bucket(id: &[u8; 32]) -> u8 {
    id[0]
}

/// The bucket of a feed: the first byte of its key's SHA-256, so that nobody can crowd one by choosing a key.
pub fn feed_bucket(key: &HostKey) -> u8 {
    Sha256::digest(key)[0]
}

/// The digest of a bucket of items, given in ascending order of `id`.
pub fn digest_items<'a>(heads: impl IntoIterator<Item = &'a Head>) -> [u8; DIGEST_BYTES] {
    digest(heads.into_iter().map(|head| {
        let mut row = Vec::with_capacity(56);
        row.extend_from_slice(&head.id);
        head.order.iter().for_each(|part| row.extend_from_slice(&part.to_be_bytes()));
        row
    }))
}

/// The digest of a bucket of feeds, given in ascending order of (key, incarnation).
///
/// What is trimmed at the beginning does not count: two nodes that both hold the head are in step.
pub fn digest_feeds<'a>(heads: impl IntoIterator<Item = &'a FeedHead>) -> [u8; DIGEST_BYTES] {
    digest(heads.into_iter().map(|head| {
        let mut row = Vec::with_capacity(80);
        row.extend_from_slice(&head.key);
        row.extend_from_slice(&head.incarnation.to_be_bytes());
        row.extend_from_slice(&head.seq.to_be_bytes());
        row.extend_from_slice(&head.hash);
        row
    }))
}

/// Hashes rows of one fixed length; an empty bucket is all zeroes.
fn digest(rows: impl Iterator<Item = Vec<u8>>) -> [u8; DIGEST_BYTES] {
    let mut hasher = None;
    for row in rows {
        hasher.get_or_insert_with(Sha256::new).update(&row);
    }
    let mut digest = [0; DIGEST_BYTES];
    if let Some(hasher) = hasher {
        digest.copy_from_slice(&hasher.finalize()[..DIGEST_BYTES]);
    }
    digest
}

/// What this node holds and may tell other members.
///
/// Implemented by the agent over snapshots of its store; [`crate::Index`] keeps heads and digests. Called from
/// blocking tasks, several at once, so it may read a disk but must not wait for the node.
pub trait Library: Send + Sync + 'static {
    /// The digests of all buckets; called once per pull and once per peer's question.
    fn summary(&self) -> Summary;

    /// The heads of one bucket of a section, in ascending order of `id`.
    fn heads(&self, section: Section, bucket: u8) -> Vec<Head>;

    /// The bytes of one item, if it is held and no larger than [`crate::limits::ITEM_BYTES_MAX`].
    fn item(&self, section: Section, id: &[u8; 32]) -> Option<Vec<u8>>;

    /// The feeds of one bucket, in ascending order of (key, incarnation).
    fn feed_heads(&self, bucket: u8) -> Vec<FeedHead>;

    /// Envelopes `from..=to` of a feed, in order and without a gap, until the feed ends or `bytes_max` is passed.
    fn feed(&self, key: &HostKey, incarnation: u64, from: u64, to: u64, bytes_max: usize) -> Vec<Vec<u8>>;

    /// The fleet documents in ascending order of serial: all that an unknown key is told.
    fn fleet_documents(&self) -> Vec<Vec<u8>>;
}
