//! Heads and bucket digests kept in memory, so that a summary costs only what changed since the last.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::identity::HostKey;
use crate::library::{
    Digests, FeedHead, Head, Section, Summary, digest_feeds, digest_items, feed_bucket, item_bucket,
};

/// The heads of everything a node holds: the half of a [`crate::Library`] that is the same for every store.
///
/// Costs about 100 bytes per item and per feed.
#[derive(Debug, Clone, Default)]
pub struct Index {
    documents: Items,
    decisions: Items,
    proofs: Items,
    notices: Items,
    feeds: Feeds,
}

#[derive(Debug, Clone, Default)]
struct Items {
    orders: BTreeMap<[u8; 32], [u64; 3]>,
    digests: Digests,
    stale: BTreeSet<u8>,
}

#[derive(Debug, Clone, Default)]
struct Feeds {
    heads: BTreeMap<(u8, HostKey, u64), FeedHead>,
    digests: Digests,
    stale: BTreeSet<u8>,
}

impl Index {
    /// Notes that an item is held; a smaller `order` of the same `id` is replaced, a greater one stays.
    pub fn insert(&mut self, section: Section, head: Head) {
        let items = self.items_mut(section);
        let held = items.orders.entry(head.id).or_insert(head.order);
        *held = head.order.max(*held);
        items.stale.insert(item_bucket(&head.id));
    }

    /// Notes that an item is no longer held.
    pub fn remove(&mut self, section: Section, id: &[u8; 32]) {
        let items = self.items_mut(section);
        if items.orders.remove(id).is_some() {
            items.stale.insert(item_bucket(id));
        }
    }

    /// Says which version of an item is held.
    pub fn order(&self, section: Section, id: &[u8; 32]) -> Option<[u64; 3]> {
        self.items(section).orders.get(id).copied()
    }

    /// Notes how far a feed is held.
    pub fn insert_feed(&mut self, head: FeedHead) {
        let bucket = feed_bucket(&head.key);
        self.feeds.heads.insert((bucket, head.key, head.incarnation), head);
        self.feeds.stale.insert(bucket);
    }

    /// Forgets all feeds of a key: it left the fleet.
    pub fn remove_feeds(&mut self, key: &HostKey) {
        let bucket = feed_bucket(key);
        self.feeds.heads.retain(|(_, of, _), _| of != key);
        self.feeds.stale.insert(bucket);
    }

    /// Computes the digests of buckets that changed and returns all of them.
    pub fn summary(&mut self) -> Summary {
        Summary {
            documents: self.documents.refresh(),
            decisions: self.decisions.refresh(),
            proofs: self.proofs.refresh(),
            feeds: self.feeds.refresh(),
            notices: self.notices.refresh(),
        }
    }

    /// The heads of one bucket of a section.
    pub fn heads(&self, section: Section, bucket: u8) -> Vec<Head> {
        self.items(section).bucket(bucket)
    }

    /// The feeds of one bucket.
    pub fn feed_heads(&self, bucket: u8) -> Vec<FeedHead> {
        self.feeds.bucket(bucket)
    }

    fn items(&self, section: Section) -> &Items {
        match section {
            Section::Documents => &self.documents,
            Section::Decisions => &self.decisions,
            Section::Proofs => &self.proofs,
            Section::Notices => &self.notices,
        }
    }

    fn items_mut(&mut self, section: Section) -> &mut Items {
        match section {
            Section::Documents => &mut self.documents,
            Section::Decisions => &mut self.decisions,
            Section::Proofs => &mut self.proofs,
            Section::Notices => &mut self.notices,
        }
    }
}

impl Items {
    fn bucket(&self, bucket: u8) -> Vec<Head> {
        let (mut from, mut to) = ([0; 32], [0xff; 32]);
        (from[0], to[0]) = (bucket, bucket);
        let held = self.orders.range::<[u8; 32], RangeInclusive<[u8; 32]>>(from..=to);
        held.map(|(id, order)| Head { order: *order, id: *id }).collect()
    }

    fn refresh(&mut self) -> Digests {
        for bucket in std::mem::take(&mut self.stale) {
            self.digests.0[usize::from(bucket)] = digest_items(&self.bucket(bucket));
        }
        self.digests.clone()
    }
}

impl Feeds {
    fn bucket(&self, bucket: u8) -> Vec<FeedHead> {
        let range = (bucket, [0; 32], 0)..=(bucket, [0xff; 32], u64::MAX);
        self.heads.range(range).map(|(_, head)| *head).collect()
    }

    fn refresh(&mut self) -> Digests {
        for bucket in std::mem::take(&mut self.stale) {
            self.digests.0[usize::from(bucket)] = digest_feeds(&self.bucket(bucket));
        }
        self.digests.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(first: u8, order: u64) -> Head {
        let mut id = [0; 32];
        id[0] = first;
        Head { order: [order, 0, 0], id }
    }

    #[test]
    fn same_contents_have_the_same_summary_whatever_the_order() {
        let (mut one, mut other) = (Index::default(), Index::default());
        for first in [3, 9, 250] {
            one.insert(Section::Decisions, head(first, 1));
        }
        for first in [250, 3, 77, 9] {
            other.insert(Section::Decisions, head(first, 1));
        }
        assert_ne!(one.summary(), other.summary());
        other.remove(Section::Decisions, &head(77, 1).id);
        assert_eq!(one.summary(), other.summary());
        assert_eq!(one.heads(Section::Decisions, 9), vec![head(9, 1)]);
    }

    #[test]
    fn older_notice_does_not_replace_a_newer_one() {
        let mut index = Index::default();
        index.insert(Section::Notices, head(1, 5));
        index.insert(Section::Notices, head(1, 4));
        assert_eq!(index.order(Section::Notices, &head(1, 0).id), Some([5, 0, 0]));
    }

    #[test]
    fn feeds_of_a_dropped_key_leave_the_summary() {
        let mut index = Index::default();
        let empty = index.summary();
        let feed = FeedHead { key: [8; 32], incarnation: 1, first: 1, seq: 4, hash: [2; 32] };
        index.insert_feed(feed);
        assert_eq!(index.feed_heads(feed_bucket(&feed.key)), vec![feed]);
        index.remove_feeds(&feed.key);
        assert_eq!(index.summary(), empty);
    }
}
