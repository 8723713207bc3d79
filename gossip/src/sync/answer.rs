//! Answers what members and newcomers ask, from the library and within one frame.

use serde_bytes::{ByteArray, ByteBuf};

use super::frame::{
    Answer, EnrollAnswer, EnrollRequest, FrameError, Range, Request, Root, WireItem, decode_enroll_request,
    decode_request, encode,
};
use crate::library::{Digests, Library, Section};
use crate::limits::{ANSWER_BYTES_MAX, ENROLL_DOCUMENTS_MAX, HEADS_PER_ANSWER_MAX, ITEM_BYTES_MAX};

/// Bytes that the framing of one item can take.
const ITEM_OVERHEAD: usize = 16;

/// Answers one sync request; what is malformed has no answer.
pub(crate) fn sync(library: &dyn Library, request: &[u8]) -> Result<Vec<u8>, FrameError> {
    let answer = match decode_request(request)? {
        Request::Have { documents, decisions, proofs, feeds, notices } => {
            let own = library.summary();
            Answer::Have {
                documents: unless_same(&own.documents, &documents),
                decisions: unless_same(&own.decisions, &decisions),
                proofs: unless_same(&own.proofs, &proofs),
                feeds: unless_same(&own.feeds, &feeds),
                notices: unless_same(&own.notices, &notices),
            }
        }
        Request::Heads { section, buckets } => {
            let (buckets, heads) = collect(&buckets, |bucket| library.heads(section.into(), bucket));
            Answer::Heads { buckets, heads: heads.into_iter().map(Into::into).collect() }
        }
        Request::FeedHeads { buckets } => {
            let (buckets, heads) = collect(&buckets, |bucket| library.feed_heads(bucket));
            Answer::FeedHeads { buckets, heads: heads.into_iter().map(Into::into).collect() }
        }
        Request::Items { section, ids } => items(library, section.into(), &ids),
        Request::Part { section, id, offset } => {
            let item = library.item(section.into(), &id).unwrap_or_default();
            Answer::Part { total: item.len() as u64, bytes: part(&item, offset) }
        }
        Request::Feeds { ranges } => feeds(library, &ranges),
    };
    Ok(encode(&answer))
}

/// Answers a newcomer; says whether that was the last byte of the last document.
pub(crate) fn enroll(library: &dyn Library, request: &[u8]) -> Result<(Vec<u8>, bool), FrameError> {
    let EnrollRequest { index, offset } = decode_enroll_request(request)?;
    let mut documents = library.fleet_documents();
    documents.retain(|document| document.len() <= ITEM_BYTES_MAX);
    let newest = documents.split_off(documents.len().saturating_sub(ENROLL_DOCUMENTS_MAX));
    let asked = newest.get(index as usize).map(Vec::as_slice).unwrap_or_default();
    let bytes = part(asked, offset);
    let at_end = offset.saturating_add(bytes.len() as u64) >= asked.len() as u64;
    let last = at_end && index as usize + 1 >= newest.len();
    let answer = EnrollAnswer { count: newest.len() as u32, total: asked.len() as u64, bytes };
    Ok((encode(&answer), last))
}

fn unless_same(own: &Digests, theirs: &Root) -> Option<ByteBuf> {
    (own.root() != **theirs).then(|| ByteBuf::from(own.0.as_flattened().to_vec()))
}

/// Gathers the heads of as many buckets as fit into an answer, of at least one.
fn collect<H>(buckets: &[u8], heads_of: impl Fn(u8) -> Vec<H>) -> (u16, Vec<H>) {
    let (mut covered, mut all) = (0, Vec::new());
    for bucket in buckets {
        let mut heads = heads_of(*bucket);
        if covered > 0 && all.len() + heads.len() > HEADS_PER_ANSWER_MAX {
            break;
        }
        heads.truncate(HEADS_PER_ANSWER_MAX);
        all.append(&mut heads);
        covered += 1;
    }
    (covered, all)
}

fn items(library: &dyn Library, section: Section, ids: &[ByteArray<32>]) -> Answer {
    let (mut items, mut bytes) = (Vec::new(), 0);
    for id in ids {
        let item = match library.item(section, id) {
            None => WireItem::Absent,
            Some(item) if item.len() + ITEM_OVERHEAD > ANSWER_BYTES_MAX => WireItem::Large,
            Some(item) => WireItem::Here(ByteBuf::from(item)),
        };
        bytes += ITEM_OVERHEAD + if let WireItem::Here(item) = &item { item.len() } else { 0 };
        if bytes > ANSWER_BYTES_MAX {
            break;
        }
        items.push(item);
    }
    Answer::Items { items }
}

fn part(item: &[u8], offset: u64) -> ByteBuf {
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(item.len());
    let to = (from + ANSWER_BYTES_MAX).min(item.len());
    ByteBuf::from(item[from..to].to_vec())
}

fn feeds(library: &dyn Library, ranges: &[Range]) -> Answer {
    let (mut feeds, mut left, mut cut) = (Vec::new(), ANSWER_BYTES_MAX, false);
    for range in ranges {
        let envelopes = library.feed(&range.key, range.incarnation, range.from, range.to, left);
        let mut taken = Vec::new();
        for envelope in envelopes {
            let cost = envelope.len() + ITEM_OVERHEAD;
            if cost > left {
                cut = true;
                break;
            }
            left -= cost;
            taken.push(ByteBuf::from(envelope));
        }
        // A library that stopped at the byte limit rather than at the feed's end has more to tell.
        let wanted = range.to.saturating_sub(range.from).saturating_add(1);
        cut |= (taken.len() as u64) < wanted && !taken.is_empty();
        feeds.push(taken);
        left = left.saturating_sub(ITEM_OVERHEAD);
        if cut {
            break;
        }
    }
    Answer::Feeds { feeds, cut }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::identity::HostKey;
    use crate::library::{FeedHead, Head, Summary};
    use crate::sync::frame::{EnrollRequest, decode_answer, decode_enroll_answer};

    /// Holds as many items as it is asked for, each of the given size.
    struct Endless(usize);

    impl Library for Endless {
        fn summary(&self) -> Summary {
            Summary::default()
        }

        fn heads(&self, _: Section, bucket: u8) -> Vec<Head> {
            vec![Head { order: [0; 3], id: [bucket; 32] }; 1000]
        }

        fn item(&self, _: Section, _: &[u8; 32]) -> Option<Vec<u8>> {
            Some(vec![1; self.0])
        }

        fn feed_heads(&self, _: u8) -> Vec<FeedHead> {
            vec![
                FeedHead {
                    key: [255; 32],
                    incarnation: u64::MAX,
                    first: u64::MAX,
                    seq: u64::MAX,
                    hash: [9; 32]
                };
                1000
            ]
        }

        fn feed(&self, _: &HostKey, _: u64, from: u64, to: u64, bytes_max: usize) -> Vec<Vec<u8>> {
            let fitting = bytes_max / self.0.max(1) + 1;
            (from..=to).take(fitting).map(|_| vec![1; self.0]).collect()
        }

        fn fleet_documents(&self) -> Vec<Vec<u8>> {
            vec![vec![1; self.0]; 100]
        }
    }

    #[test]
    fn no_answer_exceeds_a_frame_and_each_makes_progress() {
        let id = ByteArray::new([1; 32]);
        let buckets = || ByteBuf::from((0..=u8::MAX).collect::<Vec<_>>());
        let range = Range { key: id, incarnation: 1, from: 1, to: u64::MAX };
        for size in [1, 100, 5_000, 700_000, ANSWER_BYTES_MAX + 1, ITEM_BYTES_MAX] {
            let requests = [
                Request::Heads { section: Section::Decisions.into(), buckets: buckets() },
                Request::FeedHeads { buckets: buckets() },
                Request::Items { section: Section::Decisions.into(), ids: vec![id; 1024] },
                Request::Part { section: Section::Documents.into(), id, offset: 0 },
                Request::Feeds { ranges: vec![range; 256] },
            ];
            for request in requests {
                let bytes = sync(&Endless(size), &encode(&request)).unwrap();
                let progress = match decode_answer(&bytes).unwrap() {
                    Answer::Heads { buckets, .. } | Answer::FeedHeads { buckets, .. } => usize::from(buckets),
                    Answer::Items { items } => items.len(),
                    Answer::Part { bytes, .. } => bytes.len(),
                    // An envelope that exceeds a frame cannot have been gossiped; it is cut off, and the asker gives up.
                    Answer::Feeds { feeds, cut } => feeds.len().max(usize::from(cut)),
                    Answer::Have { .. } | Answer::Busy { .. } => 0,
                };
                assert!(progress > 0, "{request:?} of items of {size} bytes");
            }
            let request = encode(&EnrollRequest { index: 0, offset: 0 });
            let (bytes, _) = enroll(&Endless(size), &request).unwrap();
            decode_enroll_answer(&bytes).unwrap();
        }
    }

    #[test]
    fn nodes_in_step_exchange_next_to_nothing_and_others_the_digests_that_differ() {
        let same = ByteArray::new(Digests::empty().root());
        let other = ByteArray::new([1; 32]);
        let exchanged = |notices| {
            let request =
                Request::Have { documents: same, decisions: same, proofs: same, feeds: same, notices };
            let request = encode(&request);
            request.len() + sync(&Endless(1), &request).unwrap().len()
        };
        assert!(exchanged(same) < 512);
        assert!(exchanged(other) < 10 * 1024);
    }

    #[test]
    fn newcomer_is_told_when_there_is_nothing_more() {
        let asked = |size, index, offset| {
            let request = encode(&EnrollRequest { index, offset });
            enroll(&Endless(size), &request).unwrap().1
        };
        let newest = ENROLL_DOCUMENTS_MAX as u32 - 1;
        assert!(!asked(10, 0, 0));
        assert!(asked(10, newest, 0));
        assert!(!asked(2 * ANSWER_BYTES_MAX, newest, 0));
        assert!(asked(2 * ANSWER_BYTES_MAX, newest, ANSWER_BYTES_MAX as u64));
        assert!(asked(10, u32::MAX, u64::MAX));
    }
}
