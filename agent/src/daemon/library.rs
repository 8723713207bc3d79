//! What other members may ask this host for: an index of the store, kept in step with what is durable.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_core::id::HostId;
use muster_core::ledger::{Batch, Head as FeedTip, Table, ViewRow};
use muster_core::verify::Roster;
use muster_core::wire::{DocumentKind, Notice, NoticeBody, Received, codec};
use muster_gossip::{FeedHead, Head, HostKey, Index, Library, Section, Summary};
use muster_signing::sha256;
use muster_store::{Store, StoreError};

use crate::storage;

/// The length of a hash at the end of a document's key.
const HASH_BYTES: usize = 32;
/// The length of a serial ahead of it.
const SERIAL_BYTES: usize = 8;

/// An index over the store, shared between the daemon's loop, which feeds it, and the network, which asks it.
#[derive(Debug)]
pub(super) struct Shelf {
    store: Arc<Store>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    index: Index,
    /// Where an item is in the store, by its identity.
    places: BTreeMap<(Section, [u8; 32]), Vec<u8>>,
    /// Heads of feeds of hosts, also of those that are not in the roster now.
    feeds: BTreeMap<(HostId, u64), FeedTip>,
    keys: BTreeMap<HostId, HostKey>,
    hosts: BTreeMap<HostKey, HostId>,
    notices: BTreeMap<[u8; 32], Vec<u8>>,
}

impl Shelf {
    /// Indexes what the store holds already.
    pub(super) fn open(store: Arc<Store>) -> Result<Self, StoreError> {
        let shelf = Self { store, state: Mutex::default() };
        let snapshot = shelf.store.read()?;
        let mut state = shelf.lock();
        for of in [Table::Documents, Table::Decisions, Table::Proofs, Table::FeedHeads] {
            for row in snapshot.range(storage::table(of), ..)? {
                let (key, value) = row?;
                state.note(of, &key, &value);
            }
        }
        drop(state);
        Ok(shelf)
    }

    /// Takes in rows that are durable now.
    pub(super) fn stored(&self, rows: &Batch) {
        let mut state = self.lock();
        for change in &rows.0 {
            if let Some(value) = &change.value {
                state.note(change.table, &change.key, value);
            }
        }
    }

    /// Follows a new roster: feeds are known to others by their host's key.
    pub(super) fn enrol(&self, roster: &Roster) {
        let mut state = self.lock();
        let keys: BTreeMap<HostId, HostKey> =
            roster.members().iter().map(|(host, key)| (host.clone(), *key.as_bytes())).collect();
        for key in state.keys.values().copied().collect::<Vec<_>>() {
            state.index.remove_feeds(&key);
        }
        state.hosts = keys.iter().map(|(host, key)| (*key, host.clone())).collect();
        state.keys = keys;
        let feeds: Vec<_> = state.feeds.iter().map(|((host, of), tip)| (host.clone(), *of, *tip)).collect();
        for (host, incarnation, tip) in feeds {
            state.index_feed(&host, incarnation, tip);
        }
    }

    /// Keeps a host's newest heartbeat, for those who ask later.
    pub(super) fn notice(&self, notice: &Received<Notice>) {
        let id = sha256(notice.content.host.as_str().as_bytes()).0;
        let (incarnation, boot, n) = notice.content.order();
        let order = [incarnation, boot, n];
        let mut state = self.lock();
        if state.index.order(Section::Notices, &id).is_none_or(|known| known < order) {
            state.index.insert(Section::Notices, Head { order, id });
            state.notices.insert(id, notice.bytes.clone());
        }
    }

    /// Keeps this host's own heartbeat.
    pub(super) fn own_notice(&self, bytes: &[u8], roster: &Roster) {
        if let Ok(notice) = muster_core::verify::notice(roster, bytes)
            && let NoticeBody::Presence(_) = &notice.content.body
        {
            self.notice(&notice);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock panics half-way through a change that matters: the index can be made anew.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn row(&self, table: muster_store::Table, key: &[u8]) -> Option<Vec<u8>> {
        self.store.read().ok()?.get(table, key).ok().flatten()
    }
}

impl State {
    fn note(&mut self, of: Table, key: &[u8], value: &[u8]) {
        match of {
            Table::Documents => {
                let Some((kind, serial, id)) = read_document_key(key) else { return };
                self.place(Section::Documents, [kind, serial, 0], id, key);
            }
            Table::Decisions => self.place(Section::Decisions, decision_order(key), sha256(key).0, key),
            Table::Proofs => self.place(Section::Proofs, [0; 3], sha256(key).0, key),
            Table::FeedHeads => {
                let tip = codec::decode::<ViewRow<FeedTip>>("feed head", value);
                if let (Some((host, incarnation)), Ok(tip)) = (read_feed_key(key), tip) {
                    self.feeds.insert((host.clone(), incarnation), tip.row);
                    self.index_feed(&host, incarnation, tip.row);
                }
            }
            Table::Meta
            | Table::Feeds
            | Table::Log
            | Table::HardState
            | Table::Snapshot
            | Table::Endorsed
            | Table::Arrivals
            | Table::Outbox
            | Table::Marks
            | Table::HostRecords
            | Table::Rollouts
            | Table::Quarantines
            | Table::ProbeFailures => {}
        }
    }

    fn place(&mut self, section: Section, order: [u64; 3], id: [u8; 32], key: &[u8]) {
        self.index.insert(section, Head { order, id });
        self.places.insert((section, id), key.to_vec());
    }

    fn index_feed(&mut self, host: &HostId, incarnation: u64, tip: FeedTip) {
        if let Some(key) = self.keys.get(host) {
            let head = FeedHead { key: *key, incarnation, first: 1, seq: tip.seq, hash: tip.hash.0 };
            self.index.insert_feed(head);
        }
    }
}

impl Library for Shelf {
    fn summary(&self) -> Summary {
        self.lock().index.summary()
    }

    fn heads(&self, section: Section, bucket: u8) -> Vec<Head> {
        self.lock().index.heads(section, bucket)
    }

    fn item(&self, section: Section, id: &[u8; 32]) -> Option<Vec<u8>> {
        let table = match section {
            Section::Documents => muster_store::Table::Documents,
            Section::Decisions => muster_store::Table::Decisions,
            Section::Proofs => muster_store::Table::Proofs,
            Section::Notices => return self.lock().notices.get(id).cloned(),
        };
        let key = self.lock().places.get(&(section, *id)).cloned()?;
        self.row(table, &key)
    }

    fn feed_heads(&self, bucket: u8) -> Vec<FeedHead> {
        self.lock().index.feed_heads(bucket)
    }

    fn feed(&self, key: &HostKey, incarnation: u64, from: u64, to: u64, bytes_max: usize) -> Vec<Vec<u8>> {
        let Some(host) = self.lock().hosts.get(key).cloned() else { return Vec::new() };
        let Ok(snapshot) = self.store.read() else { return Vec::new() };
        let row = |seq| muster_core::ledger::key::feed(&host, incarnation, seq);
        let (first, last) = (row(from), row(to));
        let Ok(rows) = snapshot.range(muster_store::Table::Feeds, first.as_slice()..=last.as_slice()) else {
            return Vec::new();
        };
        let (mut envelopes, mut bytes) = (Vec::new(), 0);
        for (expected, row) in (from..).zip(rows) {
            let Ok((found, value)) = row else { break };
            if found != muster_core::ledger::key::feed(&host, incarnation, expected) {
                break;
            }
            bytes += value.len();
            envelopes.push(value);
            if bytes > bytes_max {
                break;
            }
        }
        envelopes
    }

    fn fleet_documents(&self) -> Vec<Vec<u8>> {
        let places: Vec<Vec<u8>> = {
            let state = self.lock();
            let documents = state.places.iter().filter(|((section, _), _)| *section == Section::Documents);
            let fleets = documents.filter(|(_, key)| key.first() == Some(&kind_byte(DocumentKind::Fleet)));
            fleets.map(|(_, key)| key.clone()).collect()
        };
        let mut places = places;
        // The serial stands in the key in big-endian, behind the kind and the empty channel.
        places.sort();
        places.iter().filter_map(|key| self.row(muster_store::Table::Documents, key)).collect()
    }
}

fn kind_byte(kind: DocumentKind) -> u8 {
    muster_core::ledger::key::document_kind(kind)
}

/// Kind, serial and hash of a document's key; the channel in between ends with a zero byte.
fn read_document_key(key: &[u8]) -> Option<(u64, u64, [u8; 32])> {
    let (rest, hash) = key.split_last_chunk::<HASH_BYTES>()?;
    let (rest, serial) = rest.split_last_chunk::<SERIAL_BYTES>()?;
    Some((u64::from(*rest.first()?), u64::from_be_bytes(*serial), *hash))
}

fn decision_order(key: &[u8]) -> [u64; 3] {
    let number = |from: usize, len: usize| {
        key.get(from..from + len)
            .unwrap_or_default()
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    [number(0, 8), number(8, 8), number(16, 4)]
}

fn read_feed_key(key: &[u8]) -> Option<(HostId, u64)> {
    let (host, incarnation) = key.split_last_chunk::<8>()?;
    let host = std::str::from_utf8(host.strip_suffix(&[0])?).ok()?.parse().ok()?;
    Some((host, u64::from_be_bytes(*incarnation)))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use muster_core::ledger::key;
    use muster_core::wire::DecisionId;

    #[test]
    fn keys_of_rows_are_read_back() {
        let hash = sha256(b"x");
        let channel = "stable".parse().unwrap();
        let row = key::document(DocumentKind::ChannelRef, Some(&channel), 7, &hash);
        assert_eq!(read_document_key(&row), Some((1, 7, hash.0)));
        let host: HostId = "web-01".parse().unwrap();
        assert_eq!(read_feed_key(&key::feed_head(&host, 9)), Some((host, 9)));
        let row = key::decision(3, DecisionId { log_index: 5, ordinal: 2 });
        assert_eq!(decision_order(&row), [3, 5, 2]);
    }
}
