//! The whole node as one state machine: facts in, orders out.
//!
//! [`Node::step`] is the one door in. It touches no clock, socket, file or random number: the time is an
//! argument, and so is the seed. What it returns is to be done in order, and nothing after a
//! [`Output::Persist`] may happen before that batch is durable; [`crate::drive`] holds that rule.

mod approvals;
mod beacon;
mod compaction;
mod coordinator;
mod dispatching;
mod door;
mod early;
#[cfg(feature = "planted")]
mod enter;
mod fetching;
mod head;
mod inspect;
mod own;
mod parting;
mod quota;
mod random;
mod readmission;
mod restore;
mod rules;
mod turn;
mod upkeep;
mod writing;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use muster_signing::{SignedDocument, SigningKey, Verified};

pub use compaction::SNAPSHOT_ENTRIES;
pub use door::{
    BackendKind, CoordinatorMessage, Fetch, Goods, HostOrder, HostReport, Input, Job, MessageRef, Note,
    Origin, Output, Receipt, RequestId, Settings, Topic, Verdict,
};
pub use inspect::{Census, Quorum, WaitingDecision};
pub use restore::StartError;

use crate::document::{Acceptance, ChannelRefDocument, Document, Refusal, check};
use crate::id::HostId;
use crate::ledger::{FeedError, Ledger};
use crate::planted::Bug;
use crate::presence::{Heard, Presences};
use crate::time::{Mono, Now};
use crate::verify::{self, Certified};
use crate::wire::{DecisionId, DocumentKind, Envelope, Notice, NoticeBody, Received};
use beacon::Marks;
use coordinator::{Coordinator, WhichLog};
use head::FeedEnd;
use own::Own;
use quota::Quotas;
use random::Random;
use turn::Turn;
use upkeep::House;

/// How far ahead of this host's clock another host's incarnation may have begun.
pub const INCARNATION_AHEAD_MAX: TimeDelta = TimeDelta::minutes(5);
/// The largest document that is gossiped whole; sync brings larger ones.
const GOSSIPED_DOCUMENT_BYTES_MAX: usize = 60 * 1024;
/// Alarms that are kept to be shown.
const ALARMS_MAX: usize = 64;

/// One host: its documents, its own rollouts, its mirror of the others, and its part among the coordinators.
#[derive(Debug)]
pub struct Node {
    settings: Settings,
    signer: SigningKey,
    random: Random,
    started: Mono,
    ledger: Ledger,
    presences: Presences,
    incarnation: u64,
    boot: u64,
    notices: u64,
    greatest_at: Option<DateTime<Utc>>,
    outbox: BTreeSet<u64>,
    marks: Marks,
    own: Own,
    quotas: Quotas,
    end: FeedEnd,
    presence_sent: Option<Mono>,
    presence_wanted: bool,
    own_presence: Option<Vec<u8>>,
    jitter: f64,
    /// When the next host may come to count as offline, which changes what the gates say.
    reach_change: Option<Mono>,
    coordinator: Option<Coordinator>,
    /// Whether this coordinator's store is known not to be what it was, so that it waits to be readmitted.
    distrusted: bool,
    /// Whether a peer says so, which proves nothing where coordinators may lie.
    doubted: bool,
    stored_log: Option<restore::StoredLog>,
    notices_held: BTreeMap<HostId, Vec<u8>>,
    alarms: Vec<String>,
    batch: u64,
    house: House,
}

impl Node {
    /// Takes in one fact; what comes out is to be done in order.
    #[must_use = "what a step asks for is owed"]
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Output> {
        let mut turn = Turn::new(now);
        match input {
            Input::Tick => {}
            Input::Document { document, origin } => self.document(&mut turn, &document, origin),
            Input::Envelope { envelope, message } => self.envelope(&mut turn, &envelope, message),
            Input::Notice { notice, message } => self.notice(&mut turn, &notice, message),
            Input::Decision { certified, message } => self.take_decision(&mut turn, &certified, message),
            Input::Consensus { from, message } => self.consensus(&mut turn, from, *message),
            Input::Endorsement(endorsement) => self.endorsed(&mut turn, endorsement),
            Input::Host(report) => self.host_report(&mut turn, report),
            // Whoever was connected wants to hear of this host.
            Input::PeerUp(_) => self.presence_wanted = true,
            Input::PeerDown(peer) => self.coordinator_lost(&mut turn, peer),
            Input::Stored { batch } => self.coordinator_stored(&mut turn, batch),
            Input::Stopping => self.hand_over(&mut turn),
            Input::DiskFull => {
                self.give_way(&mut turn);
                return self.finish(turn);
            }
        }
        self.follow_up(&mut turn);
        self.keep_house(&mut turn);
        self.finish(turn)
    }

    /// When the next [`Input::Tick`] is wanted.
    pub fn wakes_at(&self) -> Option<Mono> {
        let coordinator = self.coordinator.as_ref().and_then(Coordinator::wakes_at);
        let proof = self.proof_wakes_at();
        [
            coordinator,
            proof,
            self.own_wakes_at(),
            self.head_wakes_at(),
            self.beacon_wakes_at(),
            self.reach_change,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What follows from whatever came in: dispatches to answer, decisions to judge, plans to make.
    fn follow_up(&mut self, turn: &mut Turn) {
        if self.reach_change.is_some_and(|at| at <= turn.now.mono) {
            self.reach_change = None;
            turn.changed = true;
        }
        self.tick_head(turn);
        self.prove_store(turn);
        self.fetch_targets(turn);
        if self.feed_is_open() {
            self.begin_incarnation(turn);
            self.consider_dispatches(turn);
            self.take_back_deferred(turn);
            self.tick_own(turn);
        }
        if turn.changed {
            if let Some(coordinator) = &mut self.coordinator {
                coordinator.want_plan();
            }
            self.apply_committed(turn);
        }
        self.tick_coordinator(turn);
        self.tick_beacon(turn);
        if self.coordinator.is_some() && self.reach_change.is_none() {
            self.reach_change = self.presences.next_change(turn.now.mono);
        }
    }

    fn document(&mut self, turn: &mut Turn, document: &Verified<SignedDocument>, origin: Origin) {
        let result = self.accept(turn, document, matches!(origin, Origin::Operator(_)));
        match origin {
            Origin::Operator(request) => {
                turn.outputs.push(Output::Reply { request, result: result.map_err(Box::new) });
            }
            Origin::Gossip(message) => {
                let verdict = match &result {
                    Ok(_) => Verdict::Accept,
                    Err(refusal) if refusal.blames_sender() => Verdict::Reject,
                    // A document may be late, early or of an operator whom this node does not know yet.
                    Err(_) => Verdict::Ignore,
                };
                turn.outputs.push(Output::Verdict { message, verdict });
            }
            Origin::Sync => {}
        }
    }

    fn accept(
        &mut self,
        turn: &mut Turn,
        document: &Verified<SignedDocument>,
        published: bool,
    ) -> Result<Receipt, Refusal> {
        let hash = document.digest();
        let checked = self.check(turn, document, published);
        let accepted = match checked {
            Ok(Acceptance::New(accepted)) => accepted,
            Ok(Acceptance::Duplicate) => return Ok(Receipt { hash, duplicate: true }),
            Ok(Acceptance::Waits { fleet_serial, fleet_hash }) => {
                turn.outputs.push(Output::Fetch { from: None });
                return Err(Refusal::UnknownFleetDocument { named: Some((fleet_serial, fleet_hash)) });
            }
            Err(refusal) => {
                self.keep_proof(turn, &refusal);
                return Err(refusal);
            }
        };
        if let (Document::Fleet(new), Some(old)) = (accepted.document(), self.ledger.documents().fleet()) {
            check::same_log(old, new)?;
        }
        let (kind, _, serial, _) = accepted.identity();
        turn.tell(Note::DocumentAccepted { kind, serial });
        let log_begins = self.ledger.log_begins_behind();
        self.ledger.document(accepted);
        if self.ledger.log_begins_behind() != log_begins {
            self.begin_epoch(turn);
        }
        self.mark_document(turn, hash);
        if kind == DocumentKind::Fleet {
            self.follow_fleet(turn);
        }
        let wire = document.to_wire();
        // Gossip passes on by itself what it brought.
        if published && wire.len() <= GOSSIPED_DOCUMENT_BYTES_MAX {
            turn.outputs.push(Output::Publish { topic: Topic::Documents, bytes: wire });
        }
        turn.changed = true;
        Ok(Receipt { hash, duplicate: false })
    }

    fn check(
        &mut self,
        turn: &mut Turn,
        document: &Verified<SignedDocument>,
        published: bool,
    ) -> Result<Acceptance, Refusal> {
        let (documents, now) = (self.ledger.documents(), turn.now.utc);
        if published {
            return documents.check_publish(document, now);
        }
        let checked = documents.check(document, now);
        // What was decided under an older fleet document is signed by the coordinators that it names, and refs name it:
        // who missed it learns it as history, whose place in time it keeps.
        let missed = matches!(checked, Err(Refusal::FleetDowngrade { .. }));
        let refuses = self.ledger.planted().has(Bug::HistoryRefused);
        if refuses || !missed && !self.is_spoken_of(document) {
            return checked;
        }
        let named = documents.check_named(document, now);
        if let (Ok(_), Err(refusal @ Refusal::Equivocation(_))) = (&named, checked) {
            self.keep_proof(turn, &refusal);
        }
        named
    }

    /// Whether the log or a certified decision speaks of a document that is not held: it is history then, and counts
    /// although newer ones came before it.
    fn is_spoken_of(&self, document: &SignedDocument) -> bool {
        let awaited = self.coordinator.as_ref().and_then(Coordinator::awaits) == Some(document.digest());
        awaited
            || ChannelRefDocument::parse(document.bytes()).is_ok_and(|parsed| {
                let id = parsed.rollout_id();
                self.ledger.rollouts().contains_key(&id) && self.ledger.plan(&id).is_none()
            })
    }

    fn keep_proof(&mut self, turn: &mut Turn, refusal: &Refusal) {
        if let Some(proof) = self.ledger.keep_equivocation(refusal) {
            turn.changed = true;
            turn.tell(Note::Alarm { message: proof });
        }
    }

    /// A newer fleet document says who belongs to the fleet, and who coordinates.
    fn follow_fleet(&mut self, turn: &mut Turn) {
        turn.outputs.push(Output::Enrol(self.ledger.roster().clone()));
        self.presence_wanted = true;
        self.begin_coordinating(turn.now);
    }

    /// Begins to coordinate once a fleet document names this host.
    pub(super) fn begin_coordinating(&mut self, now: Now) {
        let Some(fleet) = self.ledger.documents().fleet() else { return };
        // Who is not named any more goes on until the log has let it go: it may hold what the others need.
        let named = fleet.electorate().members.contains_key(&self.signer.public());
        let has_log = self.stored_log.as_ref().is_some_and(|stored| stored.durable.hard_state.store != 0);
        if self.coordinator.is_some() || !(named || has_log) {
            return;
        }
        let fleet = fleet.document.clone();
        let Some(epoch) = self.ledger.epoch() else { return };
        let stored = self.stored_log.take().unwrap_or_default();
        let seed = self.random.next();
        let of = WhichLog { epoch, base: self.ledger.log_begins_behind() };
        let (me, planted) = (self.signer.public(), self.ledger.planted());
        self.coordinator = Some(Coordinator::new(me, of, &fleet, stored, seed, now.mono, planted));
        self.settle_in(now);
    }

    fn envelope(
        &mut self,
        turn: &mut Turn,
        envelope: &Verified<Received<Envelope>>,
        message: Option<MessageRef>,
    ) {
        let host = envelope.content.host.clone();
        let current = self.ledger.roster().key_of(&host) == Some(&envelope.signer);
        let incarnation = envelope.content.incarnation;
        let result = if !current {
            Err(FeedError::Forked)
        } else if begins_after(incarnation, turn.now.utc) {
            Err(FeedError::FromTheFuture { incarnation })
        } else if host == self.settings.host {
            self.own_envelope(turn, envelope)
        } else {
            self.within_quota(turn, envelope).and_then(|()| {
                let taken = self.ledger.envelope(envelope);
                if taken.is_ok() {
                    self.quotas.count(&host);
                }
                taken
            })
        };
        let verdict = match &result {
            Ok(()) => {
                self.presences.heard_envelope(turn.now, &host, envelope.content.at);
                self.mark_feed(turn, &host);
                turn.changed = true;
                Verdict::Accept
            }
            Err(FeedError::Gap { .. }) => {
                turn.outputs.push(Output::Fetch { from: self.ledger.roster().key_of(&host).copied() });
                Verdict::Accept
            }
            Err(FeedError::Duplicate { .. }) => Verdict::Accept,
            Err(FeedError::Forked | FeedError::FromTheFuture { .. } | FeedError::Throttled { .. }) => {
                Verdict::Ignore
            }
            Err(FeedError::Fork { .. }) => {
                turn.changed = true;
                self.presence_wanted = true;
                Verdict::Accept
            }
        };
        if let Some(message) = message {
            turn.outputs.push(Output::Verdict { message, verdict });
        }
    }

    fn notice(&mut self, turn: &mut Turn, notice: &Verified<Received<Notice>>, message: Option<MessageRef>) {
        let content = &notice.content;
        let current = self.ledger.roster().key_of(&content.host) == Some(&notice.signer);
        let verdict = match &content.body {
            // The key was changed since the notice was verified.
            _ if !current => Verdict::Ignore,
            // What this host said itself comes back by sync.
            NoticeBody::Presence(_) if content.host == self.settings.host => Verdict::Ignore,
            NoticeBody::Presence(presence) => {
                let heard = self.presences.hear(turn.now, content, presence);
                if presence.asks_for_head {
                    self.mark_feed(turn, &content.host);
                }
                if heard == Heard::Old {
                    // Whose disk was put back speaks as of then, and has to be answered all the same.
                    if presence.asks_for_head { Verdict::Accept } else { Verdict::Ignore }
                } else {
                    self.notices_held.insert(content.host.clone(), notice.bytes.clone());
                    // A later time alone says something of whoever has a dispatch to answer: that it is too late for it.
                    let dispatched = self.ledger.slots().of(&content.host).next().is_some();
                    turn.changed |= heard == Heard::News || dispatched;
                    if self.ledger.lacks_up_to(&content.host, content.incarnation, presence.head_seq) {
                        turn.outputs.push(Output::Fetch { from: Some(notice.signer) });
                    }
                    if presence.outbox > 0 {
                        self.mark_feed(turn, &content.host);
                    }
                    Verdict::Accept
                }
            }
            NoticeBody::Marks { feeds, documents } => {
                self.take_marks(turn, &content.host, feeds, documents);
                Verdict::Accept
            }
            NoticeBody::Fork(proof) => {
                let news = self.ledger.fork(proof);
                turn.changed |= news;
                self.presence_wanted |= news;
                if news { Verdict::Accept } else { Verdict::Ignore }
            }
            NoticeBody::Objection { epoch, decision, .. } => {
                if self.coordinator.as_ref().is_some_and(|it| it.epoch == *epoch) {
                    self.objected(turn, *decision, notice.signer);
                }
                Verdict::Ignore
            }
        };
        if let Some(message) = message {
            turn.outputs.push(Output::Verdict { message, verdict });
        }
    }

    /// Takes in a certified decision.
    fn take_decision(&mut self, turn: &mut Turn, certified: &Certified, message: Option<MessageRef>) {
        let id: DecisionId = certified.decision.id();
        let counts = verify::recount(self.ledger.roster(), certified).is_ok();
        if counts && self.ledger.decision(&certified.certificate, &certified.decision) {
            turn.changed = true;
            self.forget_certified();
        }
        let known = self.ledger.certified().get(&id) == Some(&certified.certificate.digest());
        if let Some(message) = message {
            if known {
                self.was_published(id);
            }
            let verdict = if known { Verdict::Accept } else { Verdict::Ignore };
            turn.outputs.push(Output::Verdict { message, verdict });
        }
    }

    /// Keeps an alarm to be shown; false if it is known already, so that nobody is told twice.
    fn note_alarm(&mut self, message: &str) -> bool {
        if self.alarms.iter().any(|known| known == message) {
            return false;
        }
        if self.alarms.len() == ALARMS_MAX {
            self.alarms.remove(0);
        }
        self.alarms.push(message.to_owned());
        true
    }
}

/// Whether an incarnation, the milliseconds at which it began, lies in the future: one far ahead would shut out every
/// later one.
fn begins_after(incarnation: u64, now: DateTime<Utc>) -> bool {
    let latest = now.checked_add_signed(INCARNATION_AHEAD_MAX).unwrap_or(now).timestamp_millis();
    incarnation > u64::try_from(latest).unwrap_or_default()
}
