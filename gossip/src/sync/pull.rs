//! One pull: compares digests with a peer, fetches what is missing, hands it to the node in causal order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;
use serde_bytes::{ByteArray, ByteBuf};
use tokio::sync::{mpsc, oneshot};

use super::frame::{Answer, FrameError, Range, Request, WireItem, decode_answer, encode};
use crate::event::{Event, Item};
use crate::identity::HostKey;
use crate::library::{Digests, FeedHead, Head, Library, SECTIONS, Section};
use crate::limits::{
    BUCKETS, BUSY_RETRIES_MAX, BUSY_WAIT_MAX, DIGEST_BYTES, IDS_PER_REQUEST_MAX, ITEM_BYTES_MAX,
    RANGES_PER_REQUEST_MAX, REQUESTS_PER_PULL_MAX, WANTED_MAX,
};
use crate::queue::Sender;

/// Which protocol a question is asked over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Sync,
    Enroll,
}

/// A question that a pull puts to a peer through the swarm; dropping `reply` says that there is no answer.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) peer: PeerId,
    pub(crate) protocol: Protocol,
    pub(crate) request: Vec<u8>,
    pub(crate) reply: oneshot::Sender<Vec<u8>>,
}

/// Why a pull ended early; the next one begins anew.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    #[error("the peer did not answer")]
    NoAnswer,
    #[error("the peer answered something else than was asked")]
    WrongAnswer,
    #[error("the peer made no progress")]
    Stuck,
    #[error("the pull took {REQUESTS_PER_PULL_MAX} requests")]
    TooManyRequests,
    #[error("the peer stayed busy")]
    Busy,
    #[error("the node reads no events any more")]
    Closed,
    #[error("the library failed")]
    Library,
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Puts questions to one peer.
#[derive(Debug)]
pub(crate) struct Asker {
    peer: PeerId,
    asks: mpsc::Sender<Ask>,
    left: usize,
}

impl Asker {
    pub(crate) fn new(peer: PeerId, asks: mpsc::Sender<Ask>) -> Self {
        Self { peer, asks, left: REQUESTS_PER_PULL_MAX }
    }

    /// Asks once and waits for the answer's bytes.
    pub(crate) async fn ask(&mut self, protocol: Protocol, request: Vec<u8>) -> Result<Vec<u8>, PullError> {
        self.left = self.left.checked_sub(1).ok_or(PullError::TooManyRequests)?;
        let (reply, answer) = oneshot::channel();
        let ask = Ask { peer: self.peer, protocol, request, reply };
        self.asks.send(ask).await.map_err(|_| PullError::Closed)?;
        answer.await.map_err(|_| PullError::NoAnswer)
    }

    /// Asks in sync, again after a pause while the peer is busy.
    async fn sync(&mut self, request: &Request) -> Result<Answer, PullError> {
        let bytes = encode(request);
        for _ in 0..BUSY_RETRIES_MAX {
            match decode_answer(&self.ask(Protocol::Sync, bytes.clone()).await?)? {
                Answer::Busy { wait_ms } => {
                    tokio::time::sleep(Duration::from_millis(u64::from(wait_ms)).min(BUSY_WAIT_MAX)).await;
                }
                answer @ (Answer::Have { .. }
                | Answer::Heads { .. }
                | Answer::FeedHeads { .. }
                | Answer::Items { .. }
                | Answer::Part { .. }
                | Answer::Feeds { .. }) => return Ok(answer),
            }
        }
        Err(PullError::Busy)
    }
}

/// What of the peer's differs from what is held here.
struct Differing {
    sections: BTreeMap<Section, Vec<u8>>,
    feeds: Vec<u8>,
}

/// A pull in progress.
pub(crate) struct Pull {
    pub(crate) from: HostKey,
    pub(crate) asker: Asker,
    pub(crate) library: Arc<dyn Library>,
    pub(crate) events: Sender<Event>,
}

impl Pull {
    /// Brings this node up to what the peer holds, then says so; says also when it broke off.
    pub(crate) async fn run(mut self) -> Result<(), PullError> {
        let result = self.fetch_all().await;
        let end = Event::Synced { from: self.from, items: Vec::new(), complete: result.is_ok() };
        self.events.send(end, 0).await;
        result
    }

    async fn fetch_all(&mut self) -> Result<(), PullError> {
        let differing = self.compare().await?;
        for section in SECTIONS {
            // Notices speak of feed heads, so they come after the feeds.
            if section == Section::Notices {
                self.fetch_feeds(&differing.feeds).await?;
            }
            if let Some(buckets) = differing.sections.get(&section) {
                self.fetch_section(section, buckets).await?;
            }
        }
        Ok(())
    }

    async fn compare(&mut self) -> Result<Differing, PullError> {
        let own = self.blocking(|library| library.summary()).await?;
        let root = |digests: &Digests| ByteArray::new(digests.root());
        let request = Request::Have {
            documents: root(&own.documents),
            decisions: root(&own.decisions),
            proofs: root(&own.proofs),
            feeds: root(&own.feeds),
            notices: root(&own.notices),
        };
        let Answer::Have { documents, decisions, proofs, feeds, notices } = self.asker.sync(&request).await?
        else {
            return Err(PullError::WrongAnswer);
        };
        let theirs = [documents, decisions, proofs, notices];
        let sections = SECTIONS.into_iter().zip(theirs);
        Ok(Differing {
            sections: sections
                .map(|(section, theirs)| (section, differing_buckets(own.section(section), theirs.as_ref())))
                .collect(),
            feeds: differing_buckets(&own.feeds, feeds.as_ref()),
        })
    }

    async fn fetch_section(&mut self, section: Section, buckets: &[u8]) -> Result<(), PullError> {
        let mut wanted = self.wanted_items(section, buckets).await?;
        wanted.sort_unstable();
        let mut rest = wanted.as_slice();
        while !rest.is_empty() {
            let batch = &rest[..rest.len().min(IDS_PER_REQUEST_MAX)];
            let ids = batch.iter().map(|head| ByteArray::new(head.id)).collect();
            let Answer::Items { items } =
                self.asker.sync(&Request::Items { section: section.into(), ids }).await?
            else {
                return Err(PullError::WrongAnswer);
            };
            if items.is_empty() || items.len() > batch.len() {
                return Err(PullError::Stuck);
            }
            let answered = items.len();
            let mut fetched = Vec::new();
            for (head, item) in batch.iter().zip(items) {
                match item {
                    WireItem::Here(bytes) => fetched.push(bytes.into_vec()),
                    WireItem::Large => fetched.extend(self.fetch_in_parts(section, head).await?),
                    WireItem::Absent => {}
                }
            }
            self.deliver(fetched.into_iter().map(|bytes| item_of(section, bytes)).collect()).await?;
            rest = &rest[answered..];
        }
        Ok(())
    }

    async fn wanted_items(&mut self, section: Section, buckets: &[u8]) -> Result<Vec<Head>, PullError> {
        let (mut wanted, mut rest) = (Vec::new(), buckets);
        while !rest.is_empty() && wanted.len() < WANTED_MAX {
            let request = Request::Heads { section: section.into(), buckets: ByteBuf::from(rest) };
            let Answer::Heads { buckets, heads } = self.asker.sync(&request).await? else {
                return Err(PullError::WrongAnswer);
            };
            let covered = covered(rest, buckets)?.to_vec();
            rest = &rest[covered.len()..];
            let missing = self.blocking(move |library| {
                let own = covered.iter().flat_map(|bucket| library.heads(section, *bucket));
                let own: BTreeMap<_, _> = own.map(|head| (head.id, head.order)).collect();
                let mut theirs: Vec<Head> = heads.into_iter().map(Into::into).collect();
                theirs.retain(|head| own.get(&head.id).is_none_or(|order| *order < head.order));
                theirs
            });
            wanted.append(&mut missing.await?);
        }
        wanted.truncate(WANTED_MAX);
        Ok(wanted)
    }

    async fn fetch_in_parts(&mut self, section: Section, head: &Head) -> Result<Option<Vec<u8>>, PullError> {
        let mut item = Vec::new();
        loop {
            let (section, id) = (section.into(), ByteArray::new(head.id));
            let request = Request::Part { section, id, offset: item.len() as u64 };
            let Answer::Part { total, bytes } = self.asker.sync(&request).await? else {
                return Err(PullError::WrongAnswer);
            };
            match append(&mut item, total, &bytes)? {
                Appended::Whole => return Ok(Some(item)),
                Appended::Part => {}
                Appended::Nothing => return Ok(None),
            }
        }
    }

    async fn fetch_feeds(&mut self, buckets: &[u8]) -> Result<(), PullError> {
        let mut rest = buckets;
        while !rest.is_empty() {
            let request = Request::FeedHeads { buckets: ByteBuf::from(rest) };
            let Answer::FeedHeads { buckets, heads } = self.asker.sync(&request).await? else {
                return Err(PullError::WrongAnswer);
            };
            let covered = covered(rest, buckets)?.to_vec();
            rest = &rest[covered.len()..];
            let ranges = self.blocking(move |library| {
                let own = covered.iter().flat_map(|bucket| library.feed_heads(*bucket));
                let own: BTreeMap<_, _> = own.map(|head| ((head.key, head.incarnation), head)).collect();
                let mut theirs: Vec<FeedHead> = heads.into_iter().map(Into::into).collect();
                theirs.sort_unstable();
                theirs
                    .iter()
                    .filter_map(|head| missing(own.get(&(head.key, head.incarnation)), head))
                    .collect()
            });
            let ranges: Vec<Range> = ranges.await?;
            self.fetch_ranges(ranges).await?;
        }
        Ok(())
    }

    async fn fetch_ranges(&mut self, mut ranges: Vec<Range>) -> Result<(), PullError> {
        ranges.reverse();
        while !ranges.is_empty() {
            let batch = ranges.iter().rev().take(RANGES_PER_REQUEST_MAX).copied().collect::<Vec<_>>();
            let asked = batch.len();
            let Answer::Feeds { feeds, cut } = self.asker.sync(&Request::Feeds { ranges: batch }).await?
            else {
                return Err(PullError::WrongAnswer);
            };
            let answered = feeds.len();
            if answered == 0 || answered > asked {
                return Err(PullError::Stuck);
            }
            let mut items = Vec::new();
            for (place, envelopes) in feeds.into_iter().enumerate() {
                let Some(mut range) = ranges.pop() else { return Err(PullError::Stuck) };
                let (taken, to_be_continued) = (envelopes.len() as u64, cut && place + 1 == answered);
                items.extend(envelopes.into_iter().map(|bytes| Item::Envelope(bytes.into_vec())));
                if to_be_continued && taken == 0 && answered == 1 {
                    return Err(PullError::Stuck);
                }
                range.from = range.from.saturating_add(taken);
                if to_be_continued && range.from <= range.to {
                    ranges.push(range);
                }
            }
            self.deliver(items).await?;
        }
        Ok(())
    }

    async fn deliver(&self, items: Vec<Item>) -> Result<(), PullError> {
        deliver(&self.events, self.from, items).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Library) -> T + Send + 'static,
    ) -> Result<T, PullError> {
        let library = Arc::clone(&self.library);
        tokio::task::spawn_blocking(move || work(library.as_ref())).await.map_err(|_| PullError::Library)
    }
}

/// Hands items to the node, waiting until it has room for them.
pub(crate) async fn deliver(
    events: &Sender<Event>,
    from: HostKey,
    items: Vec<Item>,
) -> Result<(), PullError> {
    if items.is_empty() {
        return Ok(());
    }
    let event = Event::Synced { from, items, complete: false };
    let bytes = event.bytes();
    if events.send(event, bytes).await { Ok(()) } else { Err(PullError::Closed) }
}

/// What a part did to an item.
pub(crate) enum Appended {
    Whole,
    Part,
    Nothing,
}

/// Adds a part to an item that is fetched in parts, within the limit of one item.
pub(crate) fn append(item: &mut Vec<u8>, total: u64, bytes: &[u8]) -> Result<Appended, PullError> {
    if total == 0 {
        return Ok(Appended::Nothing);
    }
    item.extend_from_slice(bytes);
    let (held, total) = (item.len() as u64, total.min(ITEM_BYTES_MAX as u64));
    match held.cmp(&total) {
        std::cmp::Ordering::Equal => Ok(Appended::Whole),
        std::cmp::Ordering::Less if !bytes.is_empty() => Ok(Appended::Part),
        std::cmp::Ordering::Less | std::cmp::Ordering::Greater => Err(PullError::Stuck),
    }
}

/// The buckets whose digests differ; none, when the peer says that all are the same.
fn differing_buckets(own: &Digests, theirs: Option<&ByteBuf>) -> Vec<u8> {
    let Some(theirs) = theirs else { return Vec::new() };
    let pairs = own.0.iter().zip(theirs.chunks(DIGEST_BYTES)).take(BUCKETS);
    let differing = pairs.zip(0..=u8::MAX).filter(|((own, theirs), _)| own.as_slice() != *theirs);
    differing.map(|(_, bucket)| bucket).collect()
}

/// The buckets that an answer spoke of: at least one, at most those that were asked for.
fn covered(asked: &[u8], buckets: u16) -> Result<&[u8], PullError> {
    match asked.get(..usize::from(buckets)) {
        Some(covered) if !covered.is_empty() => Ok(covered),
        Some(_) | None => Err(PullError::Stuck),
    }
}

/// The range of a peer's feed that is missing here.
///
/// Equal positions with different hashes are a fork: that one envelope is its proof.
fn missing(own: Option<&FeedHead>, theirs: &FeedHead) -> Option<Range> {
    let from = match own {
        Some(own) if own.seq == theirs.seq && own.hash != theirs.hash => theirs.seq,
        Some(own) if own.seq >= theirs.seq => return None,
        Some(own) => theirs.first.max(own.seq.saturating_add(1)),
        None => theirs.first,
    };
    let (key, incarnation) = (ByteArray::new(theirs.key), theirs.incarnation);
    (from <= theirs.seq).then_some(Range { key, incarnation, from, to: theirs.seq })
}

fn item_of(section: Section, bytes: Vec<u8>) -> Item {
    match section {
        Section::Documents => Item::Document(bytes),
        Section::Decisions => Item::Decision(bytes),
        Section::Proofs => Item::Proof(bytes),
        Section::Notices => Item::Notice(bytes),
    }
}
