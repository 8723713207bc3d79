//! A store in memory: the library that a node answers from, filled by what sync brings.

use std::collections::BTreeMap;
use std::sync::Mutex;

use muster_gossip::{FeedHead, Head, HostKey, Index, Item, Library, Section, Summary};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

/// The rank of fleet documents among documents.
const FLEET: u64 = 0;

#[derive(Default)]
struct Held {
    index: Index,
    items: BTreeMap<(Section, [u8; 32]), Vec<u8>>,
    feeds: BTreeMap<(HostKey, u64), BTreeMap<u64, Vec<u8>>>,
    fleet: BTreeMap<u64, Vec<u8>>,
}

/// What a test's node holds. An item is 8 bytes of rank, 8 of number, 8 of minor number, then anything; a notice's
/// and an envelope's first 32 bytes are their speaker's key.
pub(crate) struct Store {
    held: Mutex<Held>,
    changed: watch::Sender<u64>,
}

pub(crate) fn item(rank: u64, number: u64, minor: u64, rest: &[u8]) -> Vec<u8> {
    [&rank.to_be_bytes(), &number.to_be_bytes(), &minor.to_be_bytes(), rest].concat()
}

pub(crate) fn fleet_document(serial: u64, rest: &[u8]) -> Vec<u8> {
    item(FLEET, serial, 0, rest)
}

pub(crate) fn envelope(key: HostKey, incarnation: u64, seq: u64, rest: &[u8]) -> Vec<u8> {
    [&key[..], &item(incarnation, seq, 0, rest)].concat()
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn numbers(bytes: &[u8]) -> [u64; 3] {
    [0, 8, 16].map(|at| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap()))
}

impl Store {
    pub(crate) fn new() -> Self {
        Self { held: Mutex::default(), changed: watch::channel(0).0 }
    }

    pub(crate) fn add(&self, item: Item) {
        let mut held = self.held.lock().unwrap();
        match item {
            Item::Document(bytes) => {
                let [rank, serial, _] = numbers(&bytes);
                if rank == FLEET {
                    held.fleet.insert(serial, bytes.clone());
                }
                held.insert(Section::Documents, hash(&bytes), numbers(&bytes), bytes);
            }
            Item::Decision(bytes) => held.insert(Section::Decisions, hash(&bytes), numbers(&bytes), bytes),
            Item::Proof(bytes) => held.insert(Section::Proofs, hash(&bytes), numbers(&bytes), bytes),
            Item::Notice(bytes) => {
                let (id, order) = (hash(&bytes[..32]), numbers(&bytes[32..]));
                if held.index.order(Section::Notices, &id).is_none_or(|own| own < order) {
                    held.insert(Section::Notices, id, order, bytes);
                }
            }
            Item::Envelope(bytes) => held.append(bytes),
        }
        drop(held);
        self.changed.send_modify(|version| *version += 1);
    }

    /// Waits until what is held satisfies the condition.
    pub(crate) async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        while !condition(self) {
            changed.changed().await.unwrap();
        }
    }

    pub(crate) fn count(&self, section: Section) -> usize {
        self.held.lock().unwrap().items.keys().filter(|(of, _)| *of == section).count()
    }

    pub(crate) fn feed_len(&self, key: HostKey, incarnation: u64) -> usize {
        self.held.lock().unwrap().feeds.get(&(key, incarnation)).map_or(0, BTreeMap::len)
    }
}

impl Held {
    fn insert(&mut self, section: Section, id: [u8; 32], order: [u64; 3], bytes: Vec<u8>) {
        self.index.insert(section, Head { order, id });
        self.items.insert((section, id), bytes);
    }

    fn append(&mut self, bytes: Vec<u8>) {
        let key: HostKey = bytes[..32].try_into().unwrap();
        let [incarnation, seq, _] = numbers(&bytes[32..]);
        let feed = self.feeds.entry((key, incarnation)).or_default();
        let next = feed.last_key_value().map_or(1, |(last, _)| last + 1);
        assert!(seq <= next, "envelope {seq} came before {next}");
        feed.entry(seq).or_insert(bytes);
        let (first, (last, newest)) = (*feed.keys().next().unwrap(), feed.last_key_value().unwrap());
        let head = FeedHead { key, incarnation, first, seq: *last, hash: hash(newest) };
        self.index.insert_feed(head);
    }
}

impl Library for Store {
    fn summary(&self) -> Summary {
        self.held.lock().unwrap().index.summary()
    }

    fn heads(&self, section: Section, bucket: u8) -> Vec<Head> {
        self.held.lock().unwrap().index.heads(section, bucket)
    }

    fn item(&self, section: Section, id: &[u8; 32]) -> Option<Vec<u8>> {
        self.held.lock().unwrap().items.get(&(section, *id)).cloned()
    }

    fn feed_heads(&self, bucket: u8) -> Vec<FeedHead> {
        self.held.lock().unwrap().index.feed_heads(bucket)
    }

    fn feed(&self, key: &HostKey, incarnation: u64, from: u64, to: u64, bytes_max: usize) -> Vec<Vec<u8>> {
        let held = self.held.lock().unwrap();
        let Some(feed) = held.feeds.get(&(*key, incarnation)) else { return Vec::new() };
        let mut left = Some(bytes_max);
        let envelopes = feed.range(from..=to).map_while(|(_, envelope)| {
            let room = left?;
            left = room.checked_sub(envelope.len());
            Some(envelope.clone())
        });
        envelopes.collect()
    }

    fn fleet_documents(&self) -> Vec<Vec<u8>> {
        self.held.lock().unwrap().fleet.values().cloned().collect()
    }
}
