//! How much one host may have the others keep: beyond it the host is throttled, and named.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use muster_signing::Verified;

use super::turn::Turn;
use super::{Node, Note};
use crate::id::HostId;
use crate::ledger::{Feed, FeedError};
use crate::wire::{Envelope, Received};

/// The most bytes of one host's feed that are kept.
const FEED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The most events that a host may have said at once; one more may come every second.
const BURST_MAX: i64 = 1000;
/// The most events of one host that may wait for their record: they speak of dispatches that nobody here knows.
const WAITING_MAX: usize = 4096;
/// Milliseconds for one more event.
const EVENT_MILLIS: i64 = 1000;

/// What each host has used of its quota.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    buckets: BTreeMap<HostId, Bucket>,
    named: BTreeSet<(HostId, &'static str)>,
}

/// How much of its burst a host has left, in milliseconds, as of a moment.
#[derive(Debug)]
struct Bucket {
    left: i64,
    as_of: DateTime<Utc>,
}

impl Quotas {
    /// Lets the bucket fill up to a moment; whether there is room for one more event.
    fn has_room(&mut self, host: &HostId, at: DateTime<Utc>) -> bool {
        let full = BURST_MAX * EVENT_MILLIS;
        let bucket = self.buckets.entry(host.clone()).or_insert(Bucket { left: full, as_of: at });
        let passed = at.signed_duration_since(bucket.as_of).num_milliseconds().max(0);
        bucket.left = bucket.left.saturating_add(passed).min(full);
        bucket.as_of = bucket.as_of.max(at);
        bucket.left >= EVENT_MILLIS
    }

    /// An event of the host was taken in.
    pub(super) fn count(&mut self, host: &HostId) {
        if let Some(bucket) = self.buckets.get_mut(host) {
            bucket.left -= EVENT_MILLIS;
        }
    }
}

impl Node {
    /// Whether a host may say this much. What was said over a long time and comes at once, as after an absence, is within
    /// it: the times are those that the host signed, as far as they have come.
    pub(super) fn within_quota(
        &mut self,
        turn: &mut Turn,
        envelope: &Verified<Received<Envelope>>,
    ) -> Result<(), FeedError> {
        let host = &envelope.content.host;
        let feed = self.ledger.feed(host);
        let held = feed.map_or(0, Feed::bytes).saturating_add(envelope.bytes.len() as u64);
        let what = if held > FEED_BYTES_MAX {
            "more than 64 MiB of its feed"
        } else if feed.map_or(0, Feed::backlog) >= WAITING_MAX {
            "events of dispatches that nobody knows"
        } else if !self.quotas.has_room(host, envelope.content.at.min(turn.now.utc)) {
            "more than an event a second"
        } else {
            return Ok(());
        };
        if self.quotas.named.insert((host.clone(), what)) {
            let message = format!("{host} is throttled: it sends {what}");
            turn.tell(Note::Alarm { message });
        }
        Err(FeedError::Throttled { what })
    }
}
