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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// A valid frame of each kind.
    fn frames() -> Vec<Vec<u8>> {
        let id = ByteArray::new([7; 32]);
        let range = Range { key: id, incarnation: 1, from: 2, to: 3 };
        let digests = || Some(ByteBuf::from(vec![1; BUCKETS * DIGEST_BYTES]));
        let head = Head { order: [1, 2, 3], id: [7; 32] };
        let feed = FeedHead { key: [1; 32], incarnation: 1, first: 1, seq: 9, hash: [2; 32] };
        let requests = [
            Request::Have { documents: id, decisions: id, proofs: id, feeds: id, notices: id },
            Request::Heads { section: Kind::Notices, buckets: ByteBuf::from(vec![1, 2]) },
            Request::FeedHeads { buckets: ByteBuf::from(vec![0; BUCKETS]) },
            Request::Items { section: Kind::Documents, ids: vec![id; IDS_PER_REQUEST_MAX] },
            Request::Part { section: Kind::Documents, id, offset: 9 },
            Request::Feeds { ranges: vec![range; 2] },
        ];
        let answers = [
            Answer::Have {
                documents: digests(),
                decisions: None,
                proofs: None,
                feeds: digests(),
                notices: None,
            },
            Answer::Heads { buckets: 2, heads: vec![head.into()] },
            Answer::FeedHeads { buckets: 1, heads: vec![feed.into()] },
            Answer::Items {
                items: vec![WireItem::Here(ByteBuf::from(vec![1])), WireItem::Large, WireItem::Absent],
            },
            Answer::Part { total: 5, bytes: ByteBuf::from(vec![1; 5]) },
            Answer::Feeds { feeds: vec![vec![ByteBuf::from(vec![1])], Vec::new()], cut: true },
            Answer::Busy { wait_ms: 100 },
        ];
        let enroll = EnrollAnswer { count: 1, total: 1, bytes: ByteBuf::from(vec![1]) };
        let mut all = Vec::new();
        for request in requests {
            all.push(encode(&request));
            assert_eq!(decode_request(&encode(&request)), Ok(request));
        }
        for answer in answers {
            all.push(encode(&answer));
            assert_eq!(decode_answer(&encode(&answer)), Ok(answer));
        }
        all.push(encode(&EnrollRequest { index: 1, offset: 0 }));
        assert_eq!(decode_enroll_answer(&encode(&enroll)), Ok(enroll.clone()));
        all.push(encode(&enroll));
        all
    }

    fn decode_as_anything(bytes: &[u8]) {
        // What is refused is as good as what is read: only a panic or an endless list would be wrong.
        let _read = (decode_request(bytes), decode_answer(bytes));
        let _read = (decode_enroll_request(bytes), decode_enroll_answer(bytes));
    }

    #[test]
    fn every_frame_is_read_as_it_was_written() {
        assert_eq!(frames().len(), 15);
    }

    #[test]
    fn arbitrary_bytes_never_panic_a_decoder() {
        let mut state = 0x5eed_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        for _ in 0..20_000 {
            let noise: Vec<u8> = (0..random() % 64).map(|_| random() as u8).collect();
            decode_as_anything(&noise);
        }
        for frame in frames() {
            for _ in 0..500 {
                let mut changed = frame.clone();
                changed.truncate(1 + random() % frame.len());
                let at = random() % changed.len();
                changed[at] = random() as u8;
                decode_as_anything(&changed);
            }
        }
    }

    #[test]
    fn frame_that_breaks_a_limit_is_refused() {
        let id = ByteArray::new([7; 32]);
        let ids = |count| encode(&Request::Items { section: Kind::Documents, ids: vec![id; count] });
        assert!(decode_request(&ids(IDS_PER_REQUEST_MAX)).is_ok());
        let (len, max) = (IDS_PER_REQUEST_MAX + 1, IDS_PER_REQUEST_MAX);
        assert_eq!(decode_request(&ids(len)), Err(FrameError::ListTooLong { len, max }));
        let (bytes, max) = (REQUEST_BYTES_MAX + 1, REQUEST_BYTES_MAX);
        assert_eq!(decode_request(&vec![0; bytes]), Err(FrameError::TooLong { bytes, max }));
        let mut trailing = ids(1);
        trailing.push(0);
        assert_eq!(decode_request(&trailing), Err(FrameError::Malformed));
        let short = Some(ByteBuf::from(vec![1; 16]));
        let short =
            Answer::Have { documents: short, decisions: None, proofs: None, feeds: None, notices: None };
        assert_eq!(decode_answer(&encode(&short)), Err(FrameError::Malformed));
        let deep = vec![0x81; 4096];
        assert_eq!(decode_answer(&deep), Err(FrameError::Malformed));
        let endless = [0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(decode_answer(&endless), Err(FrameError::Malformed));
        let huge = ciborium::value::Value::Bytes(vec![0; 8]);
        let mut bytes = Vec::new();
        ciborium::into_writer(&huge, &mut bytes).unwrap();
        assert_eq!(decode_enroll_answer(&bytes), Err(FrameError::Malformed));
    }
}
