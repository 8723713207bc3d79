//! The rows of the views: each is written once for all that a step changed, stamped with the arrival that it follows
//! from.

use serde::{Deserialize, Serialize};

use std::collections::BTreeSet;

use super::{Ledger, ROW_VERSION, Table, ViewRow, key};
use crate::id::{ChannelId, Closure, HostId, RolloutId};
use crate::planted::Bug;
use crate::wire::HostState;
use crate::wire::codec;

/// What a view's row is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Subject {
    /// The newest position of a host's incarnation.
    FeedHead(HostId, u64),
    /// A host's record in a rollout, and which of its probes fail.
    HostRecord(RolloutId, HostId),
    /// A rollout.
    Rollout(RolloutId),
    /// The quarantines of a closure on a channel.
    Quarantine(ChannelId, Closure),
}

impl Ledger {
    /// What a view says of the subject has changed by the arrival of that position.
    pub(super) fn touch(&mut self, subject: Subject, position: u64) {
        self.stamps.insert(subject.clone(), position);
        self.touched.insert(subject, position);
    }

    /// The subjects of which there is a row, each with the arrival that it follows from.
    pub(super) fn standing_stamps(&self) -> Vec<(Subject, u64)> {
        let barred: BTreeSet<_> =
            self.quarantines().map(|(channel, closure, ..)| (channel, closure)).collect();
        let stands = |subject: &Subject| match subject {
            Subject::FeedHead(..) => true,
            Subject::HostRecord(rollout, host) => self.record(host, rollout).is_some(),
            Subject::Rollout(rollout) => self.rollouts.contains_key(rollout),
            Subject::Quarantine(channel, closure) => barred.contains(&(channel, closure)),
        };
        let standing = self.stamps.iter().filter(|(subject, _)| stands(subject));
        standing.map(|(subject, position)| (subject.clone(), *position)).collect()
    }

    /// Adds the rows of everything that was touched to what is to be written.
    pub(super) fn write_views(&mut self) {
        for (subject, position) in std::mem::take(&mut self.touched) {
            match &subject {
                Subject::FeedHead(host, incarnation) => {
                    let heads = self.feeds.get(host).into_iter().flat_map(|feed| feed.heads());
                    let head = heads.filter(|(of, _)| of == incarnation).map(|(_, head)| head).last();
                    self.put_view(Table::FeedHeads, key::feed_head(host, *incarnation), position, head);
                }
                Subject::HostRecord(rollout, host) => {
                    let row = key::host_record(rollout, host);
                    let mirrored = self.record(host, rollout).cloned();
                    let since = mirrored.as_ref().and_then(|it| it.record.probe_failure_first_at);
                    self.put_view(Table::ProbeFailures, row.clone(), position, since);
                    let converged =
                        mirrored.as_ref().is_some_and(|it| it.record.state == HostState::Converged);
                    if !(converged && self.planted().has(Bug::ViewForgotten)) {
                        self.put_view(Table::HostRecords, row, position, mirrored);
                    }
                }
                Subject::Rollout(rollout) => {
                    let record = self.rollouts.get(rollout).cloned();
                    self.put_view(Table::Rollouts, key::rollout(rollout), position, record);
                }
                Subject::Quarantine(channel, closure) => {
                    let of = self.quarantines().filter(|(of, what, ..)| *of == channel && *what == closure);
                    let standing: Vec<_> =
                        of.map(|(_, _, id, quarantine)| (id, quarantine.clone())).collect();
                    let standing = (!standing.is_empty()).then_some(standing);
                    self.put_view(Table::Quarantines, key::quarantine(channel, closure), position, standing);
                }
            }
        }
    }

    fn put_view<T: Serialize>(&mut self, table: Table, key: Vec<u8>, position: u64, row: Option<T>) {
        match row {
            Some(row) => {
                let row = ViewRow { v: ROW_VERSION, position, row };
                self.batch.put(table, key, codec::encode_row(&row));
            }
            None => self.batch.delete(table, key),
        }
    }
}
