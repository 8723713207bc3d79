//! Learning: a document, an envelope or a certified decision is written down, and the views follow.

use super::views::Subject;
use super::{FeedError, Happening, Ledger, Quarantine, Reference, Table, key};
use crate::coordination;
use crate::document::{Accepted, ChannelRefDocument, Documents, Held, Plan, Refusal, Verb, plan};
use crate::id::{FleetName, HostId, RolloutId};
use crate::planted::Bug;
use crate::verify::Roster;
use crate::wire::{
    Decision, DecisionBody, DocumentKind, Envelope, FeedBody, ForkProof, HostEventKind, Received, codec,
};
use crate::{rollout, verify};
use muster_signing::{Counted, Digest, Verified};
use std::sync::Arc;

impl Ledger {
    /// Takes in a document that [`Documents::check`] let through.
    pub fn document(&mut self, accepted: Accepted) {
        let (kind, channel, serial, hash) = accepted.identity();
        let row = key::document(kind, channel.as_ref(), serial, &hash);
        self.batch.put(Table::Documents, row.clone(), accepted.to_wire());
        self.arrive(Table::Documents, row);
        self.documents.insert(accepted);
        match kind {
            DocumentKind::ChannelRef => {
                self.note_reused_name(&hash);
                self.resolve_plan(&hash);
            }
            DocumentKind::Fleet => {
                let before = std::mem::replace(
                    &mut self.roster,
                    Arc::new(Roster::of(self.fleet.clone(), &self.documents)),
                );
                for (host, feed) in &mut self.feeds {
                    if self.roster.key_of(host).is_some_and(|key| before.key_of(host) != Some(key)) {
                        feed.begin_anew();
                        self.forks.remove(host);
                    }
                }
                self.epoch = epoch_of(&self.fleet, &self.documents);
                self.follow_recovery();
                self.resolve_budgets();
                self.resolve_lives();
            }
            DocumentKind::Command => {
                self.resolve_lives();
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
                let proof = ForkProof { first: feed.newest().to_vec(), second: envelope.bytes.clone() };
                self.keep_fork(&host, proof, &error);
            }
            return Err(error);
        }
        feed.append(envelope);
        let row = key::feed(&host, content.incarnation, content.seq);
        if !self.planted().has(Bug::FeedRowForgotten) {
            self.batch.put(Table::Feeds, row.clone(), envelope.bytes.clone());
        }
        let position = self.arrive(Table::Feeds, row);
        if host == self.me {
            self.answered(&content.body);
        }
        self.touch(Subject::FeedHead(host.clone(), content.incarnation), position);
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
        self.await_no_more(id);
        let row = key::decision(decision.fleet_serial, id);
        self.batch.put(Table::Decisions, row.clone(), certificate.bytes().to_vec());
        let position = self.arrive(Table::Decisions, row);
        match &decision.body {
            // Of what was given up nothing more is to be known.
            DecisionBody::Dispatch { rollout_id, .. }
            | DecisionBody::RolloutTransition { rollout_id, .. }
                if self.retired.contains(rollout_id) => {}
            DecisionBody::Dispatch { host, rollout_id, .. } => {
                let feed = self.feeds.get(host);
                if *host == self.me && feed.is_none_or(|it| it.answer(id.log_index, rollout_id).is_none()) {
                    self.owed.insert(id, decision.body.clone());
                }
                if !self.is_behind(host, rollout_id, id.log_index) {
                    self.slots.take(id, &decision.body);
                }
                self.open_record(id.log_index, &decision.body);
                if !self.follows_log
                    && let Some(record) = self.rollouts.get_mut(rollout_id)
                {
                    record.dispatched(host, &decision.body, id.log_index);
                    self.touch(Subject::Rollout(rollout_id.clone()), position);
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
                self.touch(Subject::Quarantine(channel.clone(), closure.clone()), position);
            }
            DecisionBody::RolloutTransition { rollout_id, to, wave, at, .. } => {
                if !self.follows_log {
                    let from = self.rollouts.get(rollout_id).map(|record| record.state);
                    rollout::Record::observe(&mut self.rollouts, rollout_id, *to, *wave, *at, id.log_index);
                    self.note_newest(rollout_id);
                    self.touch(Subject::Rollout(rollout_id.clone()), position);
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
            DecisionBody::Withdrawn { decision } => self.slots.withdraw(*decision),
            DecisionBody::LogSnapshot { digest } => self.certify_snapshot(id.log_index, *digest),
        }
        true
    }

    /// This host answered a dispatch: it owes no more answer to it.
    fn answered(&mut self, body: &FeedBody) {
        let FeedBody::Rollout(event) = body else { return };
        let (HostEventKind::DispatchAck { log_index, .. }
        | HostEventKind::DispatchRejected { log_index, .. }) = &event.kind
        else {
            return;
        };
        self.owed.retain(|id, owed| {
            let of_it =
                matches!(owed, DecisionBody::Dispatch { rollout_id, .. } if *rollout_id == event.rollout_id);
            id.log_index != *log_index || !of_it
        });
    }

    /// Lifts what a command names: quarantines by decision id, and this node's own suspicion.
    pub(super) fn lift_by(&mut self, command: Digest) {
        let Some(command) = self.documents.command(&command).cloned() else { return };
        match &command.verb {
            Verb::ClearClosure { channel, closure, quarantines } => {
                self.lifted.extend(quarantines.iter().map(|id| (channel.clone(), *id)));
                self.suspects.remove(&(channel.clone(), closure.clone()));
                self.touch(Subject::Quarantine(channel.clone(), closure.clone()), self.last_position());
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
        } else if let Ok(proof) = codec::decode::<ForkProof>("proof of a fork", bytes) {
            let _ = self.fork(&proof);
        } else if let Ok(envelope) = verify::envelope(&self.roster, bytes)
            && let Some(feed) = self.feeds.get_mut(&envelope.content.host)
            && feed.contradicts(&envelope.content)
        {
            feed.mark_forked();
        }
    }

    pub(super) fn resolve_budgets(&mut self) {
        self.budgets = self.counting_fleet().map(|fleet| plan::budgets(fleet)).unwrap_or_default();
    }

    /// The plan of a ref, or of its refresh; events that waited for it are mirrored now.
    pub(super) fn resolve_plan(&mut self, hash: &Digest) {
        let Some(plan) = self.documents.plan_by_ref(hash) else { return };
        let id = plan.rollout_id.clone();
        let newest =
            self.documents.ref_of_rollout(&id).and_then(|held| self.documents.plan_by_ref(&held.hash));
        let Some(newest) = newest else { return };
        // Once the log speaks of the name, what it adopted says what the name means: on every coordinator alike.
        let adopted = self.adopted.refs.get(&plan.channel).and_then(|hash| self.documents.plan_by_ref(hash));
        let spoken_of = self.rollouts.contains_key(&id) || adopted.is_some_and(|it| it.rollout_id == id);
        let keeps = |known: &Plan| {
            self.follows_log
                && spoken_of
                && !self.documents.are_one_release(&known.ref_hash, &newest.ref_hash)
        };
        if !self.plans.get(&id).is_some_and(|known| keeps(known)) {
            self.plans.insert(id, newest);
        }
        let waiting: Vec<HostId> =
            self.feeds.iter().filter(|(_, feed)| feed.backlog() > 0).map(|(host, _)| host.clone()).collect();
        for host in waiting {
            self.advance(&host);
        }
    }

    /// People should hear of two refs with one name: whoever meant the second one waits for nothing.
    fn note_reused_name(&mut self, hash: &Digest) {
        let Some(held) = self.documents.ref_by_hash(hash) else { return };
        let id = held.rollout_id();
        let differs =
            |other: &Held<ChannelRefDocument>| other.rollout_id() == id && !other.is_refresh_of(held);
        let differs = self.documents.refs(&held.channel).any(|other| differs(other));
        let first = self.documents.ref_of_rollout(&id).map(|named| named.serial);
        if let Some(serial) = first.filter(|_| differs) {
            self.alarm(format!(
                "operators gave two refs the name {id}; the one with serial {serial} was first and counts: release the \
                 other one under a new name"
            ));
        }
    }

    /// The newest rollout of a channel is that of its newest ref.
    pub(super) fn note_newest(&mut self, rollout: &RolloutId) {
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
    pub(super) fn arrive(&mut self, table: Table, row: Vec<u8>) -> u64 {
        let position = self.position;
        self.position += 1;
        let reference = Reference { table, key: row };
        if self.planted().has(Bug::ArrivalForgotten) && table == Table::Decisions {
            return position;
        }
        self.batch.put(Table::Arrivals, key::number(position), codec::encode(&reference));
        position
    }

    pub(super) fn last_position(&self) -> u64 {
        self.position.saturating_sub(1)
    }

    pub(super) fn alarm(&mut self, message: String) {
        self.happenings.push(Happening::Alarm { message });
    }
}

/// The epoch that the documents tell; none before the first fleet document.
pub fn epoch_of(fleet: &FleetName, documents: &Documents) -> Option<Digest> {
    let newest = documents.fleet()?;
    let recovery = documents.last_recovery().map_or(0, |fleet| fleet.serial);
    Some(coordination::epoch(fleet, newest, recovery))
}
