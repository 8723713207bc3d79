//! The frames of sync and enrolment: CBOR, each kind with its own limit, refused as a whole when it breaks one.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};

use crate::library::{FeedHead, Head, Section};
use crate::limits::{
    BUCKETS, DIGEST_BYTES, ENROLL_DOCUMENTS_MAX, FRAME_BYTES_MAX, HEADS_PER_ANSWER_MAX, IDS_PER_REQUEST_MAX,
    ITEM_BYTES_MAX, RANGES_PER_REQUEST_MAX, REQUEST_BYTES_MAX,
};

/// Why a frame was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// Longer than its kind may be.
    #[error("a frame of {bytes} bytes exceeds {max}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Not the CBOR of any known frame.
    #[error("the frame is no known message")]
    Malformed,
    /// A list in it is longer than may be.
    #[error("a list of {len} exceeds {max}")]
    ListTooLong {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
}

/// What a node asks a peer in sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) enum Request {
    /// What do you hold? Digests that equal these roots need not be told.
    Have { documents: Root, decisions: Root, proofs: Root, feeds: Root, notices: Root },
    /// Which items are in these buckets?
    Heads { section: Kind, buckets: ByteBuf },
    /// Which feeds are in these buckets?
    FeedHeads { buckets: ByteBuf },
    /// These items, please.
    Items { section: Kind, ids: Vec<Id> },
    /// A large item's bytes from an offset on.
    Part { section: Kind, id: Id, offset: u64 },
    /// These ranges of feeds, please.
    Feeds { ranges: Vec<Range> },
}

/// A 32-byte digest of 256 bucket digests.
pub(crate) type Root = ByteArray<32>;
/// An item's identity.
pub(crate) type Id = ByteArray<32>;

/// A section, on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Documents,
    Decisions,
    Proofs,
    Notices,
}

impl From<Section> for Kind {
    fn from(section: Section) -> Self {
        match section {
            Section::Documents => Self::Documents,
            Section::Decisions => Self::Decisions,
            Section::Proofs => Self::Proofs,
            Section::Notices => Self::Notices,
        }
    }
}

impl From<Kind> for Section {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Documents => Self::Documents,
            Kind::Decisions => Self::Decisions,
            Kind::Proofs => Self::Proofs,
            Kind::Notices => Self::Notices,
        }
    }
}

/// A range of a feed, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Range {
    pub(crate) key: ByteArray<32>,
    pub(crate) incarnation: u64,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// An item's head, on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireHead(Id, [u64; 3]);

impl From<Head> for WireHead {
    fn from(head: Head) -> Self {
        Self(ByteArray::new(head.id), head.order)
    }
}

impl From<WireHead> for Head {
    fn from(WireHead(id, order): WireHead) -> Self {
        Self { order, id: id.into_array() }
    }
}

/// A feed's head, on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireFeedHead(ByteArray<32>, u64, u64, u64, ByteArray<32>);

impl From<FeedHead> for WireFeedHead {
    fn from(head: FeedHead) -> Self {
        Self(ByteArray::new(head.key), head.incarnation, head.first, head.seq, ByteArray::new(head.hash))
    }
}

impl From<WireFeedHead> for FeedHead {
    fn from(WireFeedHead(key, incarnation, first, seq, hash): WireFeedHead) -> Self {
        Self { key: key.into_array(), incarnation, first, seq, hash: hash.into_array() }
    }
}

/// What a peer answers in sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) enum Answer {
    /// Bucket digests, one after the other; none where the asker's root is the same.
    Have {
        documents: Option<ByteBuf>,
        decisions: Option<ByteBuf>,
        proofs: Option<ByteBuf>,
        feeds: Option<ByteBuf>,
        notices: Option<ByteBuf>,
    },
    /// Heads of the first `buckets` buckets that were asked for.
    Heads { buckets: u16, heads: Vec<WireHead> },
    /// Feeds of the first `buckets` buckets that were asked for.
    FeedHeads { buckets: u16, heads: Vec<WireFeedHead> },
    /// One entry for each of the first ids that were asked for.
    Items { items: Vec<WireItem> },
    /// Bytes of an item of `total` bytes.
    Part { total: u64, bytes: ByteBuf },
    /// One list of envelopes for each of the first ranges; the last is `cut` when there is more of it.
    Feeds { feeds: Vec<Vec<ByteBuf>>, cut: bool },
    /// Ask again after so many milliseconds.
    Busy { wait_ms: u32 },
}

/// An item, on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WireItem {
    /// Its bytes.
    Here(ByteBuf),
    /// It is held, but must be fetched in parts.
    Large,
    /// It is not held.
    Absent,
}

/// What a newcomer asks: the fleet document at `index`, from `offset` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnrollRequest {
    pub(crate) index: u32,
    pub(crate) offset: u64,
}

/// What a newcomer is answered: how many fleet documents there are, and bytes of the one it asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnrollAnswer {
    pub(crate) count: u32,
    pub(crate) total: u64,
    pub(crate) bytes: ByteBuf,
}

/// Encodes a frame.
pub(crate) fn encode<T: Serialize>(frame: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    match ciborium::into_writer(frame, &mut bytes) {
        Ok(()) => bytes,
        // A vector takes every write and every frame is plain data, so nothing ends here; an empty frame is refused
        // by its reader.
        Err(_) => Vec::new(),
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8], max: usize) -> Result<T, FrameError> {
    at_most(bytes.len(), max).map_err(|_| FrameError::TooLong { bytes: bytes.len(), max })?;
    let mut rest = bytes;
    let frame = ciborium::from_reader(&mut rest).map_err(|_| FrameError::Malformed)?;
    if rest.is_empty() { Ok(frame) } else { Err(FrameError::Malformed) }
}

fn at_most(len: usize, max: usize) -> Result<(), FrameError> {
    if len <= max { Ok(()) } else { Err(FrameError::ListTooLong { len, max }) }
}

/// Reads a sync request.
pub(crate) fn decode_request(bytes: &[u8]) -> Result<Request, FrameError> {
    let request = decode(bytes, REQUEST_BYTES_MAX)?;
    match &request {
        Request::Have { .. } | Request::Part { .. } => {}
        Request::Heads { buckets, .. } | Request::FeedHeads { buckets } => at_most(buckets.len(), BUCKETS)?,
        Request::Items { ids, .. } => at_most(ids.len(), IDS_PER_REQUEST_MAX)?,
        Request::Feeds { ranges } => at_most(ranges.len(), RANGES_PER_REQUEST_MAX)?,
    }
    Ok(request)
}

/// Reads a sync answer.
pub(crate) fn decode_answer(bytes: &[u8]) -> Result<Answer, FrameError> {
    let answer = decode(bytes, FRAME_BYTES_MAX)?;
    match &answer {
        Answer::Have { documents, decisions, proofs, feeds, notices } => {
            for digests in [documents, decisions, proofs, feeds, notices].into_iter().flatten() {
                if digests.len() != BUCKETS * DIGEST_BYTES {
                    return Err(FrameError::Malformed);
                }
            }
        }
        Answer::Heads { heads, .. } => at_most(heads.len(), HEADS_PER_ANSWER_MAX)?,
        Answer::FeedHeads { heads, .. } => at_most(heads.len(), HEADS_PER_ANSWER_MAX)?,
        Answer::Items { items } => at_most(items.len(), IDS_PER_REQUEST_MAX)?,
        Answer::Feeds { feeds, .. } => at_most(feeds.len(), RANGES_PER_REQUEST_MAX)?,
        Answer::Part { total, .. } => at_most(clamp(*total), ITEM_BYTES_MAX)?,
        Answer::Busy { .. } => {}
    }
    Ok(answer)
}

/// Reads a newcomer's request.
pub(crate) fn decode_enroll_request(bytes: &[u8]) -> Result<EnrollRequest, FrameError> {
    decode(bytes, REQUEST_BYTES_MAX)
}

/// Reads the answer to a newcomer.
pub(crate) fn decode_enroll_answer(bytes: &[u8]) -> Result<EnrollAnswer, FrameError> {
    let answer: EnrollAnswer = decode(bytes, FRAME_BYTES_MAX)?;
    at_most(answer.count as usize, ENROLL_DOCUMENTS_MAX)?;
    at_most(clamp(answer.total), ITEM_BYTES_MAX)?;
    Ok(answer)
}

fn clamp(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
