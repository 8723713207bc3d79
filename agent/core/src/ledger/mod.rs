//! What a node knows for good: everything that follows from what it learnt, in the order in which it learnt it.
//!
//! Documents, envelopes, certified decisions and log entries go in; each is written to its table and to
//! `arrivals`, and the views that change by it are written in the same batch. Feeding the same arrivals to an
//! empty ledger gives the same views, byte for byte: that is how a node starts, and how a store is verified.

mod batch;
mod entries;
mod feed;
mod replay;
mod slots;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use muster_signing::{Counted, Digest, Verified};
use serde::{Deserialize, Serialize};

pub use batch::{Batch, Change, ROW_VERSION, Reference, Table, ViewRow, key};
pub use entries::{Applied, Because, Derived, EntryError};
pub use feed::{Answer, Feed, FeedError, Head};
pub use replay::{Fault, RebuildError, ReplayError, Rows, Views, rebuild};
pub use slots::{Slot, Slots};

use feed::Waiting;

use crate::document::plan::{self, Budget};
use crate::document::{Accepted, Command, Documents, Fleet, Held, Plan, Refusal, Verb};
use crate::host::{self, HostContext, Mirror, Terms};
use crate::id::{ChannelId, Closure, FleetName, HostId, RolloutId};
use crate::rollout;
use crate::verify::{self, Roster};
use crate::wire::{
    Decision, DecisionBody, DecisionId, DocumentKind, Envelope, EnvelopeRef, FeedBody, HostEvent,
    HostEventKind, HostState, IncarnationStarted, Received, RolloutState, codec,
};

/// The hash of nothing: what the first envelope of a feed names as its predecessor.
pub const NO_HASH: Digest = Digest([0; 32]);

/// A host's record together with the envelope that last moved it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirrored {
    /// The record.
    pub record: host::Record,
    /// The envelope in which the host reported its present state.
    pub evidence: Option<EnvelopeRef>,
    /// The host's clock when it did.
    pub reported_at: Option<DateTime<Utc>>,
}

/// Why a closure is barred from a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// The rollout in which it failed.
    pub rollout_id: RolloutId,
    /// The host on which it failed.
    pub host: HostId,
    /// The envelope in which the host said so.
    pub evidence: EnvelopeRef,
    /// When that host failed, by its own clock; none if its feed is not held.
    pub since: Option<DateTime<Utc>>,
}

/// The documents that count for the log.
#[derive(Debug, Clone, Default)]
pub struct Adopted {
    /// The newest fleet document.
    pub fleet: Option<Digest>,
    /// The newest ref of each channel.
    pub refs: BTreeMap<ChannelId, Digest>,
    /// Every command.
    pub commands: BTreeSet<Digest>,
    /// Commands whose event is in the log.
    pub handled: BTreeSet<Digest>,
}

/// Something that people should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// A host moved.
    HostMoved {
        /// The rollout.
        rollout: RolloutId,
        /// The host.
        host: HostId,
        /// The state before.
        from: HostState,
        /// The state after.
        to: HostState,
    },
    /// A rollout moved.
    RolloutMoved {
        /// The rollout.
        rollout: RolloutId,
        /// The state before; none when it opens.
        from: Option<RolloutState>,
        /// The state after.
        to: RolloutState,
    },
    /// Something that only a compromised key, a bug or a broken disk can cause.
    Alarm {
        /// What, in words.
        message: String,
    },
}

/// What a node knows for good.
#[derive(Debug, Clone)]
pub struct Ledger {
    fleet: FleetName,
    me: HostId,
    documents: Documents,
    budgets: Vec<Budget>,
    roster: Arc<Roster>,
    plans: BTreeMap<RolloutId, Arc<Plan>>,
    adopted: Adopted,
    feeds: BTreeMap<HostId, Feed>,
    records: BTreeMap<HostId, BTreeMap<RolloutId, Mirrored>>,
    rollouts: BTreeMap<RolloutId, rollout::Record>,
    newest: BTreeMap<ChannelId, RolloutId>,
    slots: Slots,
    quarantines: BTreeMap<(ChannelId, Closure), BTreeMap<DecisionId, Quarantine>>,
    suspects: BTreeMap<(ChannelId, Closure), (RolloutId, HostId)>,
    lifted: BTreeSet<(ChannelId, DecisionId)>,
    certified: BTreeMap<DecisionId, Digest>,
    uncertified: BTreeMap<DecisionId, Derived>,
    mine: BTreeMap<DecisionId, DecisionBody>,
    follows_log: bool,
    applied: u64,
    last_entry_at: Option<DateTime<Utc>>,
    position: u64,
    batch: Batch,
    happenings: Vec<Happening>,
}

impl Ledger {
    /// A ledger that has learnt nothing yet, over documents of which none is accepted yet.
    pub fn new(fleet: FleetName, me: HostId, documents: Documents) -> Self {
        Self {
            roster: Arc::new(Roster::of(fleet.clone(), &documents)),
            fleet,
            me,
            documents,
            budgets: Vec::new(),
            plans: BTreeMap::new(),
            adopted: Adopted::default(),
            feeds: BTreeMap::new(),
            records: BTreeMap::new(),
            rollouts: BTreeMap::new(),
            newest: BTreeMap::new(),
            slots: Slots::default(),
            quarantines: BTreeMap::new(),
            suspects: BTreeMap::new(),
            lifted: BTreeSet::new(),
            certified: BTreeMap::new(),
            uncertified: BTreeMap::new(),
            mine: BTreeMap::new(),
            follows_log: false,
            applied: 0,
            last_entry_at: None,
            position: 0,
            batch: Batch::default(),
            happenings: Vec::new(),
        }
    }

    /// The rows to write since this was last asked.
    pub fn take_batch(&mut self) -> Batch {
        std::mem::take(&mut self.batch)
    }

    /// What happened since this was last asked.
    pub fn take_happenings(&mut self) -> Vec<Happening> {
        std::mem::take(&mut self.happenings)
    }

    /// The accepted documents.
    pub fn documents(&self) -> &Documents {
        &self.documents
    }

    /// Who belongs to the fleet, as far as the accepted documents say.
    pub fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// The documents that count for the log.
    pub fn adopted(&self) -> &Adopted {
        &self.adopted
    }

    /// A rollout's plan, if its ref and fleet document are held.
    pub fn plan(&self, rollout: &RolloutId) -> Option<&Arc<Plan>> {
        self.plans.get(rollout)
    }

    /// Every rollout.
    pub fn rollouts(&self) -> &BTreeMap<RolloutId, rollout::Record> {
        &self.rollouts
    }

    /// The newest rollout of a channel.
    pub fn newest_rollout(&self, channel: &ChannelId) -> Option<&RolloutId> {
        self.newest.get(channel)
    }

    /// Every host's feed.
    pub fn feeds(&self) -> &BTreeMap<HostId, Feed> {
        &self.feeds
    }

    /// A host's feed.
    pub fn feed(&self, host: &HostId) -> Option<&Feed> {
        self.feeds.get(host)
    }

    /// The records of one host, by rollout.
    pub fn records_of(&self, host: &HostId) -> impl Iterator<Item = &Mirrored> {
        self.records.get(host).into_iter().flat_map(BTreeMap::values)
    }

    /// The record of a host in a rollout.
    pub fn record(&self, host: &HostId, rollout: &RolloutId) -> Option<&Mirrored> {
        self.records.get(host)?.get(rollout)
    }

    /// Every record of every host.
    pub fn records(&self) -> impl Iterator<Item = &Mirrored> {
        self.records.values().flat_map(BTreeMap::values)
    }

    /// The slots that dispatches took.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The log entries that were applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The time of the newest entry that was applied.
    pub fn last_entry_at(&self) -> Option<DateTime<Utc>> {
        self.last_entry_at
    }

    /// The log index at which the oldest of a chain of successors opened that ends with this rollout.
    pub fn chain_opened_at(&self, rollout: &RolloutId) -> u64 {
        let channel = rollout.channel();
        let newest = self.rollouts.get(rollout).map_or(0, |record| record.opened_log_index);
        let ended = self
            .rollouts
            .values()
            .filter(|record| record.channel == channel && record.state == RolloutState::Terminal)
            .map(|record| record.opened_log_index)
            .max()
            .unwrap_or(0);
        let chain = self.rollouts.values().filter(|record| record.channel == channel);
        chain.map(|record| record.opened_log_index).filter(|index| *index > ended).min().unwrap_or(newest)
    }

    /// Whether rollouts are derived from the log, rather than from certified decisions.
    pub fn follows_log(&self) -> bool {
        self.follows_log
    }

    /// The position that the next arrival gets.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The certified decisions that are held: id -> digest of the decision.
    pub fn certified(&self) -> &BTreeMap<DecisionId, Digest> {
        &self.certified
    }

    /// Decisions that the log led to and that are not known to be certified.
    pub fn uncertified(&self) -> impl Iterator<Item = &Derived> {
        self.uncertified.values()
    }

    /// Certified dispatches to this host that it has not answered yet.
    pub fn owed_dispatches(&self) -> impl Iterator<Item = (DecisionId, &DecisionBody)> {
        let feed = self.feeds.get(&self.me);
        let answered = move |id: &DecisionId, body: &DecisionBody| match body {
            DecisionBody::Dispatch { rollout_id, .. } => {
                feed.is_some_and(|feed| feed.answer(id.log_index, rollout_id).is_some())
            }
            DecisionBody::Quarantine { .. }
            | DecisionBody::RolloutTransition { .. }
            | DecisionBody::Withdrawn { .. } => true,
        };
        self.mine.iter().filter(move |(id, body)| !answered(id, body)).map(|(id, body)| (*id, body))
    }

    /// The epoch of the log: which history it is.
    pub fn epoch(&self) -> Option<Digest> {
        let electorate = self.documents.fleet()?.electorate();
        let recovery = self.documents.last_recovery().map_or(0, |fleet| fleet.serial);
        Some(crate::coordination::epoch(&self.fleet, &electorate, recovery))
    }

    /// Closures barred from channels by certified decisions that no operator lifted.
    pub fn quarantines(&self) -> impl Iterator<Item = (&ChannelId, &Closure, DecisionId, &Quarantine)> {
        self.quarantines.iter().flat_map(move |((channel, closure), decisions)| {
            decisions
                .iter()
                .filter(move |(id, _)| !self.lifted.contains(&(channel.clone(), **id)))
                .map(move |(id, quarantine)| (channel, closure, *id, quarantine))
        })
    }

    /// Whether a certified quarantine bars the closure from the channel.
    pub fn is_quarantined(&self, channel: &ChannelId, closure: &Closure) -> bool {
        self.quarantines.get(&(channel.clone(), closure.clone())).is_some_and(|decisions| {
            decisions.keys().any(|id| !self.lifted.contains(&(channel.clone(), *id)))
        })
    }

    /// The rollout and host by which this node itself suspects a closure on a channel.
    pub fn suspicion(&self, channel: &ChannelId, closure: &Closure) -> Option<&(RolloutId, HostId)> {
        self.suspects.get(&(channel.clone(), closure.clone()))
    }

    /// The commands that count here: adopted ones for who follows the log, else every accepted one.
    pub fn commands(&self) -> impl Iterator<Item = &Arc<Held<Command>>> {
        self.documents
            .commands()
            .filter(|command| !self.follows_log || self.adopted.commands.contains(&command.hash))
    }

    /// The commands that count here and now: not expired, and signed by enough of the newest operators.
    pub fn commands_in_force(&self, now: DateTime<Utc>) -> impl Iterator<Item = &Arc<Held<Command>>> {
        self.documents
            .commands_in_force(now)
            .filter(|command| !self.follows_log || self.adopted.commands.contains(&command.hash))
    }

    /// Takes in a document that [`Documents::check`] let through.
    pub fn document(&mut self, accepted: Accepted) {
        let (kind, channel, serial, hash) = accepted.identity();
        let row = key::document(kind, channel.as_ref(), serial, &hash);
        self.batch.put(Table::Documents, row.clone(), accepted.to_wire());
        self.arrive(Table::Documents, row);
        self.documents.insert(accepted);
        match kind {
            DocumentKind::ChannelRef => self.resolve_plan(&hash),
            DocumentKind::Fleet => {
                let before = std::mem::replace(
                    &mut self.roster,
                    Arc::new(Roster::of(self.fleet.clone(), &self.documents)),
                );
                for (host, feed) in &mut self.feeds {
                    if self.roster.key_of(host).is_some_and(|key| before.key_of(host) != Some(key)) {
                        feed.begin_anew();
                    }
                }
                self.resolve_budgets();
            }
            DocumentKind::Command => {
                if !self.follows_log {
                    self.lift_by(hash);
                }
            }
        }
    }

    /// Takes in an envelope of a host's feed.
    pub fn envelope(&mut self, envelope: &Verified<Received<Envelope>>) -> Result<(), FeedError> {
        let content = &envelope.content;
        let host = content.host.clone();
        let feed = self.feeds.entry(host.clone()).or_default();
        if let Err(error) = feed.check(envelope) {
            if let FeedError::Fork { .. } = error {
                feed.mark_forked();
                self.batch.put(Table::Proofs, envelope.hash.0.to_vec(), envelope.bytes.clone());
                self.alarm(format!("{host} signed two histories: {error}"));
            }
            return Err(error);
        }
        feed.append(envelope);
        let row = key::feed(&host, content.incarnation, content.seq);
        self.batch.put(Table::Feeds, row.clone(), envelope.bytes.clone());
        let position = self.arrive(Table::Feeds, row);
        let head = Head { seq: content.seq, hash: envelope.hash };
        self.batch.put_view(Table::FeedHeads, key::feed_head(&host, content.incarnation), position, &head);
        self.advance(&host);
        Ok(())
    }

    /// Takes in a decision that a quorum signed; false if it is held already, or of another epoch.
    pub fn decision(&mut self, certificate: &Verified<Counted>, decision: &Decision) -> bool {
        let id = decision.id();
        if self.epoch() != Some(decision.epoch) {
            self.alarm(format!("a certified decision {id:?} is of another epoch of the log"));
            return false;
        }
        if let Some(known) = self.certified.get(&id) {
            if *known != certificate.digest() {
                self.alarm(format!("two certificates of decision {id:?} differ"));
            }
            return false;
        }
        self.certified.insert(id, certificate.digest());
        self.uncertified.remove(&id);
        let row = key::decision(decision.fleet_serial, id);
        self.batch.put(Table::Decisions, row.clone(), certificate.bytes().to_vec());
        let position = self.arrive(Table::Decisions, row);
        match &decision.body {
            DecisionBody::Dispatch { host, rollout_id, .. } => {
                if *host == self.me {
                    self.mine.insert(id, decision.body.clone());
                }
                if !self.is_behind(host, rollout_id, id.log_index) {
                    self.slots.take(id, &decision.body);
                }
                self.open_record(id.log_index, &decision.body);
                if !self.follows_log
                    && let Some(record) = self.rollouts.get_mut(rollout_id)
                {
                    record.dispatched(host, &decision.body, id.log_index);
                    self.write_rollout(rollout_id, position);
                }
                self.advance(&host.clone());
            }
            DecisionBody::Quarantine { channel, closure, rollout_id, host, evidence } => {
                let since = self.record(host, rollout_id).and_then(|mirrored| mirrored.record.failed_at);
                let quarantine = Quarantine {
                    rollout_id: rollout_id.clone(),
                    host: host.clone(),
                    evidence: *evidence,
                    since,
                };
                let place = (channel.clone(), closure.clone());
                self.quarantines.entry(place).or_default().insert(id, quarantine);
                self.write_quarantine(channel, closure, position);
            }
            DecisionBody::RolloutTransition { rollout_id, to, wave, at, .. } => {
                if !self.follows_log {
                    let from = self.rollouts.get(rollout_id).map(|record| record.state);
                    rollout::Record::observe(&mut self.rollouts, rollout_id, *to, *wave, *at, id.log_index);
                    self.note_newest(rollout_id);
                    self.write_rollout(rollout_id, position);
                    let state = self.rollouts.get(rollout_id).map(|record| record.state);
                    if let Some(to) = state.filter(|to| Some(*to) != from) {
                        self.happenings.push(Happening::RolloutMoved {
                            rollout: rollout_id.clone(),
                            from,
                            to,
                        });
                    }
                }
            }
            DecisionBody::Withdrawn { decision } => {
                let _ = self.slots.withdraw(*decision);
            }
        }
        true
    }

    /// Whether the host has come to an end in this or a newer dispatch already: the certificate of an older one
    /// that comes late takes no slot.
    fn is_behind(&self, host: &HostId, rollout: &RolloutId, log_index: u64) -> bool {
        self.records_of(host).any(|mirrored| {
            let record = &mirrored.record;
            let ended = match record.state {
                HostState::Converged => true,
                HostState::Reverted => record.rollout_id == *rollout,
                HostState::Pending
                | HostState::Activating
                | HostState::Deferred
                | HostState::Soaking
                | HostState::Failed => false,
            };
            ended && record.log_index >= log_index
        })
    }

    /// Whether an event answers a dispatch that is not known here but may still come.
    fn answers_unknown(&self, record: &host::Record, event: &HostEvent) -> bool {
        let (HostEventKind::DispatchAck { log_index, .. }
        | HostEventKind::DispatchRejected { log_index, .. }) = &event.kind
        else {
            return false;
        };
        // Who follows the log knows all that it has applied: what it does not know there is no dispatch.
        let may_come = !self.follows_log || *log_index > self.applied;
        may_come && record.state == HostState::Pending && record.known_dispatch(*log_index).is_none()
    }

    /// Runs a host's waiting events through the mirror, up to the first whose record is not open yet.
    fn advance(&mut self, host: &HostId) {
        while let Some(waiting) = self.feeds.get(host).and_then(|feed| feed.waiting.front()).cloned() {
            match &waiting.body {
                FeedBody::Incarnation(started) => {
                    self.end_records(host, started, waiting.reference, waiting.at);
                }
                FeedBody::Rollout(event) => {
                    let (Some(mirrored), Some(plan)) = (
                        self.record(host, &event.rollout_id).cloned(),
                        self.plans.get(&event.rollout_id).cloned(),
                    ) else {
                        return;
                    };
                    if self.answers_unknown(&mirrored.record, event) {
                        return;
                    }
                    self.mirror(&plan, mirrored, event, &waiting);
                }
            }
            if let Some(feed) = self.feeds.get_mut(host) {
                feed.waiting.pop_front();
            }
        }
    }

    fn mirror(&mut self, plan: &Plan, mut mirrored: Mirrored, event: &HostEvent, waiting: &Waiting) {
        let (host, before) = (mirrored.record.host.clone(), mirrored.record.state);
        let step = match host::step::<Mirror>(&mirrored.record, &HostContext { policy: &plan.policy }, event)
        {
            Ok(step) => step,
            Err(error) => {
                self.alarm(format!("{host} reports what cannot be in {}: {error}", event.rollout_id));
                return;
            }
        };
        mirrored.record = step.record;
        if mirrored.record.state != before {
            mirrored.evidence = Some(waiting.reference);
            mirrored.reported_at = Some(waiting.at);
            self.settle(&host, &mirrored.record, before);
        }
        self.put_record(&host, mirrored);
    }

    /// What follows for slots and suspicion when a host has moved.
    fn settle(&mut self, host: &HostId, record: &host::Record, from: HostState) {
        self.happenings.push(Happening::HostMoved {
            rollout: record.rollout_id.clone(),
            host: host.clone(),
            from,
            to: record.state,
        });
        match record.state {
            HostState::Converged => self.slots.free_up_to(host, &record.rollout_id),
            HostState::Reverted => {
                self.slots.free_of(host, &record.rollout_id);
                self.suspects
                    .entry((record.channel.clone(), record.target_closure.clone()))
                    .or_insert_with(|| (record.rollout_id.clone(), host.clone()));
            }
            HostState::Pending
            | HostState::Activating
            | HostState::Deferred
            | HostState::Soaking
            | HostState::Failed => {}
        }
    }

    fn end_records(
        &mut self,
        host: &HostId,
        started: &IncarnationStarted,
        reference: EnvelopeRef,
        at: DateTime<Utc>,
    ) {
        let open: Vec<Mirrored> =
            self.records_of(host).filter(|mirrored| is_open(mirrored.record.state)).cloned().collect();
        for mut mirrored in open {
            let before = mirrored.record.state;
            mirrored.record = host::step_incarnation(&mirrored.record, started);
            if mirrored.record.state != before {
                mirrored.evidence = Some(reference);
                mirrored.reported_at = Some(at);
                self.settle(host, &mirrored.record, before);
            }
            self.put_record(host, mirrored);
        }
    }

    /// Opens the record of a dispatched host, or refreshes it if the host is dispatched anew.
    fn open_record(&mut self, log_index: u64, dispatch: &DecisionBody) {
        let DecisionBody::Dispatch { host, rollout_id, target_closure, soak_due_at, soak_secs, .. } =
            dispatch
        else {
            return;
        };
        let soak = crate::view::secs(*soak_secs);
        let dispatched_at = soak_due_at.checked_sub_signed(soak).unwrap_or(*soak_due_at);
        let mirrored = match self.record(host, rollout_id).cloned() {
            Some(mut mirrored) => {
                let terms =
                    Terms { log_index, dispatched_at, soak_due_at: *soak_due_at, soak_secs: *soak_secs };
                let next = mirrored.record.dispatched_by(terms);
                if next == mirrored.record {
                    return;
                }
                mirrored.record = next;
                mirrored
            }
            None => Mirrored {
                record: host::Record::open(
                    rollout_id.clone(),
                    host.clone(),
                    rollout_id.channel(),
                    target_closure.clone(),
                    dispatched_at,
                    *soak_due_at,
                    *soak_secs,
                    log_index,
                ),
                evidence: None,
                reported_at: None,
            },
        };
        self.put_record(host, mirrored);
    }

    fn put_record(&mut self, host: &HostId, mirrored: Mirrored) {
        let rollout = mirrored.record.rollout_id.clone();
        let row = key::host_record(&rollout, host);
        self.batch.put_view(Table::HostRecords, row.clone(), self.last_position(), &mirrored);
        match mirrored.record.probe_failure_first_at {
            Some(since) => self.batch.put_view(Table::ProbeFailures, row, self.last_position(), &since),
            None => self.batch.delete(Table::ProbeFailures, row),
        }
        self.records.entry(host.clone()).or_default().insert(rollout, mirrored);
    }

    fn write_rollout(&mut self, rollout: &RolloutId, position: u64) {
        if let Some(record) = self.rollouts.get(rollout) {
            self.batch.put_view(Table::Rollouts, key::rollout(rollout), position, record);
        }
    }

    fn write_quarantine(&mut self, channel: &ChannelId, closure: &Closure, position: u64) {
        let row = key::quarantine(channel, closure);
        let standing: Vec<(DecisionId, Quarantine)> = self
            .quarantines()
            .filter(|(of, what, ..)| *of == channel && *what == closure)
            .map(|(_, _, id, quarantine)| (id, quarantine.clone()))
            .collect();
        if standing.is_empty() {
            self.batch.delete(Table::Quarantines, row);
        } else {
            self.batch.put_view(Table::Quarantines, row, position, &standing);
        }
    }

    /// Lifts what a command names: quarantines by decision id, and this node's own suspicion.
    fn lift_by(&mut self, command: Digest) {
        let Some(command) = self.documents.command(&command).cloned() else { return };
        match &command.verb {
            Verb::ClearClosure { channel, closure, quarantines } => {
                self.lifted.extend(quarantines.iter().map(|id| (channel.clone(), *id)));
                self.suspects.remove(&(channel.clone(), closure.clone()));
                self.write_quarantine(channel, closure, self.last_position());
            }
            Verb::ClearRollout { rollout } => self.suspects.retain(|_, (of, _)| of != rollout),
            Verb::Pause(_)
            | Verb::Resume(_)
            | Verb::Cancel { .. }
            | Verb::Promote { .. }
            | Verb::Skip { .. }
            | Verb::Readmit { .. } => {}
        }
    }

    /// Keeps the proof that operators signed two documents with one serial; says so in words if it is new.
    pub fn keep_equivocation(&mut self, refusal: &Refusal) -> Option<String> {
        let Refusal::Equivocation(proof) = refusal else { return None };
        if self.documents.proofs().any(|known| known == &**proof) {
            return None;
        }
        let row = proof.other().digest().0.to_vec();
        self.batch.put(Table::Proofs, row, proof.other().to_wire());
        self.documents.insert_proof((**proof).clone());
        Some(proof.to_string())
    }

    /// Takes in again what the store kept as a proof: without it nothing that was blocked stays so after a restart.
    ///
    /// What proves nothing any more, since a key or the operators have changed, is left alone.
    pub(crate) fn restore_proof(&mut self, bytes: &[u8]) {
        if let Ok(document) = verify::document(bytes) {
            if let Some(proof) = self.documents.stored_proof(&document) {
                self.documents.insert_proof(proof);
            }
        } else if let Ok(envelope) = verify::envelope(&self.roster, bytes)
            && let Some(feed) = self.feeds.get_mut(&envelope.content.host)
            && feed.contradicts(&envelope.content)
        {
            feed.mark_forked();
        }
    }

    /// The disruption budgets of the fleet document that counts.
    pub fn budgets(&self) -> &[Budget] {
        &self.budgets
    }

    /// The fleet document that counts: the newest adopted one for who follows the log, else the newest.
    pub fn counting_fleet(&self) -> Option<&Arc<Held<Fleet>>> {
        match self.adopted.fleet {
            Some(hash) => self.documents.fleet_by_hash(&hash),
            None => self.documents.fleet(),
        }
    }

    fn resolve_budgets(&mut self) {
        self.budgets = self.counting_fleet().map(|fleet| plan::budgets(fleet)).unwrap_or_default();
    }

    /// The plan of a ref, or of its refresh; events that waited for it are mirrored now.
    fn resolve_plan(&mut self, hash: &Digest) {
        let Some(plan) = self.documents.plan_by_ref(hash) else { return };
        let known = self.plans.get(&plan.rollout_id);
        if known.is_none_or(|known| known.order < plan.order) {
            self.plans.insert(plan.rollout_id.clone(), plan);
        }
        let waiting: Vec<HostId> =
            self.feeds.iter().filter(|(_, feed)| feed.backlog() > 0).map(|(host, _)| host.clone()).collect();
        for host in waiting {
            self.advance(&host);
        }
    }

    /// The newest rollout of a channel is that of its newest ref.
    fn note_newest(&mut self, rollout: &RolloutId) {
        let channel = rollout.channel();
        let order = |id: &RolloutId| {
            (
                self.rollouts.get(id).map(|record| record.opened_log_index),
                self.plans.get(id).map(|plan| plan.order),
            )
        };
        if self.newest.get(&channel).is_none_or(|known| order(known) <= order(rollout)) {
            self.newest.insert(channel, rollout.clone());
        }
    }

    /// Notes that a canonical row was learnt; gives its position.
    fn arrive(&mut self, table: Table, row: Vec<u8>) -> u64 {
        let position = self.position;
        self.position += 1;
        let reference = Reference { table, key: row };
        self.batch.put(Table::Arrivals, key::number(position), codec::encode(&reference));
        position
    }

    fn last_position(&self) -> u64 {
        self.position.saturating_sub(1)
    }

    fn alarm(&mut self, message: String) {
        self.happenings.push(Happening::Alarm { message });
    }
}

/// Whether a host may still act in the rollout.
fn is_open(state: HostState) -> bool {
    match state {
        HostState::Pending | HostState::Activating | HostState::Deferred | HostState::Soaking => true,
        HostState::Converged | HostState::Failed | HostState::Reverted => false,
    }
}
