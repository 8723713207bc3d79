//! Carries out what the node asks for: one match arm per output.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use muster_core::document::Refusal;
use muster_core::drive::Shell;
use muster_core::id::HostId;
use muster_core::ledger::{Batch, Table};
use muster_core::node::{HostOrder, Note, Output, Receipt, RequestId, Topic};
use muster_core::verify::Roster;
use muster_core::wire::{HostState, codec};
use muster_gossip::Network;
use muster_store::{Change, CommitError, Store};
use tokio::sync::{mpsc, oneshot};

use super::answers::chronicle::Chronicle;
use super::figures::Figures;
use super::ingress::Pending;
use super::library::Shelf;
use super::writes::Writes;
use super::{answers, full};
use crate::control::{Answer, Problem};

/// Who published a document, and waits.
pub(super) type Waiter = oneshot::Sender<Result<Answer, Problem>>;
/// Stands for a batch where a write only tries whether the disk has room; the node counts its own from 1.
pub(super) const TRIAL: u64 = 0;

/// What the loop's orders are carried out with.
#[derive(Debug)]
pub(super) struct Hands {
    pub(super) network: Network,
    pub(super) store: Arc<Store>,
    pub(super) shelf: Arc<Shelf>,
    pub(super) pending: Pending,
    pub(super) waiters: BTreeMap<u64, Waiter>,
    pub(super) figures: Figures,
    /// Timelines that were read.
    pub(super) chronicle: Arc<Chronicle>,
    /// Orders for this host's workers, taken by the loop.
    pub(super) orders: Vec<HostOrder>,
    /// Hosts that have come to rest, on a new release or back on the old one, since the loop last looked.
    pub(super) settled: BTreeSet<HostId>,
    roster: Option<Arc<Roster>>,
    /// Whether the roster changed since the loop last looked.
    pub(super) enrolled: bool,
    written: mpsc::UnboundedSender<(u64, Result<(), CommitError>)>,
    pub(super) writes: Writes,
    /// Since when the write that is under way is.
    writing_since: Instant,
    learnt: u64,
}

impl Hands {
    pub(super) fn new(
        network: Network,
        store: Arc<Store>,
        shelf: Arc<Shelf>,
        written: mpsc::UnboundedSender<(u64, Result<(), CommitError>)>,
    ) -> Self {
        Self {
            network,
            store,
            shelf,
            pending: Pending::default(),
            waiters: BTreeMap::new(),
            figures: Figures::default(),
            chronicle: Arc::default(),
            orders: Vec::new(),
            settled: BTreeSet::new(),
            roster: None,
            enrolled: false,
            written,
            writes: Writes::default(),
            writing_since: Instant::now(),
            learnt: 0,
        }
    }

    /// The write that ended with this batch is durable: others may ask for what it holds.
    ///
    /// Gives the number of things that are on the disk now, for those who follow.
    pub(super) fn durable(&mut self, batch: u64) -> u64 {
        self.figures.committed(self.writing_since.elapsed());
        for rows in self.writes.end(batch) {
            self.shelf.stored(&rows);
            self.learnt = self.learnt.max(arrivals(&rows));
        }
        self.write();
        self.learnt
    }

    /// Begins the next write, if there is anything to write and no write is under way.
    fn write(&mut self) {
        if let Some((batch, changes)) = self.writes.begin() {
            let written = self.written.clone();
            self.writing_since = Instant::now();
            // The loop that reads this is gone only when the agent stops.
            self.store.commit(changes, move |result| drop(written.send((batch, result))));
        }
    }

    fn reply(&mut self, request: RequestId, result: Result<Receipt, Box<Refusal>>) {
        if let Some(waiter) = self.waiters.remove(&request.0) {
            // Who asked may have hung up; the document is accepted or refused all the same.
            drop(waiter.send(answers::receipt(result)));
        }
    }

    /// Writes a row that changes nothing.
    pub(super) fn try_to_write(&self, row: Change) {
        let written = self.written.clone();
        self.store.commit(vec![row], move |result| drop(written.send((TRIAL, result))));
    }

    /// Gives up all that waits for the disk, and says so to those who wait for it.
    pub(super) fn forget(&mut self) {
        self.writes.forget();
        self.pending.forget(&self.network);
        for waiter in std::mem::take(&mut self.waiters).into_values() {
            drop(waiter.send(Err(full::refusal())));
        }
        self.orders.clear();
    }
}

impl Shell for Hands {
    fn store(&mut self, batch: u64, rows: Batch) {
        self.writes.ask(batch, rows);
        self.write();
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Publish { topic, bytes } => {
                if topic == Topic::Presence
                    && let Some(roster) = &self.roster
                {
                    self.shelf.own_notice(&bytes, roster);
                }
                self.network.publish(translate(topic), bytes);
            }
            Output::Send { to, message, .. } => {
                self.network.send_log(*to.as_bytes(), codec::encode(&message))
            }
            Output::Verdict { message, verdict } => {
                if let Some((topic, verdict)) = self.pending.answer(&self.network, message, verdict) {
                    self.figures.judged(topic, verdict);
                }
            }
            Output::Order(order) => self.orders.push(order),
            Output::Fetch { from } => self.network.sync_now(from.map(|key| *key.as_bytes())),
            Output::Enrol(roster) => {
                self.shelf.enrol(&roster);
                self.roster = Some(roster);
                self.enrolled = true;
            }
            Output::Reply { request, result } => self.reply(request, result),
            Output::Tell(note) => {
                if let Note::HostMoved { host, to: HostState::Converged | HostState::Reverted, .. } = &note {
                    self.settled.insert(host.clone());
                }
                tell(&note, &mut self.figures);
            }
            Output::Persist { .. } => debug_assert!(false, "writes go to Shell::store"),
        }
    }
}

/// How many things this host has learnt when these rows are durable; 0 if they hold none.
fn arrivals(rows: &Batch) -> u64 {
    let learnt =
        |change: &&muster_core::ledger::Change| change.table == Table::Arrivals && change.value.is_some();
    let positions = rows.0.iter().filter(learnt);
    let numbers =
        positions.filter_map(|change| change.key.as_slice().try_into().ok().map(u64::from_be_bytes));
    numbers.max().map_or(0, |last| last + 1)
}

fn translate(topic: Topic) -> muster_gossip::Topic {
    match topic {
        Topic::Documents => muster_gossip::Topic::Documents,
        Topic::Decisions => muster_gossip::Topic::Decisions,
        Topic::Events => muster_gossip::Topic::Events,
        Topic::Presence => muster_gossip::Topic::Presence,
    }
}

fn tell(note: &Note, figures: &mut Figures) {
    match note {
        Note::HostMoved { rollout, host, from, to } => {
            tracing::info!(%host, %rollout, from = from.name(), to = to.name(), "host moved");
        }
        Note::RolloutMoved { rollout, from, to } => {
            let from = from.map_or("none", muster_core::wire::RolloutState::name);
            tracing::info!(%rollout, from, to = to.name(), "rollout moved");
        }
        Note::DocumentAccepted { kind, serial } => tracing::info!(?kind, serial, "document accepted"),
        Note::DispatchRejected { rollout, reason } => {
            figures.rejected(reason.name());
            tracing::warn!(%rollout, reason = reason.name(), "this host refuses a dispatch");
        }
        Note::Leading { leads, term } => tracing::info!(leads, term, "the coordinators' election"),
        Note::Alarm { message } => tracing::error!("{message}"),
        Note::Warning { message } => tracing::warn!("{message}"),
        Note::FeedUnconfirmed => {
            tracing::warn!("nobody says how far this host's feed goes: it goes on from its own store");
        }
        Note::DecisionLatency { took } => figures.certified(*took),
    }
}
